"""What the log says of a table, as values: interval by interval, and of its stream. Made by :mod:`.coverage`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tidemill.intervals import Grain, Interval
from tidemill.ledger.beside import AllBeside
from tidemill.ledger.carried import Carried, Lived, Seed
from tidemill.ledger.facts import Offsets
from tidemill.ledger.kept import Kept
from tidemill.ledger.seen import BatchSeen
from tidemill.ledger.trails import Trails

UNDONE = "a backfill was undone"
LATE = "late rows"
BY_ANOTHER = "written by "
OWED = "its history is not computed yet"
ERASED = "a person was erased"
REOPENED = "rows came after it was thought complete"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fold needs to know of the pipeline."""

    grain: Grain
    lookback: timedelta
    lookahead: timedelta
    recorded: bool = False
    """Rows are what was decided, once: neither newer code nor an earlier event makes them other ones."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Why an interval is dirty, and the version that made it so; for an undone backfill also its run."""

    why: str
    version: int
    run: str | None = None


@dataclass(frozen=True, slots=True)
class IntervalCoverage:
    """What the log says of one interval.

    ``hash`` is the content hash at ``version`` and None when rows came since. ``writers``: for each
    fingerprint that wrote rows now in the interval, the last version at which it did. ``marks``: why it
    is dirty. ``checked``: the version at which it was last swapped or found equal; with its run, its pin
    and how far each input was ``read`` then. ``provisional``: the runs whose rows stand in for what the
    live stream still owes, oldest first. ``forced``: why the last swap of its rows was published past the gate.
    ``lived``: the state that the stream ended it with, ``carried``: what its last swap began and ended with. ``beside``: what
    its rows were made beside; ``erased``: the last version that took an erased person out of it.
    """

    rows: int = 0
    hash: str | None = None
    version: int = -1
    live_version: int = -1
    writers: Mapping[str, int] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    checked: int | None = None
    pin: int | None = None
    run: str | None = None
    read: Offsets | None = None
    provisional: tuple[str, ...] = ()
    forced: str | None = None
    lived: Lived | None = None
    carried: Carried | None = None
    beside: AllBeside = ()
    erased: int = -1

    @property
    def touched_at(self) -> int:
        """The last version at which rows came to it, or to what it is made of; -1 for never."""
        return max(self.live_version, *self.writers.values(), -1)


@dataclass(frozen=True, slots=True)
class Stood:
    """What a stream's own states were when a restart was published, should its next batch have begun before it could hear of that.

    ``planted``: the seed that this batch has begun with then, "" for none. ``last``: the last interval at whose end states were given;
    ``lived``: those at the end of ``label``, from which the restart has them go on; ``code``, whose they were; ``astray``, as coverage has it.
    """

    planted: str = ""
    last: str = ""
    label: str = ""
    lived: Lived | None = None
    code: str | None = None
    astray: Mark | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Everything the log says of a table, up to and including ``version``.

    ``source_begin`` is how far the first live batch read, ``source_end`` how far the stream had read at
    ``live_version``; ``touched_from`` and ``touched_until`` the earliest and the latest event time it has
    seen (epoch seconds). ``trails``: how each expectation of the pipeline's suites has fared. ``broken``: where a live
    batch did not go on where the one before had ended. ``kept``: what the sink's retention has left. ``carries``: states
    go from interval to interval, see :mod:`.chain`; ``live_last`` is the last interval at whose end the stream gave some.
    ``seed``: what the stream was last to begin anew with; ``stood``: what its states were before each restart since its last batch.
    ``ahead``: of a stream that keeps state, the event times after its watermark that it has read, see :mod:`.edge`. ``astray``: that a stream which keeps
    state has passed over input, or read some twice, and has not begun anew since. ``timed``: by input, the column of event time by which
    the first batch has read it that says so. ``erased``: the last version that took an erased person out, or after which who has read the
    table whole may hold one; ``forgotten``: the last at which somebody was erased. ``opened``: the fingerprints of code whose rows may hold
    opened fields.
    """

    version: int = -1
    query: str | None = None
    batch: int = -1
    live_version: int = -1
    live_at: int | None = None
    live_fingerprint: str | None = None
    stateful: bool = False
    watermark: int | None = None
    touched_from: int | None = None
    touched_until: int | None = None
    source_begin: Offsets | None = None
    source_end: Offsets | None = None
    input_rows: int = 0
    quarantined: int = 0
    dropped: int = 0
    recent: tuple[BatchSeen, ...] = ()
    trails: Trails = ()
    broken: str | None = None
    kept: Kept | None = None
    carries: bool = False
    live_last: str = ""
    seed: Seed | None = None
    stood: tuple[Stood, ...] = ()
    ahead: tuple[tuple[int, int], ...] = ()
    astray: Mark | None = None
    timed: Mapping[str, str] = field(default_factory=dict)
    erased: int = -1
    forgotten: int = -1
    opened: tuple[str, ...] = ()
    intervals: Mapping[str, IntervalCoverage] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether a live stream has ever published here."""
        return self.query is not None

    def opened_before(self, fingerprint: str) -> frozenset[str]:
        """The intervals with rows in which other code than this may have opened fields of persons."""
        others = set(self.opened) - {fingerprint}
        return frozenset(label for label, each in self.intervals.items() if others & each.writers.keys())


def marked(before: IntervalCoverage, mark: Mark) -> tuple[Mark, ...]:
    """The marks of an interval, with one more."""
    # One mark a reason, with the newest version: marks stay few however long the stream runs.
    return (*(m for m in before.marks if (m.why, m.run) != (mark.why, mark.run)), mark)


def sealed(coverage: Coverage, interval: Interval, shape: Shape) -> bool:
    """Whether the live stream can give this interval no more rows by itself.

    True for stateless pipelines and where no stream runs: then nothing is held back.
    """
    if not (coverage.live and coverage.stateful):
        return True
    return (coverage.watermark or 0) >= (interval.end + shape.lookahead).timestamp() * 1000
