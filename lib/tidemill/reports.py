"""What verbs report: plain values that print as JSON, as text and, in a notebook, as HTML."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tidemill.config import Project
from tidemill.display import words
from tidemill.display.coverage import coverage_html
from tidemill.display.status import status_html, statuses_html
from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import inputs, lease, log
from tidemill.ledger.judge import SETTLED, State
from tidemill.model import DeltaSource, FilesSource, Pipeline, RecordSource
from tidemill.quality_report import Rules, rules_of
from tidemill.storage import place
from tidemill.view import View, downstream

if TYPE_CHECKING:
    from altair import Chart


@dataclass(frozen=True, slots=True)
class Row:
    """One interval, as a person reads it. ``forced``: why its last swap was published past the gate."""

    interval: str
    state: State
    rows: int
    why: str
    run: str | None
    forced: str | None = None

    @property
    def notes(self) -> str:
        """Why it is in its state, and why it was forced, in a few words."""
        return "; ".join(filter(None, (self.why, self.forced and f"forced past the gate: {self.forced}")))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "interval": self.interval,
            "state": self.state.value,
            "rows": self.rows,
            "why": self.why,
            "run": self.run,
            "forced": self.forced,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every known interval of a pipeline."""

    pipeline: str
    grain: Grain
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, view: View) -> Coverage:
        """The coverage of a view."""
        return cls(
            view.pipeline.name,
            view.pipeline.grain,
            tuple(
                Row(j.interval.label, j.state, j.detail.rows, j.why, j.detail.run, j.detail.forced)
                for j in view.judged
            ),
        )

    def in_state(self, *states: State) -> tuple[str, ...]:
        """The labels of the intervals in one of these states."""
        return tuple(row.interval for row in self.rows if row.state in states)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pipeline": self.pipeline,
            "intervals": [row.as_json() for row in self.rows],
        }

    def chart(self) -> Chart:
        """Rows by interval in the colours of their states: a chart of Altair's, to look at or to change."""
        from tidemill.display.charts import coverage_chart

        return coverage_chart(self)

    def _repr_html_(self) -> str:
        return coverage_html(self)


@dataclass(frozen=True, slots=True)
class Status:
    """One pipeline in a few lines."""

    pipeline: str
    table: str
    version: int
    states: dict[str, int]
    rows: int
    watermark: str | None
    last_batch: int | None
    last_batch_at: str | None
    input_rows: int
    quarantined: int
    unread: str | None
    running: str | None
    backfilling: str | None
    trigger: str
    fingerprint: str
    downstream: tuple[str, ...]
    not_clean: tuple[Row, ...]
    recent: tuple[dict[str, int], ...]
    rules: Rules
    kept: str | None = None
    """What an archive's retention has left."""
    astray: str | None = None
    """Why the stream's own states, of a fold without a horizon, are not those that the table ended with."""
    rejected: int = 0
    """Of an event store: the commands of which nothing came."""
    dropped: int = 0
    """Rows that rules left out of live batches and kept nowhere."""

    @classmethod
    def of(cls, project: Project, view: View, now: datetime) -> Status:
        """The status of a view; reads lease files and source listings besides."""
        coverage, pipeline = view.coverage, view.pipeline
        counts = Counter(each.state.value for each in view.judged)
        rows = Coverage.of(view).rows
        return cls(
            pipeline=pipeline.name,
            table=pipeline.table.path,
            version=coverage.version,
            states={state.value: counts[state.value] for state in State if counts[state.value]},
            rows=sum(row.rows for row in rows),
            watermark=_moment(coverage.watermark) if coverage.watermark else None,
            last_batch=coverage.batch if coverage.live else None,
            last_batch_at=_moment(coverage.live_at) if coverage.live_at else None,
            input_rows=coverage.input_rows,
            quarantined=_held(pipeline),
            rejected=_rejected(pipeline),
            dropped=coverage.dropped,
            unread=_unread(view),
            kept=_kept(view),
            astray=view.astray,
            running=_holder(pipeline, "live", now),
            backfilling=_holder(pipeline, "backfill", now),
            trigger=pipeline.trigger.label,
            fingerprint=view.fingerprint,
            downstream=downstream(project, pipeline),
            not_clean=tuple(row for row in rows if row.state not in SETTLED),
            recent=tuple(
                {"batch": b.batch, "at": b.at, "input_rows": b.input_rows, "rows": b.rows}
                for b in coverage.recent
            ),
            rules=rules_of(view),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        body = {name: getattr(self, name) for name in self.__slots__}
        body["not_clean"] = [row.as_json() for row in self.not_clean]
        body["rules"] = [asdict(rule) | {"met": rule.met} for rule in self.rules]
        return body

    def _repr_html_(self) -> str:
        return status_html(self)


class Statuses(tuple[Status, ...]):
    """Several pipelines, each with its status."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        # Of one pipeline there is room for everything.
        return (
            status_html(self[0]) if len(self) == 1 else statuses_html((each.pipeline, each) for each in self)
        )


def _held(pipeline: Pipeline) -> int:
    """How many rows the quarantine holds; loads deltalake only where there is one."""
    if not log.exists(pipeline.quarantine_path):
        return 0
    from tidemill.quarantined import held

    return held(pipeline)


def _rejected(pipeline: Pipeline) -> int:
    """How many rows the table of rejections holds, by its log."""
    if not (pipeline.recorded and log.exists(pipeline.rejections_path)):
        return 0
    from tidemill.aggregates import rejected

    return rejected(pipeline)


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _holder(pipeline: Pipeline, name: str, now: datetime) -> str | None:
    holder = lease.read(place(pipeline.table.state_path) / f"{name}.lease")
    if holder is None:
        return None
    gone = lease.gone(holder, now)
    return f"{holder.describe()}{' - gone, the lease is free to take' if gone else ''}"


def _kept(view: View) -> str | None:
    kept = view.coverage.kept
    if kept is None or view.since is None:
        return None
    return f"{view.since:%Y-%m-%dT%H:%M} and later; {kept.rows:,} rows from before have gone (retain)"


def _unread(view: View) -> str | None:
    """How much input the live stream has not read yet, in the source's own unit."""
    coverage, parts = view.coverage, []
    if not coverage.live:
        return None
    checkpoint = f"{view.pipeline.table.state_path}/checkpoint"
    for name, each in view.pipeline.inputs.items():
        end = (coverage.source_end or {}).get(name)
        if each.static or end is None or end.get("offset") is None:
            continue
        try:
            if isinstance(each.source, FilesSource):
                read = set(inputs.files_read(checkpoint, end["place"], -1, int(end["offset"]["logOffset"])))
                unread = sum(file.path not in read for file in inputs.list_files(each.source))
                parts.append(f"{words.count(unread, 'file')} of {name}")
            elif isinstance(each.source, RecordSource):
                # Only the broker knows how much more there is; it is not asked for a status.
                parts.append(f"{name} read up to {inputs.describe_offsets(end['offset'])}")
            elif isinstance(each.source, DeltaSource):
                behind = inputs.delta_version(each.source) - inputs.delta_version_of(end["offset"])
                parts.append(f"{words.count(behind, 'version')} of {name}")
        except StateError as error:
            parts.append(f"{name}: {error.message}")
    return ", ".join(parts) or None
