"""A pipeline as it stands: its ledger, judged by today's code and by what happened upstream. No JVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain as joined_up
from typing import Any

from tidemill.config import Project
from tidemill.intervals import Grain
from tidemill.ledger import chain, changes, index, inputs, log, sent
from tidemill.ledger.beside import outdated
from tidemill.ledger.coverage import ERASED, Coverage, Shape
from tidemill.ledger.judge import Judged, State, judge
from tidemill.model import DeltaSource, FilesSource, Pipeline
from tidemill.planning.selection import Request, Selection, select
from tidemill.planning.upstream import Upstream, changed_upstream, made_of
from tidemill.storage import place


@dataclass(frozen=True, slots=True)
class View:
    """One pipeline now. ``judged``: every interval the ledger or an upstream change knows, in time order.

    ``astray``: of a pipeline that carries states without bound, why its stream's own are not those of the table.
    """

    pipeline: Pipeline
    fingerprint: str
    coverage: Coverage
    judged: tuple[Judged, ...]
    astray: str | None = None

    @property
    def since(self) -> datetime | None:
        """Where the first interval begins that the sink's retention has left; None where it took none."""
        kept = self.coverage.kept
        return None if kept is None else datetime.fromtimestamp(kept.since, UTC)

    def select(self, request: Request, now: datetime) -> Selection:
        """The intervals that a request means. Raises :class:`PlanError` as :func:`tidemill.planning.selection.select`."""
        return select(
            self.judged,
            request,
            grain=self.pipeline.grain,
            live=self.coverage.live,
            begin=self.pipeline.start,
            now=now,
            since=self.since,
        )

    def count(self, state: State) -> int:
        """How many intervals are in a state."""
        return sum(each.state is state for each in self.judged)


def shape_of(pipeline: Pipeline) -> Shape:
    """What the ledger's fold needs to know of a pipeline."""
    return Shape(pipeline.grain, pipeline.lookback, pipeline.lookahead, pipeline.recorded)


def look(project: Project, name: str) -> View:
    """Read what there is to know of a pipeline; writes nothing."""
    pipeline = project.pipeline(name)
    fingerprint = project.fingerprint(name)
    shape = shape_of(pipeline)
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape)
    reasons = happened_upstream(project, pipeline, coverage).reasons
    found = chain.follow(judge(coverage, shape, fingerprint, upstream=reasons), coverage, shape)
    return View(pipeline, fingerprint, coverage, found.judged, found.astray)


def happened_upstream(
    project: Project, pipeline: Pipeline, coverage: Coverage, below: frozenset[str] = frozenset()
) -> Upstream:
    """Intervals made dirty by what happened to the pipeline's inputs, with the reason. ``below``: who asks, of those that read it."""
    found = Upstream()
    if coverage.version < 0:
        return found
    for name, each in pipeline.inputs.items():
        if each.static:
            continue
        if isinstance(each.source, DeltaSource):
            found = found.joined(_delta_changes(project, pipeline, coverage, name, each.source))
        elif isinstance(each.source, FilesSource) and not coverage.live:
            found = found.joined(Upstream(_folder_changes(coverage, name, each.source)))
    return found.joined(_taken_beside(project, pipeline, coverage)).joined(
        _left_above(project, pipeline, coverage, below | {pipeline.name})
    )


def may_hold_opened(pipeline: Pipeline, coverage: Coverage) -> bool:
    """Whether a table may hold opened fields of persons: as it is configured, or because code of before has opened some."""
    return not pipeline.recorded and (pipeline.holds_opened or bool(coverage.opened))


def lost_above(project: Project, pipeline: Pipeline, coverage: Coverage) -> frozenset[str]:
    """The intervals made of rows that are gone since from tables whose fields the pipeline opens, or that hold opened ones."""
    holding, found = _opened_above(project, pipeline), set[str]()
    for name, each in pipeline.inputs.items():
        if each.static or not (name in holding or (each.personal is not None and each.personal.open)):
            continue
        if isinstance(each.source, DeltaSource):
            compared = _Compared.of(project, pipeline, coverage, name, each.source)
            if compared is not None:
                found |= compared.reached(compared.happened.gone, appends=False).keys()
        elif isinstance(each.source, FilesSource) and not coverage.live:
            found |= _folder_changes(coverage, name, each.source).keys()
    return frozenset(found & set(coverage.intervals))


