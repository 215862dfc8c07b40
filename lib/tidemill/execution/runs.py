"""Run folders: what a backfill intended, staged and replaced, kept until upkeep removes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tidemill.errors import PlanError
from tidemill.ledger import verdicts
from tidemill.ledger.carried import Carried, Seed, carried_from_json
from tidemill.ledger.facts import IntervalResult
from tidemill.ledger.verdicts import Verdict
from tidemill.ledger.whole import replace_text
from tidemill.sinks.files import DataFile
from tidemill.storage import Place, place


@dataclass(frozen=True, slots=True)
class Manifest:
    """One chunk, staged: files to add and to remove, and what the comparison found."""

    run: str
    chunk: int
    fingerprint: str
    pin: int
    source_end: Mapping[str, Any]
    provisional: bool
    labels: tuple[str, ...]
    staged: tuple[DataFile, ...]
    replaced: tuple[DataFile, ...]
    results: Mapping[str, IntervalResult]
    samples: tuple[Mapping[str, Any], ...] = ()
    refused: str | None = None
    attempt: str = ""
    """The folder below the table's root in which the chunk was staged."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Rows by interval that have the same key on both sides and differ otherwise."""
    quarantined: int | None = None
    """Bad rows in all the input that was read, where no live stream counts them."""
    verdicts: tuple[Verdict, ...] = ()
    """What the pipeline's suites found in what was staged."""
    aside: Aside | None = None
    """What the quarantine is to hold for these intervals; None where it stays as it is."""
    nulls: Mapping[str, Mapping[str, tuple[int | None, int | None]]] = field(default_factory=dict)
    """By interval and column, how many rows are null as it stands and as staged; None where no statistics tell."""
    left_out: tuple[int, int] = (0, 0)
    """Rows of the intervals that rules of the table set aside, and that they dropped."""
    snapshots: Snapshots | None = None
    """The states at the intervals' ends, of a fold that carries them."""
    seed: Seed | None = None
    """Of a restart, what the stream begins anew with."""
    beside: Mapping[str, int] = field(default_factory=dict)
    """What was known before it was staged of persons taken out of tables that are read whole."""
    opened: bool = False
    """Whether its rows may hold opened fields of persons."""

    @property
    def changes(self) -> bool:
        """Whether rows of the table become others."""
        return bool(self.staged or self.replaced)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """States of a chunk: their ``name`` and ``files``, staged in their own table; what each interval began and ended with.

    ``replaced``: the names of those in whose place they come, by interval. ``agrees``: the interval from whose end on they
    are the same as those; None where they differ at the end of the last.
    """

    name: str
    files: tuple[DataFile, ...]
    states: Mapping[str, Carried]
    replaced: Mapping[str, str]
    agrees: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        files = [file.as_json() for file in self.files]
        states = {label: asdict(each) for label, each in self.states.items()}
        plain = {"name": self.name, "agrees": self.agrees, "replaced": dict(self.replaced)}
        return {**plain, "files": files, "states": states}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Snapshots:
        """From :meth:`as_json`'s values."""
        files = tuple(DataFile(**file) for file in body["files"])
        return cls(body["name"], files, carried_from_json(body["states"]), body["replaced"], body["agrees"])


@dataclass(frozen=True, slots=True)
class Aside:
    """Rows of a chunk's intervals that rules set aside, staged in the run's folder until the chunk is published.

    ``rows``: how many they are; ``replaced``: how many stand in the quarantine in their place. ``until``: the live batch
    up to which those are replaced, None where no stream runs. ``before``: the quarantine's version before they were;
    -1 where there was none, None until then. ``attempt``: names their folder, so that a kept manifest never meets the rows
    of an attempt that came later and died.
    """

    rows: int
    replaced: int
    until: int | None
    before: int | None = None
    attempt: str = ""

    @property
    def changes(self) -> bool:
        """Whether the quarantine may hold other rows of these intervals when it is in."""
        return bool(self.rows or self.replaced)


class RunFolder:
    """The folder of one run below a pipeline's state folder."""

    def __init__(self, state: str, run: str) -> None:
        self.run = run
        self.path = place(state) / "runs" / run

    @property
    def begun(self) -> bool:
        """Whether what was intended is kept already."""
        return (self.path / "plan.json").is_file()

    def save_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what was intended."""
        _write(self.path / "plan.json", plan)

    def load_plan(self) -> dict[str, Any]:
        """What was intended. Raises :class:`PlanError` when there is no such run."""
        try:
            body: dict[str, Any] = json.loads((self.path / "plan.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(p.name for p in self.path.parent.glob("*"))[-5:]) or "none"
            raise PlanError(f"there is no run {self.run!r}", next_step=f"newest runs: {known}") from None
        return body

    def save(self, manifest: Manifest) -> None:
        """Keep what a chunk staged."""
        body = {name: getattr(manifest, name) for name in Manifest.__slots__}
        body["staged"] = [file.as_json() for file in manifest.staged]
        body["replaced"] = [file.as_json() for file in manifest.replaced]
        body["results"] = {
            k: {n: getattr(v, n) for n in IntervalResult.__slots__} for k, v in manifest.results.items()
        }
        body["verdicts"] = verdicts.as_json(manifest.verdicts)
        body["aside"] = asdict(manifest.aside) if manifest.aside else None
        body["snapshots"] = manifest.snapshots.as_json() if manifest.snapshots else None
        body["seed"] = asdict(manifest.seed) if manifest.seed else None
        _write(self.path / f"chunk-{manifest.chunk:04d}.json", body)

    def load(self, chunk: int) -> Manifest | None:
        """What a chunk staged; None when it has not."""
        try:
            body = json.loads((self.path / f"chunk-{chunk:04d}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        body["staged"] = tuple(DataFile(**file) for file in body["staged"])
        body["replaced"] = tuple(DataFile(**file) for file in body["replaced"])
        body["results"] = {k: IntervalResult(**v) for k, v in body["results"].items()}
        body["labels"] = tuple(body["labels"])
        body["samples"] = tuple(body["samples"])
        body["verdicts"] = verdicts.from_json(body.get("verdicts", ()))
        body["aside"] = Aside(**body["aside"]) if body.get("aside") else None
        body["left_out"] = tuple(body.get("left_out", (0, 0)))
        body["snapshots"] = Snapshots.from_json(body["snapshots"]) if body.get("snapshots") else None
        body["seed"] = Seed(**body["seed"]) if body.get("seed") else None
        body["nulls"] = {
            label: {column: (stood, staged) for column, (stood, staged) in each.items()}
            for label, each in body.get("nulls", {}).items()
        }
        return Manifest(**body)

    def aside(self, chunk: int, attempt: str) -> Place:
        """Where the rows that a chunk sets aside are staged by an attempt at it; earlier releases named none."""
        return self.path / "-".join(filter(None, ("aside", f"{chunk:04d}", attempt)))

    def manifests(self) -> Iterator[Manifest]:
        """Every chunk that was staged, in order."""
        for chunk in self._numbers("chunk-*.json"):
            manifest = self.load(chunk)
            if manifest is not None:
                yield manifest

    def with_aside(self) -> list[int]:
        """The chunks of which rows that rules set aside were staged, in order."""
        return self._numbers("aside-*")

    def _numbers(self, pattern: str) -> list[int]:
        return sorted({int(path.stem.split("-")[1]) for path in self.path.glob(pattern)})


def list_runs(state: str) -> list[str]:
    """The runs of a pipeline, oldest first (names begin with their time)."""
    folder = place(state) / "runs"
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _write(path: Place, body: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(body, indent=1, default=str))
