"""Histories that once broke the law, or nearly did, each as short as it can be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.property.histories import BEGIN, Event, File, Poison
from tests.property.law import World
from tidemill.config import Project
from tidemill.engine import Engine
from tidemill.errors import PlanError
from tidemill.ledger.judge import State
from tidemill.model import Step

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
HOUR = 3_600_000_000
NOON = BEGIN + 12 * HOUR
HALF_LINE = Poison('{"id": "half", "key": "a", "val')
Make = Callable[..., World]


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> Make:
    return lambda *kinds: World(tmp_path, spark, kinds)


def at(hours: float, name: str, value: int = 2, key: str = "a") -> Event:
    """An event so many hours after noon of the first day."""
    return Event(name, key, value, NOON + round(hours * HOUR))


def events(*lines: Event | Poison) -> File:
    return File("events", lines)


def others(*lines: Event | Poison) -> File:
    return File("others", lines)


def repaired(world: World) -> None:
    world.do("repair")
    world.check("repaired")
    world.check_repaired("repaired")
    world.do("open")
    world.check_whole("filled in")


def test_what_old_code_filtered_away_counts_as_written_by_it(world: Make):
    w = world("stateless")
    w.arrive(events(at(0, "gone", value=3)))
    w.use("b")
    w.arrive(events(at(0, "kept")))
    w.check("code b keeps what code a had dropped")
    repaired(w)


def test_an_interval_in_which_all_was_filtered_is_stale_under_new_code(world: Make):
    w = world("stateless")
    w.arrive(events(at(0, "gone", value=3)), events(at(3, "here")))
    assert w.states("stateless")["2024-02-28T12"] is State.CLEAN
    w.use("b")
    w.check("only the code has changed")
    assert w.states("stateless")["2024-02-28T12"] is State.STALE
    repaired(w)


def test_going_back_to_former_code_does_not_clear_what_other_code_read(world: Make):
    w = world("stateless")
    w.arrive(events(at(0, "first", value=2)))
    w.use("b")
    w.arrive(events(at(0, "gone", value=5)))
    w.use("a")
    w.check("code b dropped what code a would keep")
    repaired(w)


def test_an_interval_with_rows_in_state_alone_is_open(world: Make):
    w = world("tumbling")
    w.arrive(events(at(0, "waiting")))
    assert w.states("tumbling") == {"2024-02-28": State.OPEN}
    w.do("open")
    w.check_whole("filled in")


def test_a_window_after_a_join_is_open_until_the_join_lets_the_watermark_through(world: Make):
    w = world("chained")
    # A watermark of 00:45 is past the day and its lookahead; the join, an hour behind, still holds 23:00 back.
    w.arrive(events(at(11.5, "l")), others(at(11.5, "r")))
    w.arrive(events(at(12 + 1.75, "on")), others(at(12 + 2.75, "on")))
    w.check("sealed too early")
    w.arrive(events(at(12 + 4, "far")), others(at(12 + 5, "far")))
    w.check("let through")
    assert w.states("chained")["2024-02-28"] is State.CLEAN
    repaired(w)


def test_poison_in_one_input_while_the_other_brings_nothing(world: Make):
    w = world("joined")
    w.arrive(events(at(0, "l")), others(at(0, "r")))
    w.arrive(events(HALF_LINE))
    w.check_counts("poison in events alone")
    w.arrive(others(HALF_LINE, at(1, "r2")), events(at(1, "l2"), HALF_LINE))
    w.check_counts("poison in both")
    w.check("counted")
    repaired(w)


def test_poison_before_the_other_input_has_any_file(world: Make):
    w = world("joined")
    w.arrive(events(at(0, "l"), HALF_LINE))
    w.check_counts("one input only")
    w.arrive(others(at(0, "r"), HALF_LINE))
    w.check_counts("both")
    repaired(w)


def test_a_union_of_which_one_side_is_silent_still_sees_late_rows(world: Make):
    w = world("both")
    w.arrive(events(at(0, "e1")), others(at(0, "o1")), events(at(20, "on")), others(at(20, "on")))
    w.arrive(others(at(1, "late")))
    w.arrive(events(at(1, "late too")))
    w.arrive(events(at(60, "far")), others(at(60, "far")))
    w.check("late rows on one side, silence on the other")
    assert w.states("both")["2024-02-28"] is State.DIRTY
    repaired(w)


def test_rows_are_counted_though_the_join_with_an_empty_table_needs_none(world: Make):
    w = world("named")
    (w.root / "in" / "names" / "names.json").write_text("\n", encoding="utf-8")
    w.arrive(events(at(0, "e1"), HALF_LINE))
    w.check_counts("nothing to join with")


def test_a_late_event_that_joins_two_sessions_is_not_missed(world: Make):
    w = world("sessions")
    # The watermark is 12:30: the session of 12:00 is out. An event of 12:15 would have lengthened it.
    w.arrive(events(at(0, "s1")), events(at(1.5, "on")), events(at(1.5, "on2")))
    w.arrive(events(at(0.25, "bridge")))
    w.arrive(events(at(48, "far")), events(at(48, "far2")))
    w.check("a session was split, and no row dropped")
    assert w.states("sessions")["2024-02-28"] is State.DIRTY
    repaired(w)


def test_a_late_row_in_an_open_interval_outlives_a_provisional_backfill(world: Make):
    w = world("tumbling")
    w.arrive(events(at(0, "e1")), events(at(5, "on")), events(at(5, "on2")), events(at(0.5, "late")))
    assert w.states("tumbling") == {"2024-02-28": State.OPEN}
    w.do("open")
    w.check_whole("filled in")
    w.arrive(events(at(20, "next day")), events(at(20, "next day 2")))
    w.check("the stream went on")
    assert w.states("tumbling")["2024-02-28"] is State.DIRTY
    repaired(w)


def test_two_provisional_backfills_are_both_taken_back(world: Make):
    w = world("tumbling", "newest")
    w.arrive(events(at(0, "e1")), events(at(2, "e2")))
    w.do("open")
    w.do("open")
    w.check_whole("filled in")
    w.arrive(events(at(30, "next day")), events(at(30, "next day 2")))
    w.check("the stream went on")
    repaired(w)


def test_a_result_kept_from_before_an_undo_says_nothing_about_after_it(world: Make):
    w = world("stateless")
    w.arrive(events(at(0, "gone", value=3), at(0, "here")))
    w.use("b")
    w.do("repair")
    w.do("stage")
    w.do("undo")
    w.do("publish")
    w.check("published after the undo")
    repaired(w)


def test_late_rows_between_an_undo_and_its_redo(world: Make):
    w = world("tumbling")
    w.arrive(events(at(0, "e1")), events(at(30, "on")), events(at(30, "on2")), events(at(0.5, "late")))
    w.do("repair")
    w.check("repaired")
    w.do("undo")
    w.check("undone")
    w.arrive(events(at(0.6, "later still")))
    w.do("redo")
    w.check("redone")
    assert w.states("tumbling")["2024-02-28"] is State.DIRTY
    repaired(w)


def test_an_interval_that_only_late_rows_reached(world: Make):
    w = world("tumbling", "sliding", "dedup", "joined")
    w.arrive(events(at(0, "e1")), others(at(0, "r1")), events(at(60, "on")), others(at(60, "on")))
    w.arrive(events(at(-12, "late, the day's first moment")), others(at(-12, "r")))
    w.check("late rows only")
    for kind in w.kinds:
        assert w.states(kind)["2024-02-28"] is State.DIRTY, kind
    repaired(w)


def test_new_code_over_the_state_of_the_old(world: Make):
    w = world("tumbling", "sessions", "joined")
    w.arrive(events(at(0, "gone", value=3), at(0, "here")), others(at(0, "r")))
    w.use("b")
    w.arrive(events(at(0.1, "more")), others(at(0.1, "r2")))
    w.arrive(events(at(60, "on")), others(at(60, "on")), events(at(60, "on2")), others(at(60, "on2")))
    w.check("state of code a came out under code b")
    repaired(w)


def test_a_limited_stream_is_refused(world: Make):
    w = world("stateless")
    # Which ten rows a stream sees first is a matter of arrival.
    step = Step(sql="SELECT * FROM events LIMIT 10")
    pipeline = w.engine.project.pipeline("stateless").model_copy(update={"transform": (step,)})
    engine = Engine(Project(str(w.root), {"stateless": pipeline}), spark=w.engine.spark)
    w.folder.add(events(at(0, "e1")))

    (outcome,) = engine.run("stateless")

    assert isinstance(outcome.error, PlanError)
    assert outcome.error.params["operator"] == "GlobalLimit"


def test_a_chain_that_outlasts_the_lookahead_shows_when_its_row_comes(world: Make):
    w = world("sessions")
    # An event every quarter of an hour, from 23:30 until 16:30 of the next day: longer than the 15 hours declared.
    chain = [at(11.5 + n / 4, f"c{n}") for n in range(69)]
    w.arrive(events(*chain[:-1]), events(chain[-1]))
    w.arrive(events(at(72, "far")), events(at(72, "far2")))
    assert w.states("sessions")["2024-02-28"] is State.DIRTY
