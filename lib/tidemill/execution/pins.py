"""Pins: the table version that a backfill replaces, and how far its inputs had been read by then."""

from __future__ import annotations

from typing import Any

from tidemill.config import Project
from tidemill.errors import PlanError
from tidemill.execution.archive import archive_pin, described
from tidemill.ledger import begins, inputs, log, streams
from tidemill.ledger.coverage import Coverage
from tidemill.model import DeltaSource, FilesSource, KafkaSource, Pipeline, RecordSource
from tidemill.planning.plan import InputPin, Pin


def pin_now(project: Project, pipeline: Pipeline, coverage: Coverage) -> Pin:
    """The pin of a backfill that begins now.

    With a live stream: the table as it is, and the inputs up to its last published batch. Without one: the
    inputs' ends now. Raises :class:`PlanError` when the live stream stands inside a version of an upstream
    table, which cannot be read again (a later batch ends on one), and for a broker's
    records that no live stream has read; :class:`SourceError` when an archive does not hold what it should.
    """
    live = coverage.live
    if live and coverage.source_end is None:
        raise PlanError(f"{pipeline.name}: no live batch has been published yet", next_step="run it first")
    pins: dict[str, InputPin] = {}
    ends: dict[str, Any] = {}
    checkpoint = f"{pipeline.table.state_path}/checkpoint"
    for name, each in pipeline.inputs.items():
        if each.static:
            continue
        end = (coverage.source_end or {}).get(name) if live else None
        if isinstance(each.source, FilesSource):
            pins[name], ends[name] = _files(each.source, checkpoint, end, live=live)
        elif isinstance(each.source, RecordSource):
            pins[name], ends[name] = _records(project, pipeline, name, each.source, end), end
        else:
            pins[name], ends[name] = _delta(each.source, end, name, live=live)
    return Pin(coverage.version, live, ends, pins, coverage.batch if live else None)


def _files(source: FilesSource, checkpoint: str, end: Any, *, live: bool) -> tuple[InputPin, Any]:
    if not live:
        found = inputs.list_files(source)
        paths = [file.path for file in found]
        what = f"{len(paths)} files of {source.path}"
        return InputPin(what, paths, sum(file.size for file in found)), inputs.describe_listing(paths)
    if end is None or end["offset"] is None:
        return InputPin(f"no file of {source.path} yet", [], 0), end
    paths = inputs.files_read(checkpoint, end["place"], -1, int(end["offset"]["logOffset"]))
    return InputPin(f"the {len(paths)} files that the stream has read", paths, inputs.total_size(paths)), end


def begin_of(pipeline: Pipeline, name: str, place: int) -> Any:
    """Where the live stream began to read a broker's records, as its offsets say it."""
    if isinstance(pipeline.inputs[name].source, KafkaSource):
        return inputs.first_offsets(f"{pipeline.table.state_path}/checkpoint", place)
    return {"offset": streams.begun(pipeline.table.state_path, name).offset}


def _records(project: Project, pipeline: Pipeline, name: str, source: RecordSource, end: Any) -> InputPin:
    if end is None:
        # Without a stream nothing would tell, without asking the broker, that there is more since.
        raise PlanError(
            f"{pipeline.name}: no live stream has read {source.name}, so its history has no end",
            next_step=f"tidemill run {pipeline.name} --available-now reads all there is; then backfill",
        )
    if end["offset"] is None:
        return InputPin(f"no record of {source.name} yet", {"start": {}, "end": {}})
    # An event store's stream may have begun anew, and has read on where another had ended.
    known = begins.read(pipeline.table.state_path).get(name) if pipeline.recorded else None
    begin = known or begin_of(pipeline, name, end["place"])
    what = f"{source.name} up to {inputs.describe_offsets(end['offset'])}"
    read = {"start": begin, "end": end["offset"]}
    if isinstance(source, KafkaSource) and source.archive is not None:
        archive = archive_pin(project, pipeline, name, source, end["offset"])
        if archive is not None:
            what, read = (
                f"{what}, {described(archive, begin, source.archive.within)}",
                read | {"archive": archive},
            )
    return InputPin(what, read)


def _delta(source: DeltaSource, end: Any, name: str, *, live: bool) -> tuple[InputPin, Any]:
    if not live:
        version = inputs.delta_version(source)
        return InputPin(f"{source.path} at version {version}", version), {"version": version}
    offset = end["offset"] if end else None
    pinned = inputs.pinned_version(offset)
    if pinned is None:
        raise PlanError(
            f"the live stream stands inside a version of {source.path}, which cannot be read again so far",
            next_step="let the stream run on until it has caught up, then plan again",
            input=name,
        )
    pinned = log.past_changes(source.path, pinned)
    return InputPin(f"{source.path} at version {pinned}", pinned), {**end, "version": pinned}
