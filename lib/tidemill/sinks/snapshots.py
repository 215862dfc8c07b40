"""The files that hold a fold's states at interval ends, as the sink's ledger names them. No Spark.

What changed in an interval lies under the name that the ledger gives. The oldest may have been drawn together: all states
at one end, in a file under the digest that the ledger gives for that end. One of another digest counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.errors import StateError
from tidemill.intervals import Interval, parse_label
from tidemill.ledger import chain
from tidemill.ledger.carried import names_in
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.table import LogTable

BASE = "base-"
"""How the names begin under which all states at one end are kept; their digest follows, and the code that made them."""


def files_of(pipeline: Pipeline, coverage: Coverage, first: Interval) -> tuple[LogTable, list[DataFile]]:
    """The files from which the states at the beginning of an interval can be read: of each key, the newest counts.

    Raises :class:`StateError` when they are not kept any more, or gone.
    """
    made = chain.standing(coverage, pipeline.grain, first).made
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    live = tuple(table.live_files().values()) if table is not None else ()
    base = base_of(pipeline, coverage, live, first)
    since = base[0].label if base else ""
    wanted = {label: name for label, name in made.items() if label > since}
    files = [file for file in live if name_of(file) in names_in(wanted.get(file.label))]
    there = {(file.label, name_of(file)) for file in files}
    gone = sorted(
        label for label, name in wanted.items() if not all((label, one) in there for one in names_in(name))
    )
    if gone or table is None:
        raise StateError(
            f"{pipeline.name}: the states at {first.start:%Y-%m-%dT%H:%M} are not kept any more: {pipeline.states_path} does "
            f"not hold what changed in {gone[0]}",
            next_step=_instead(pipeline, coverage, live),
            intervals=gone,
        )
    return table, [*base, *files]


def _instead(pipeline: Pipeline, coverage: Coverage, live: Iterable[DataFile]) -> str:
    ends = sorted(file.label for file in live if file.path.startswith(BASE))
    earliest = min(coverage.intervals)
    anew = f"--from {earliest} computes all of it from nothing"
    if not ends:
        return anew
    kept = parse_label(pipeline.grain, ends[-1]).end
    return f"they are kept from {kept:%Y-%m-%dT%H:%M} on (keep_states); {anew}"


def base_of(
    pipeline: Pipeline, coverage: Coverage, live: Iterable[DataFile], first: Interval
) -> tuple[DataFile, ...]:
    """The files of all states at the last end before ``first`` at which they were drawn together, and still hold."""
    bases = [file for file in live if file.path.startswith(BASE) and file.label < first.label]
    ends = chain.ends(coverage, pipeline.grain, [parse_label(pipeline.grain, file.label) for file in bases])
    # Other code may keep other fields, in which a digest that is the same says nothing.
    valid = [
        file
        for file in bases
        if name_of(file).split("-")[1:3] == [ends[file.label], made_by(coverage, file.label)]
    ]
    newest = max(valid, key=lambda file: (file.label, file.path), default=None)
    return () if newest is None else tuple(f for f in valid if name_of(f) == name_of(newest))


def made_by(coverage: Coverage, label: str) -> str:
    """The code that last computed an interval; a word where none had anything to do there."""
    known = coverage.intervals.get(label)
    writers = known.writers if known is not None else {}
    return max(writers, key=lambda each: writers[each], default="none")


def name_of(file: DataFile) -> str:
    """Under which name a file of states is kept."""
    return file.path.partition("/")[0]
