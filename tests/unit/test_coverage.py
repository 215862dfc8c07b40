"""Coverage is a fold: what each kind of fact does to an interval, and that cutting the log differently changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.intervals import Grain, parse_label
from tidemill.ledger import coverage_json
from tidemill.ledger.beside import outdated
from tidemill.ledger.coverage import Coverage, Mark, Shape, fold, fold_all, sealed
from tidemill.ledger.edge import reach
from tidemill.ledger.facts import Commit, Erased, Fact, Foreign, IntervalResult, LiveBatch, Swap, Undo
from tidemill.ledger.judge import State, judge

SHAPE = Shape(Grain.DAY, timedelta(0), timedelta(0))
D1, D2, D3, D4 = "2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"
NOW = "now-code"


def ms(label: str, hour: int = 0) -> int:
    return int((parse_label(Grain.DAY, label).start + timedelta(hours=hour)).timestamp() * 1000)


def batch(
    added: dict[str, int] | None = None,
    *,
    code: str = NOW,
    number: int = 0,
    stateful: bool = False,
    **more: Any,
) -> LiveBatch:
    end = {"events": {"place": 0, "offset": {"logOffset": number}}}
    return LiveBatch("p", "live-run", code, "query", number, {}, end, stateful, added=added or {}, **more)


def swap(
    results: dict[str, IntervalResult], pin: int, *, run: str = "r1", code: str = NOW, **more: Any
) -> Swap:
    return Swap("p", run, 0, code, pin, {"events": {"at": pin}}, results, **more)


def result(rows: int, added: int = 0, removed: int = 0, content: str | None = "h") -> IntervalResult:
    return IntervalResult(rows, content, added, removed)


def undo(changes: dict[str, int], run: str = "r1") -> Undo:
    return Undo("p", run, 0, changes)


def log(*facts: Fact | None) -> list[Commit]:
    """Commits at versions 0, 1, 2, ...; None is a commit without a fact."""
    return [Commit(version, 1000 * version, fact) for version, fact in enumerate(facts) if fact is not None]


def folded(*facts: Fact | None, shape: Shape = SHAPE) -> Coverage:
    return fold_all(Coverage(), log(*facts), shape)


def states(coverage: Coverage, code: str = NOW, shape: Shape = SHAPE, **more: Any) -> dict[str, State]:
    return {each.interval.label: each.state for each in judge(coverage, shape, code, **more)}


def why(coverage: Coverage, label: str, code: str = NOW) -> str:
    return next(each.why for each in judge(coverage, SHAPE, code) if each.interval.label == label)


# ---- live batches


def test_an_empty_log_covers_nothing():
    assert folded() == Coverage()
    assert not folded().live


def test_rows_of_batches_add_up():
    coverage = folded(batch({D1: 3, D2: 1}), batch({D1: 2}, number=1))

    assert {label: each.rows for label, each in coverage.intervals.items()} == {D1: 5, D2: 1}
    assert states(coverage) == {D1: State.CLEAN, D2: State.CLEAN}


def test_an_upsert_counts_what_it_replaces():
    coverage = folded(batch({D1: 3}), batch({D1: 4}, number=1, removed={D1: 3}))

    assert coverage.intervals[D1].rows == 4
    assert [seen.rows for seen in coverage.recent] == [3, 1]


def test_the_stream_as_a_whole_is_remembered():
    coverage = folded(
        batch({D1: 3}, input_rows=5, quarantined=1, touched=((100, 700),)),
        None,
        batch(
            {D1: 1},
            number=1,
            input_rows=4,
            quarantined=2,
            watermark=77,
            stateful=True,
            touched=((40, 90), (95, 200)),
        ),
    )

    assert (coverage.query, coverage.batch, coverage.live_version, coverage.version) == ("query", 1, 2, 2)
    assert (coverage.input_rows, coverage.quarantined) == (9, 3)
    assert (coverage.watermark, coverage.live_at) == (77, 2000)
    assert (coverage.touched_from, coverage.touched_until) == (40, 700)
    assert coverage.source_begin == {"events": {"place": 0, "offset": {"logOffset": 0}}}
    assert coverage.source_end == {"events": {"place": 0, "offset": {"logOffset": 1}}}


def test_only_the_last_batches_are_kept():
    coverage = folded(*(batch({D1: 1}, number=n) for n in range(50)))

    assert [seen.batch for seen in coverage.recent] == list(range(30, 50))


def test_a_commit_already_folded_is_passed_over():
    commits = log(batch({D1: 3}), batch({D1: 2}, number=1))
    once = fold_all(Coverage(), commits, SHAPE)

    assert fold_all(once, commits, SHAPE) == once


def test_a_coverage_is_never_changed_in_place():
    before = folded(batch({D1: 3}))

    fold(before, Commit(1, 0, batch({D1: 2, D2: 2}, number=1)), SHAPE)

    assert before.intervals[D1].rows == 3
    assert D2 not in before.intervals


def test_rows_of_other_code_are_stale():
    coverage = folded(batch({D1: 3}, code="old-code"), batch({D1: 1, D2: 1}, number=1))

    assert states(coverage) == {D1: State.STALE, D2: State.CLEAN}
    assert why(coverage, D1) == "written by old-code"


# ---- late rows


def test_late_rows_make_an_interval_dirty_even_one_without_rows():
    coverage = folded(batch({D1: 3}), batch(number=1, late=(D1, D2)))

    assert states(coverage) == {D1: State.DIRTY, D2: State.DIRTY}
    assert coverage.intervals[D1].marks == (Mark("late rows", 1),)


@pytest.mark.parametrize(("pin", "state"), [(0, State.DIRTY), (1, State.CLEAN)])
def test_an_interval_of_an_erased_person_is_dirty_until_it_is_computed_after_that(pin: int, state: State):
    erased = Erased("p", "r0", (D1,), seen=0)

    coverage = folded(batch({D1: 3, D2: 1}), erased, swap({D1: result(3)}, pin=pin))

    assert states(folded(batch({D1: 3, D2: 1}), erased)) == {D1: State.DIRTY, D2: State.CLEAN}
    assert states(coverage)[D1] == state


def test_what_batches_bring_beside_an_erasure_may_have_had_the_key():
    before, meanwhile = batch({D1: 1}), batch({D2: 1}, number=1, began=0)
    erased = Erased("p", "r0", (), seen=0)
    under_way, after = batch({D3: 1}, number=2, reached=(D4,), began=1), batch({D3: 1}, number=3, began=3)

    coverage = folded(before, meanwhile, erased, under_way, after)

    assert states(coverage) == {
        D1: State.CLEAN,
        D2: State.DIRTY,
        D3: State.DIRTY,
        D4: State.DIRTY,
    }
    assert why(coverage, D3) == "a person was erased"
    assert states(folded(before, erased, batch({D1: 1}, number=1, began=1), shape=SHAPE))[D1] == State.CLEAN
    assert states(fold(coverage, Commit(5, 0, swap({D3: result(2)}, pin=4)), SHAPE))[D3] == State.CLEAN


def test_what_rows_were_made_beside_is_known_until_they_are_replaced():
    first, second = batch({D1: 1}), batch({D1: 1}, number=1, reached=(D2,), beside={"people": 7})
    both = folded(first, second)

    assert outdated(both.intervals[D1].beside, {"people": 7}) == ("people",)
    assert outdated(both.intervals[D2].beside, {"people": 7}) == ()
    assert outdated(both.intervals[D2].beside, {"people": 8, "other": 1}) == ("people", "other")
    assert outdated(folded(first).intervals[D1].beside, {}) == ()

    for pin, taken, left in ((0, {"people": 9}, ("people",)), (1, {"people": 9}, ()), (1, {}, ("people",))):
        again = fold(both, Commit(2, 0, swap({D1: result(2)}, pin=pin, beside=taken)), SHAPE)
        assert outdated(again.intervals[D1].beside, {"people": 9}) == left
    lent = fold(
        both, Commit(2, 0, swap({D1: result(2)}, pin=1, beside={"people": 9}, provisional=True)), SHAPE
    )
    assert outdated(lent.intervals[D1].beside, {"people": 7}) == ("people",)
    assert coverage_json.from_json(json.loads(json.dumps(coverage_json.as_json(both)))) == both


def test_where_code_has_opened_fields_is_known_until_its_rows_are_replaced():
    opening = (
        batch({D1: 1, D2: 1}, code="opens", opened=True),
        batch(number=1, reached=(D3,), code="opens", opened=True),
    )
    coverage = folded(*opening, batch({D3: 1, D4: 1}, number=2))

    assert (coverage.opened, folded(batch({D1: 1})).opened) == (("opens",), ())
    assert coverage.opened_before(NOW) == {D1, D2, D3}
    assert coverage.opened_before("opens") == set()
    again = fold(coverage, Commit(3, 0, swap({D1: result(1), D3: result(1)}, pin=2)), SHAPE)
    assert again.opened_before(NOW) == {D2}
    older = fold(coverage, Commit(3, 0, swap({D4: result(1)}, pin=2, code="older", opened=True)), SHAPE)
    assert older.opened_before(NOW) == {D1, D2, D3, D4}
    assert coverage_json.from_json(json.loads(json.dumps(coverage_json.as_json(older)))) == older


def test_an_erasure_by_which_rows_may_be_gone_counts_as_one_that_took_somebody_out():
    before = batch({D1: 1})
    for gone, last in ((False, -1), (True, 1)):
        coverage = folded(before, Erased("p", "r0", (), seen=0, gone=gone))
        assert (coverage.erased, coverage.forgotten, states(coverage)[D1]) == (last, 1, State.CLEAN)


def test_a_batch_that_only_took_a_row_in_before_an_erasure_was_noted_makes_what_it_reaches_dirty():
    before = batch({D1: 1}, stateful=True, watermark=ms(D2))
    under_way = batch({}, stateful=True, number=1, watermark=ms(D2), reached=(D2,))
    after = batch({D2: 1}, stateful=True, number=2, watermark=ms(D4), began=3)

    coverage = folded(before, under_way, Erased("p", "r0", (), seen=0), after)

    assert states(coverage) == {D1: State.CLEAN, D2: State.DIRTY}


def test_late_rows_again_move_the_one_mark():
    coverage = folded(*(batch(number=n, late=(D1,)) for n in range(9)))

    assert coverage.intervals[D1].marks == (Mark("late rows", 8),)


@pytest.mark.parametrize(("pin", "state"), [(1, State.DIRTY), (2, State.CLEAN), (3, State.CLEAN)])
def test_a_late_mark_is_cleared_only_by_a_pin_at_or_after_it(pin: int, state: State):
    coverage = folded(
        batch({D1: 3}),
        batch(number=1),
        batch(number=2, late=(D1,)),
        batch(number=3),
        swap({D1: result(4, 1)}, pin),
    )

    assert states(coverage) == {D1: state}


@pytest.mark.parametrize(("pin", "state"), [(0, State.STALE), (1, State.CLEAN), (2, State.CLEAN)])
def test_a_writer_is_forgotten_only_by_a_pin_at_or_after_its_last_rows(pin: int, state: State):
    coverage = folded(
        batch({D1: 3}, code="old-code"),
        batch({D1: 2}, code="old-code", number=1),
        batch({D2: 1}, number=2),
        swap({D1: result(5)}, pin),
    )

    assert states(coverage)[D1] is state


# ---- swaps


def test_a_swap_leaves_what_it_computed():
    coverage = folded(batch({D1: 3}), swap({D1: result(5, 4, 2, "abc")}, 0))

    one = coverage.intervals[D1]
    assert (one.rows, one.hash, one.checked, one.pin, one.run) == (5, "abc", 1, 0, "r1")
    assert one.read == {"events": {"at": 0}}


def test_rows_that_came_after_the_pin_stay_and_take_the_hash_away():
    coverage = folded(batch({D1: 3}), batch({D1: 2}, number=1), swap({D1: result(4, 2, 1, "abc")}, 0))

    one = coverage.intervals[D1]
    # 3 + 2 rows, of the first 3 one goes and two come
    assert (one.rows, one.hash) == (6, None)


def test_rows_that_come_after_a_swap_take_the_hash_away():
    coverage = folded(batch({D1: 3}), swap({D1: result(3)}, 0), batch({D1: 1}, number=1))

    assert (coverage.intervals[D1].rows, coverage.intervals[D1].hash) == (4, None)


def test_a_batch_elsewhere_leaves_the_hash_alone():
    coverage = folded(batch({D1: 3}), swap({D1: result(3)}, 0), batch({D2: 1}, number=1))

    assert coverage.intervals[D1].hash == "h"


def test_an_interval_found_equal_is_clean_and_keeps_its_rows():
    coverage = folded(batch({D1: 3}, code="old-code", late=(D1,)), swap({D1: result(3)}, 0, changed=False))

    assert states(coverage) == {D1: State.CLEAN}
    assert (coverage.intervals[D1].rows, coverage.intervals[D1].hash) == (3, "h")


def test_an_interval_may_become_empty():
    coverage = folded(batch({D1: 3}, late=(D1,)), swap({D1: result(0, 0, 3, None)}, 0))

    assert (coverage.intervals[D1].rows, states(coverage)[D1]) == (0, State.CLEAN)


def test_a_swap_of_intervals_that_no_stream_wrote_makes_them_clean():
    coverage = folded(None, swap({D1: result(7, 7)}, 0))

    assert states(coverage) == {D1: State.CLEAN}
    assert not coverage.live


def test_two_swaps_pinned_at_one_version_leave_no_hash_to_trust():
    # The second found the interval equal to what the first has replaced meanwhile.
    coverage = folded(
        batch({D1: 3}),
        swap({D1: result(4, 1, 0, "new")}, 0, run="r1", code="other"),
        swap({D1: result(3, 0, 0, "old")}, 0, run="r2", changed=False),
    )

    assert coverage.intervals[D1].hash is None
    assert states(coverage) == {D1: State.STALE}


def test_only_the_intervals_of_a_swap_change():
    coverage = folded(batch({D1: 3, D2: 3}, late=(D1, D2)), swap({D1: result(4, 1)}, 0))

    assert states(coverage) == {D1: State.CLEAN, D2: State.DIRTY}
    assert coverage.intervals[D2].run is None


def test_code_that_came_between_may_have_left_rows_of_open_intervals_out():
    # Its window of D1 closed under the other code, whose rules or filters let none of its rows on.
    coverage = folded(
        batch({}, stateful=True, touched=((ms(D1) // 1000, ms(D1, 1) // 1000),), reached=(D1,)),
        batch({}, stateful=True, code="between", number=1, watermark=ms(D3), reached=(D3,)),
        batch({}, stateful=True, number=2, watermark=ms(D3), reached=(D3,)),
    )

    assert states(coverage)[D1] == State.STALE


# ---- undo and redo


def test_an_undone_swap_leaves_a_dirty_interval_with_its_former_rows():
    coverage = folded(batch({D1: 3}), swap({D1: result(5, 2)}, 0), undo({D1: -2}))

    assert (coverage.intervals[D1].rows, coverage.intervals[D1].hash) == (3, None)
    assert why(coverage, D1) == "a backfill was undone"


def test_the_redo_of_a_run_clears_the_mark_of_its_undo():
    done = swap({D1: result(5, 2)}, 0)

    coverage = folded(batch({D1: 3}, late=(D1,)), done, undo({D1: -2}), done)

    assert (coverage.intervals[D1].rows, states(coverage)) == (5, {D1: State.CLEAN})


def test_late_rows_between_undo_and_redo_stay_on_the_books():
    done = swap({D1: result(5, 2)}, 0)

    coverage = folded(batch({D1: 3}), done, undo({D1: -2}), batch(number=1, late=(D1,)), done)

    assert states(coverage) == {D1: State.DIRTY}
    assert why(coverage, D1) == "late rows"


def test_another_run_pinned_before_an_undo_does_not_clear_its_mark():
    # r2 compared with what r1 had published, and r1 was taken back before r2 said that it was equal.
    coverage = folded(
        batch({D1: 3}),
        swap({D1: result(5, 2)}, 0, run="r1"),
        undo({D1: -2}, "r1"),
        swap({D1: result(5)}, 1, run="r2", changed=False),
    )

    assert states(coverage) == {D1: State.DIRTY}


def test_another_run_pinned_after_an_undo_clears_its_mark():
    coverage = folded(
        batch({D1: 3}),
        swap({D1: result(5, 2)}, 0, run="r1"),
        undo({D1: -2}, "r1"),
        swap({D1: result(5, 2)}, 2, run="r2"),
    )

    assert (coverage.intervals[D1].rows, states(coverage)) == (5, {D1: State.CLEAN})


# ---- swaps past the gate


def forced(*facts: Fact) -> dict[str, str | None]:
    return {label: each.forced for label, each in folded(*facts).intervals.items()}


PAST = swap({D1: result(2, 1, 2), D2: result(3)}, 0, forced="the feed was down")


def test_what_was_swapped_past_the_gate_says_why_and_what_was_equal_does_not():
    assert forced(batch({D1: 3, D2: 3}), PAST) == {D1: "the feed was down", D2: None}
    assert why(folded(batch({D1: 3, D2: 3}), PAST), D1) == ""


def test_rows_that_come_later_do_not_undo_that_an_interval_was_forced():
    assert forced(batch({D1: 3}), PAST, batch({D1: 1}, number=1))[D1] == "the feed was down"


def test_the_next_swap_of_an_interval_and_its_undo_end_it():
    assert forced(PAST, swap({D1: result(3, 1, 0)}, 1, run="r2"))[D1] is None
    assert forced(PAST, swap({D1: result(2)}, 1, run="r2"))[D1] is None
    assert forced(PAST, undo({D1: 1}))[D1] is None
    assert forced(PAST, undo({D1: 1}, run="r0"))[D1] == "the feed was down"


# ---- provisional swaps


def open_day(*, late: tuple[str, ...] = ()) -> LiveBatch:
    """Three rows of a day that the stream is in the middle of."""
    return batch(
        {D1: 3},
        stateful=True,
        watermark=ms(D1, 12),
        late=late,
        touched=((ms(D1) // 1000, ms(D1, 14) // 1000),),
    )


def seal(number: int = 1) -> LiveBatch:
    return batch(number=number, stateful=True, watermark=ms(D3))


def test_a_provisional_swap_never_makes_an_interval_clean():
    lent = folded(open_day(), swap({D1: result(9, 6)}, 0, provisional=True))
    after = fold(lent, Commit(2, 0, seal()), SHAPE)

    assert states(lent) == {D1: State.OPEN}
    assert states(after) == {D1: State.DIRTY}
    assert "provisional" in why(after, D1)


def test_a_provisional_swap_taken_back_owes_nothing():
    coverage = folded(open_day(), swap({D1: result(9, 6)}, 0, provisional=True), undo({D1: -6}), seal())

    assert (coverage.intervals[D1].rows, states(coverage)) == (3, {D1: State.CLEAN})


def test_late_rows_outlast_a_provisional_swap_that_was_taken_back():
    # The late rows were among the lent ones, and went with them.
    coverage = folded(
        open_day(late=(D1,)), swap({D1: result(9, 6)}, 0, provisional=True), undo({D1: -6}), seal()
    )

    assert states(coverage) == {D1: State.DIRTY}


def test_former_code_outlasts_a_provisional_swap_that_was_taken_back():
    coverage = folded(
        open_day(), swap({D1: result(9, 6)}, 0, provisional=True, code="new-code"), undo({D1: -6}), seal()
    )

    assert states(coverage, "new-code") == {D1: State.STALE}
    assert states(coverage, NOW) == {D1: State.CLEAN}


def test_what_a_provisional_swap_read_is_not_what_the_rows_were_made_from():
    coverage = folded(open_day(), swap({D1: result(9, 6)}, 0, provisional=True), undo({D1: -6}))

    assert (coverage.intervals[D1].read, coverage.intervals[D1].checked) == (None, None)


def test_every_provisional_swap_has_to_be_taken_back():
    lent = folded(
        open_day(),
        swap({D1: result(9, 6)}, 0, provisional=True, run="r1"),
        swap({D1: result(11, 2)}, 1, provisional=True, run="r2"),
    )
    once = fold(lent, Commit(3, 0, undo({D1: -2}, "r2")), SHAPE)
    twice = fold(once, Commit(4, 0, undo({D1: -6}, "r1")), SHAPE)

    assert lent.intervals[D1].provisional == ("r1", "r2")
    assert once.intervals[D1].provisional == ("r1",)
    assert (twice.intervals[D1].provisional, twice.intervals[D1].rows) == ((), 3)


# ---- commits by others


def test_a_stranger_makes_its_intervals_dirty_until_they_are_recomputed_after_it():
    stranger = Foreign("DELETE", (D1,))

    assert states(folded(batch({D1: 3, D2: 3}), stranger)) == {D1: State.DIRTY, D2: State.CLEAN}
    assert states(folded(batch({D1: 3}), stranger, swap({D1: result(3)}, 0))) == {D1: State.DIRTY}
    assert states(folded(batch({D1: 3}), stranger, swap({D1: result(3)}, 1))) == {D1: State.CLEAN}


def test_what_a_stranger_appended_after_the_pin_leaves_no_hash():
    coverage = folded(
        batch({D1: 3}), Foreign("WRITE", (D1,), replaced=False), swap({D1: result(3)}, 0, changed=False)
    )

    assert coverage.intervals[D1].hash is None


def test_a_swap_after_a_stranger_knows_the_rows_again():
    # The ledger counted 3; the stranger made them 5; the swap found 5, and one too many.
    coverage = folded(batch({D1: 3}), Foreign("WRITE", (D1,), replaced=False), swap({D1: result(4, 0, 1)}, 1))

    assert coverage.intervals[D1].rows == 4


def test_a_stranger_who_cannot_be_placed_makes_every_known_interval_dirty():
    coverage = folded(batch({D1: 3, D2: 1}), Foreign("UPDATE", None))

    assert states(coverage) == {D1: State.DIRTY, D2: State.DIRTY}
    assert why(coverage, D1) == "written by UPDATE"


# ---- open intervals, and code that changes under a state


@pytest.mark.parametrize(
    ("lookahead", "watermark", "state"),
    [
        (0, ms(D1, 23), State.OPEN),
        (0, ms(D2), State.CLEAN),
        (3, ms(D2, 2), State.OPEN),
        (3, ms(D2, 3), State.CLEAN),
    ],
)
def test_an_interval_is_sealed_when_the_watermark_has_passed_its_end_and_lookahead(
    lookahead: int, watermark: int, state: State
):
    shape = Shape(Grain.DAY, timedelta(0), timedelta(hours=lookahead))
    coverage = folded(batch({D1: 3}, stateful=True, watermark=watermark, reach=reach(shape)), shape=shape)

    assert states(coverage, shape=shape) == {D1: state}


def test_a_stateless_stream_seals_everything_at_once():
    assert sealed(folded(batch({D1: 3})), parse_label(Grain.DAY, D1), SHAPE)
    assert sealed(Coverage(), parse_label(Grain.DAY, D1), SHAPE)


def touched(first: str, last: str) -> tuple[tuple[int, int], ...]:
    return ((ms(first) // 1000, ms(last, 20) // 1000),)


def test_state_made_by_former_code_makes_what_it_reaches_stale():
    coverage = folded(
        batch(
            {D1: 3},
            stateful=True,
            code="old-code",
            watermark=ms(D2, 6),
            touched=touched(D1, D3),
            reached=(D2, D3),
        ),
        batch({D2: 3}, stateful=True, number=1, watermark=ms(D4), touched=touched(D3, D3), reached=(D3,)),
    )

    # Day 1 was sealed by old code; day 2 and 3 were in its state; all of it is sealed now.
    assert states(coverage) == {D1: State.STALE, D2: State.STALE, D3: State.STALE}
    assert states(coverage, "old-code")[D3] is State.CLEAN or coverage.intervals[D3].rows == 0


def test_state_made_by_former_code_reaches_as_far_as_lookback_and_lookahead():
    shape = Shape(Grain.DAY, timedelta(days=1), timedelta(hours=12))
    coverage = folded(
        batch(
            {D1: 1},
            stateful=True,
            code="older-code",
            watermark=ms(D1, 6),
            touched=touched(D1, D1),
            reach=reach(shape),
        ),
        batch(
            {},
            stateful=True,
            code="old-code",
            watermark=ms(D2, 6),
            touched=touched(D2, D3),
            reached=(D2, D3, D4),
            reach=reach(shape),
        ),
        batch({}, stateful=True, number=1, watermark=ms(D2, 7)),
        shape=shape,
    )

    # Unsealed: end + 12h > day 2, 6:00, so from day 1; input until day 3, 20:00 reaches a day further. At the change before, the
    # day before was not: its input ends at noon of the first.
    assert set(coverage.intervals) == {"2012-12-31", D1, D2, D3, D4}
    assert all("old-code" in each.writers for each in coverage.intervals.values())


def test_a_sealed_interval_holds_nothing_of_the_former_state():
    coverage = folded(
        batch(
            {D1: 1}, stateful=True, code="old-code", watermark=ms(D3), touched=touched(D1, D3), reached=(D3,)
        ),
        batch({}, stateful=True, number=1, watermark=ms(D4)),
    )

    assert set(coverage.intervals[D1].writers) == {"old-code"}
    assert coverage.intervals[D1].writers["old-code"] == 0
    assert states(coverage)[D3] is State.STALE


def test_rows_that_come_to_a_sealed_interval_make_it_dirty_until_it_is_recomputed():
    facts = (
        batch({D1: 1}, stateful=True, watermark=ms(D2)),
        batch({D1: 1}, stateful=True, number=1, watermark=ms(D3)),
    )

    assert states(folded(facts[0])) == {D1: State.CLEAN}
    assert states(folded(*facts)) == {D1: State.DIRTY}
    assert states(folded(*facts, swap({D1: result(2)}, 1))) == {D1: State.CLEAN}


def test_the_batch_that_seals_an_interval_may_bring_its_last_rows():
    coverage = folded(
        batch({D1: 1}, stateful=True, watermark=ms(D1, 6)),
        batch({D1: 1}, stateful=True, number=1, watermark=ms(D2)),
    )

    assert states(coverage) == {D1: State.CLEAN}


def test_before_the_first_watermark_all_that_was_ever_touched_is_in_the_state():
    days = (D1, D2, D3, D4)
    coverage = folded(
        batch({}, stateful=True, code="old-code", watermark=0, touched=touched(D1, D4), reached=days),
        swap({day: result(1, 1) for day in days}, 0, provisional=False),
    )
    assert all(set(each.writers) == {NOW} for each in coverage.intervals.values())

    coverage = fold(coverage, Commit(2, 2, batch({}, stateful=True, number=1, watermark=0)), SHAPE)
    # What the stream gives of them will come out of the former code's state.
    assert all(set(each.writers) == {NOW, "old-code"} for each in coverage.intervals.values())


def test_a_stateless_stream_hands_nothing_on_to_new_code():
    coverage = folded(
        batch({D1: 1}, code="old-code", touched=touched(D1, D3)),
        batch({D2: 1}, number=1, touched=touched(D2, D3)),
    )

    assert states(coverage) == {D1: State.STALE, D2: State.CLEAN}
    assert coverage.ahead == ()


def test_recomputing_a_sealed_interval_frees_it_of_the_former_state():
    coverage = folded(
        batch({D1: 3}, stateful=True, code="old-code", watermark=ms(D1, 6), touched=touched(D1, D1)),
        batch({D1: 3}, stateful=True, number=1, watermark=ms(D3)),
        swap({D1: result(6)}, 1),
    )

    assert states(coverage) == {D1: State.CLEAN}


# ---- judging


def test_a_change_upstream_makes_an_interval_dirty_known_or_not():
    coverage = folded(batch({D1: 3}))

    judged = judge(coverage, SHAPE, NOW, upstream={D1: "bets was backfilled", D2: "bets was updated"})

    assert [(j.interval.label, j.state, j.why) for j in judged] == [
        (D1, State.DIRTY, "bets was backfilled"),
        (D2, State.DIRTY, "bets was updated"),
    ]


def test_dirty_goes_before_stale_and_open_before_both():
    code = "old-code"
    dirty = folded(batch({D1: 3}, code=code, late=(D1,)))
    running = folded(batch({D1: 3}, code=code, late=(D1,), stateful=True, watermark=ms(D1, 1)))

    assert states(dirty) == {D1: State.DIRTY}
    assert states(running) == {D1: State.OPEN}
    assert "late rows" in why(running, D1)


# ---- as JSON, and cut into pieces

days = st.sampled_from([D1, D2, D3, D4])
small = st.integers(0, 5)
codes = st.sampled_from(["code-a", "code-b", NOW])
runs = st.sampled_from(["r1", "r2", "r3"])
per_day = st.dictionaries(days, small, max_size=3)


@st.composite
def live_facts(draw: st.DrawFn) -> LiveBatch:
    hour = draw(st.integers(0, 100))
    start = draw(st.integers(0, 95))
    return batch(
        draw(per_day),
        code=draw(codes),
        number=draw(st.integers(0, 99)),
        stateful=draw(st.booleans()),
        removed=draw(per_day),
        late=tuple(sorted(draw(st.sets(days, max_size=2)))),
        watermark=draw(st.sampled_from([None, 0, ms(D1, hour)])),
        input_rows=draw(small),
        touched=draw(st.sampled_from([(), ((ms(D1, start) // 1000, ms(D1, start + 2) // 1000),)])),
    )


@st.composite
def facts(draw: st.DrawFn) -> list[Fact | None]:
    history: list[Fact | None] = []
    for version in range(draw(st.integers(1, 9))):
        pins = st.integers(0, max(0, version - 1))
        outcome = st.builds(IntervalResult, small, st.sampled_from(["h1", "h2", None]), small, small)
        history.append(
            draw(
                st.one_of(
                    st.none(),
                    live_facts(),
                    live_facts(),
                    st.builds(
                        swap,
                        st.dictionaries(days, outcome, min_size=1, max_size=3),
                        pins,
                        run=runs,
                        code=codes,
                        changed=st.booleans(),
                        provisional=st.booleans(),
                    ),
                    st.builds(undo, st.dictionaries(days, st.integers(-3, 3), min_size=1, max_size=3), runs),
                    st.builds(
                        Foreign,
                        st.just("MERGE"),
                        st.none() | st.sets(days, min_size=1, max_size=2).map(lambda s: tuple(sorted(s))),
                        st.booleans(),
                    ),
                )
            )
        )
    return history


def shapes() -> st.SearchStrategy[Shape]:
    hours = st.sampled_from([0, 1, 30]).map(lambda h: timedelta(hours=h))
    return st.builds(Shape, st.just(Grain.DAY), hours, hours)


@settings(max_examples=25, deadline=None)
@given(facts(), shapes())
def test_folding_in_one_go_is_folding_commit_by_commit(history: list[Fact | None], shape: Shape):
    commits = log(*history)

    one_by_one = Coverage()
    for commit in commits:
        one_by_one = fold(one_by_one, commit, shape)

    assert fold_all(Coverage(), commits, shape) == one_by_one


@settings(max_examples=25, deadline=None)
@given(facts(), shapes(), st.integers(0, 9))
def test_an_index_written_anywhere_on_the_way_changes_nothing(
    history: list[Fact | None], shape: Shape, cut: int
):
    commits = log(*history)

    half = fold_all(Coverage(), commits[:cut], shape)
    thawed = coverage_json.from_json(json.loads(json.dumps(coverage_json.as_json(half))))

    assert thawed == half
    assert fold_all(thawed, commits, shape) == fold_all(Coverage(), commits, shape)


# ---- an independent model: the table as rows, each remembering what it is


@dataclass
class Table:
    """A stateless table of one interval, as a set of row tokens. Truth is what today's code gives today.

    Input event e gives the row ``(e, code)``. The stream takes an event in at once or refuses it as late.
    """

    events: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    read: list[int] = field(default_factory=list)  # events known, by version
    held: list[list[tuple[int, str]]] = field(default_factory=list)  # rows held, by version
    before: dict[str, tuple[list[tuple[int, str]], list[tuple[int, str]]]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def commit(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.read.append(self.events)
        self.held.append(list(self.rows))

    def live(self, code: str, taken: int, refused: int) -> None:
        self.rows += [(self.events + i, code) for i in range(taken)]
        self.events += taken + refused
        late = (D1,) if refused else ()
        self.commit(batch({D1: taken} if taken else {}, code=code, number=len(self.facts), late=late))

    def backfill(self, run: str, code: str, back: int) -> None:
        """Recompute as of ``back`` commits ago, as a swap does: what came since stays."""
        pin = len(self.facts) - 1 - back
        old, new = self.held[pin], [(e, code) for e in range(self.read[pin])]
        if any(row not in self.rows for row in old) or self.swapped_since(pin):
            return  # refused: something else replaced these rows, or stands where there were none
        if sorted(old) == sorted(new):
            self.commit(
                swap({D1: result(len(new), content=content(new))}, pin, run=run, code=code, changed=False)
            )
            return
        added, removed = [r for r in new if r not in old], [r for r in old if r not in new]
        self.rows = new + [row for row in self.rows if row not in old]
        self.before[run] = (old, new)
        outcome = result(len(new), len(added), len(removed), content(new))
        self.commit(swap({D1: outcome}, pin, run=run, code=code))

    def take_back(self, run: str) -> None:
        old, new = self.before.get(run, ([], []))
        if run not in self.before or any(row not in self.rows for row in new):
            return
        if self.swapped_since(
            max(i for i, fact in enumerate(self.facts) if isinstance(fact, Swap) and fact.run == run)
        ):
            return
        self.rows = old + [row for row in self.rows if row not in new]
        del self.before[run]
        self.commit(undo({D1: len(old) - len(new)}, run))

    def swapped_since(self, version: int) -> bool:
        return any(
            isinstance(f, Undo) or (isinstance(f, Swap) and f.changed) for f in self.facts[version + 1 :]
        )

    def stranger(self) -> None:
        self.rows = self.rows[1:]
        self.commit(Foreign("DELETE", (D1,)))

    def right(self, code: str) -> bool:
        return sorted(self.rows) == [(e, code) for e in range(self.events)]


def content(rows: Sequence[tuple[int, str]]) -> str:
    return repr(sorted(rows))


steps = st.one_of(
    st.tuples(st.just("live"), codes, small, st.integers(0, 1)),
    st.tuples(st.just("backfill"), codes, st.integers(0, 2)),
    st.tuples(st.just("undo"), st.integers(0, 20)),
    st.tuples(st.just("stranger")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, min_size=1, max_size=14))
def test_what_is_called_clean_is_right_and_what_is_counted_is_there(history: list[tuple[Any, ...]]):
    table = Table()
    table.live(NOW, 2, 0)
    for number, step in enumerate(history):
        match step:
            case ("live", code, taken, refused):
                table.live(code, taken, refused)
            case ("backfill", code, back):
                table.backfill(f"run-{number}", code, min(back, len(table.facts) - 1))
            case ("undo", number_of_run):
                table.take_back(f"run-{number_of_run}")
            case ("stranger",):
                table.stranger()

    coverage = folded(*table.facts)
    detail = coverage.intervals[D1]

    for code in ("code-a", "code-b", NOW):
        if states(coverage, code) == {D1: State.CLEAN}:
            assert table.right(code)
    if detail.hash is not None:
        assert detail.hash == content(table.rows)
    if not any(isinstance(fact, Foreign) for fact in table.facts):
        assert detail.rows == len(table.rows)


def test_after_a_backfill_of_everything_an_interval_is_clean_whatever_came_before():
    table = Table()
    table.live("code-a", 3, 1)
    table.stranger()
    table.live("code-b", 2, 1)
    table.backfill("r1", "code-a", 0)
    table.take_back("r1")
    table.live(NOW, 1, 1)

    table.backfill("last", NOW, 0)

    coverage = folded(*table.facts)
    assert states(coverage) == {D1: State.CLEAN}
    assert (coverage.intervals[D1].rows, len(table.rows)) == (9, 9)
    assert datetime.fromtimestamp(ms(D1) / 1000, UTC).isoformat()[:10] == D1