def taken_beside(project: Project, pipeline: Pipeline) -> dict[str, int]:
    """Of the tables that the pipeline reads whole, and that may hold opened fields: the last version that took an erased
    person out, by input; of those where one has. Reads their ledgers.
    """
    found = dict[str, int]()
    for name, writer in opened_beside(project, pipeline).items():
        last = coverage_of(writer).erased
        found |= {name: last} if last >= 0 else {}
    return found


def opened_beside(project: Project, pipeline: Pipeline) -> dict[str, Pipeline]:
    """The pipelines that may hold opened fields and whose tables, or quarantines, this one reads whole, by input."""
    return {
        name: each for name, each in _opened_above(project, pipeline).items() if pipeline.inputs[name].static
    }


def _opened_above(project: Project, pipeline: Pipeline) -> dict[str, Pipeline]:
    """The pipelines that may hold opened fields and whose tables, or quarantines, this one reads, by input."""
    if not any(each.personal for each in project.pipelines.values()):
        return {}
    writers = {
        path: each
        for each in project.pipelines.values()
        for path in (each.table.path, each.quarantine_path)
        if not each.recorded
    }
    read = {name: each.delta.path for name, each in pipeline.inputs.items() if each.delta is not None}
    found = {name: writers[path] for name, path in read.items() if path in writers}
    return {
        name: each
        for name, each in found.items()
        if each.holds_opened or may_hold_opened(each, coverage_of(each))
    }


def _left_above(project: Project, pipeline: Pipeline, coverage: Coverage, below: frozenset[str]) -> Upstream:
    """Intervals made of what is to be computed again without an erased person, in tables above, and is not yet."""
    reasons = dict[str, str]()
    for name, writer in _opened_above(project, pipeline).items():
        if writer.name in below:
            continue
        above, each = coverage_of(writer), pipeline.inputs[name]
        happened = happened_upstream(project, writer, above, below)
        left = happened.erased | happened.left | marked_erased(above)
        made = (made_of(pipeline, coverage, label, writer.grain) for label in left)
        # Neither what is read whole nor a quarantine says where in it a row is.
        whole = each.static or each.source.mark != writer.table.path
        reached = set(coverage.intervals) if whole and left else set(joined_up.from_iterable(made))
        why = f"{writer.name} may hold an erased person still: backfill it first"
        reasons |= dict.fromkeys(reached & set(coverage.intervals), why)
    return Upstream(reasons, left=frozenset(reasons))


def marked_erased(coverage: Coverage) -> frozenset[str]:
    """The intervals that are to be computed again without an erased person."""
    return frozenset(
        label for label, each in coverage.intervals.items() if any(mark.why == ERASED for mark in each.marks)
    )


def coverage_of(pipeline: Pipeline) -> Coverage:
    """What the ledger of a pipeline says now."""
    return index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))


def _taken_beside(project: Project, pipeline: Pipeline, coverage: Coverage) -> Upstream:
    now = taken_beside(project, pipeline)
    reasons = {}
    for label, each in coverage.intervals.items() if now else ():
        for name in outdated(each.beside, now):
            reasons[label] = f"an erased person was taken out of {name} at version {now[name]}"
    return Upstream(reasons, frozenset(reasons))


@dataclass(frozen=True, slots=True)
class _Compared:
    """What has happened to a table that a pipeline reads as it grows, against what each of its intervals has read."""

    pipeline: Pipeline
    coverage: Coverage
    table: str
    grain: Grain
    pins: Mapping[str, int | None]
    floor: int
    happened: changes.Changes

    @classmethod
    def of(
        cls, project: Project, pipeline: Pipeline, coverage: Coverage, name: str, source: DeltaSource
    ) -> _Compared | None:
        """None where the table is not there."""
        if not log.exists(source.path):
            return None
        writer, grain = _upstream(project, pipeline, source)
        begin = _version(coverage.source_begin, name)
        pins = {
            label: _version(each.read, name) if each.read is not None else begin
            for label, each in coverage.intervals.items()
        }
        oldest = min((version for version in pins.values() if version is not None), default=-1)
        return cls(
            pipeline,
            coverage,
            writer.name if writer else source.path,
            grain,
            pins,
            max(oldest, -1 if begin is None else begin),
            changes.read(pipeline.table.state_path, source.path, grain),
        )

    def reached(self, what: Mapping[str, changes.Change], *, appends: bool) -> dict[str, str]:
        """The intervals that these changes have reached since they were computed, with the reason."""
        return changed_upstream(
            self.pipeline,
            self.coverage,
            replace(self.happened, replaced=what),
            table=self.table,
            grain=self.grain,
            pins=self.pins,
            floor=self.floor,
            appends=appends,
        )


def _delta_changes(
    project: Project, pipeline: Pipeline, coverage: Coverage, name: str, source: DeltaSource
) -> Upstream:
    compared = _Compared.of(project, pipeline, coverage, name, source)
    if compared is None:
        return Upstream()
    erased = compared.reached(compared.happened.erased, appends=False)
    replaced = compared.reached(compared.happened.replaced, appends=not coverage.live)
    return Upstream({**replaced, **erased}, frozenset(erased))


def _upstream(project: Project, pipeline: Pipeline, source: DeltaSource) -> tuple[Pipeline | None, Grain]:
    writer = project.writer_of(source.path)
    return writer, writer.grain if writer else pipeline.grain


def remember_upstream(project: Project, name: str) -> None:
    """Keep what the logs of a pipeline's upstream tables say, so that they may be cleaned up; and of its own which rows went."""
    pipeline = project.pipeline(name)
    paths = [each.delta for each in pipeline.inputs.values() if each.delta is not None]
    for source in paths:
        if log.exists(source.path):
            _, grain = _upstream(project, pipeline, source)
            changes.remember(pipeline.table.state_path, source.path, grain)
    if log.exists(pipeline.table.path) and may_hold_opened(pipeline, coverage_of(pipeline)):
        changes.remember(pipeline.table.state_path, pipeline.table.path, pipeline.grain)


def streams_below(project: Project, pipeline: Pipeline) -> dict[str, int]:
    """The version of this pipeline's table from which each stream that reads it goes on, by pipeline; its topic, too."""
    found = streams_of(project, pipeline.table.path)
    topic = pipeline.sink.kafka
    if topic is not None:
        done = sent.read(pipeline.table.state_path, pipeline.table.path, topic.topic)
        found |= {} if done is None else {f"topic {topic.topic}": done + 1}
    return found


def streams_of(project: Project, path: str) -> dict[str, int]:
    """The version of a table from which each stream that reads it goes on, by pipeline."""
    found: dict[str, int] = {}
    for name in _readers(project, path):
        below = project.pipeline(name)
        coverage = index.read(below.table.path, below.table.state_path, shape_of(below))
        committed = inputs.last_committed(f"{below.table.state_path}/checkpoint")
        for label, each in below.inputs.items():
            end = (coverage.source_end or {}).get(label)
            if coverage.live and end and each.delta is not None and each.delta.path == path:
                offset = committed.ends[end["place"]] if committed else None
                version = inputs.delta_version_of(offset) if offset else 0
                found[name] = min(version, found.get(name, version))
    return found


def _version(ends: Mapping[str, Any] | None, name: str) -> int | None:
    end = (ends or {}).get(name)
    if end is None:
        return None
    if "version" in end:
        return int(end["version"])
    offset = end.get("offset")
    return inputs.delta_version_of(offset) if offset else None


def _folder_changes(coverage: Coverage, name: str, source: FilesSource) -> dict[str, str]:
    if not place(source.path).is_dir():
        return {}
    now = inputs.describe_listing([file.path for file in inputs.list_files(source)])
    return {
        label: f"{source.path} has changed since its backfill"
        for label, each in coverage.intervals.items()
        if each.read is not None and each.read.get(name) != now
    }


def downstream(project: Project, pipeline: Pipeline) -> tuple[str, ...]:
    """The pipelines that read this one's table."""
    return _readers(project, pipeline.table.path)


def _readers(project: Project, path: str) -> tuple[str, ...]:
    return tuple(
        other.name
        for other in project.pipelines.values()
        if any(each.delta is not None and each.delta.path == path for each in other.inputs.values())
    )
