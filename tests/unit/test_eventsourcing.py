"""The pure core: commands in any order, cut and repeated in any way, against a bank of dictionaries."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.bank import BANK, Account, Deposited, Opened, Transfers, Withdrawn
from tidemill.errors import ConfigError, StateError
from tidemill.eventsourcing import (
    Command,
    CommandEnvelope,
    Decider,
    Domain,
    Event,
    EventEnvelope,
    Kind,
    Refusal,
    Rejected,
    Standing,
    State,
    folded,
    handle,
)
from tidemill.eventsourcing.interpreter import state_of
from tidemill.eventsourcing.messages import Unfit
from tidemill.eventsourcing.saga import after_event, after_refusal

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def asked(number: int, kind: str, at: int = 0, **data: Any) -> CommandEnvelope:
    return CommandEnvelope(
        f"c{number}", f"account.{kind}", "17", NOON + timedelta(minutes=at), json.dumps(data)
    )


NEW = Standing()


def run(commands: list[CommandEnvelope], standing: Standing = NEW) -> tuple[Standing, list[Any]]:
    found: list[Any] = []
    for each in commands:
        standing, made = handle(BANK, standing, each)
        found += made
    return standing, found


def once(commands: list[CommandEnvelope]) -> list[CommandEnvelope]:
    """Without those that come again: who calls the core leaves them out."""
    found: dict[str | None, CommandEnvelope] = {}
    for each in commands:
        found.setdefault(each.id, each)
    return list(found.values())


KINDS = st.sampled_from(["Open", "Deposit", "Withdraw", "Nonsense"])
COMMANDS = st.lists(
    st.tuples(st.integers(0, 25), KINDS, st.integers(0, 50), st.integers(-5, 300_000), st.integers(-1, 6)),
    max_size=40,
)


def made(row: tuple[int, str, int, int, int]) -> CommandEnvelope:
    number, kind, at, amount, expected = row
    data = {"owner": "ann"} if kind == "Open" else {"amount": amount}
    return replace(asked(number, kind, at, **data), expectedversion=None if expected < 2 else expected)


def of_dictionaries(commands: list[CommandEnvelope]) -> tuple[list[tuple[str, str]], int | None]:
    """What must become of each command id, and the balance: written without the code under test."""
    done: dict[str, str] = {}
    balance: int | None = None
    version = 0
    for each in commands:
        if each.id in done:
            continue
        data = json.loads(each.data)
        amount = data.get("amount", 1)
        kind = str(each.type).partition(".")[2]
        if kind == "Nonsense" or amount <= 0:
            done[str(each.id)] = "invalid"
            continue
        if each.expectedversion is not None and each.expectedversion != version:
            done[str(each.id)] = "conflict"
            continue
        cost = amount + max(0, amount - 100_000) * 5 // 1000
        refused = (
            balance is not None
            if kind == "Open"
            else balance is None or (kind == "Withdraw" and cost > balance)
        )
        if refused:
            done[str(each.id)] = "rejected"
            continue
        balance = 0 if kind == "Open" else (balance or 0) + (amount if kind == "Deposit" else -cost)
        version += 1
        done[str(each.id)] = "event"
    return list(done.items()), balance


@given(COMMANDS)
def test_every_id_has_one_outcome_versions_have_no_gap_and_the_balance_is_right(rows: Any):
    commands = once([made(row) for row in rows])
    standing, outcomes = run(commands)
    wanted, balance = of_dictionaries(commands)
    found = [
        (each.causationid, "event") if isinstance(each, EventEnvelope) else (each.command.id, each.kind.value)
        for each in outcomes
    ]
    assert found == wanted
    events = [each for each in outcomes if isinstance(each, EventEnvelope)]
    assert [each.version for each in events] == list(range(1, len(events) + 1))
    times = [each.time for each in events]
    assert times == sorted(times)
    state = state_of(Account(), standing)
    assert (state.balance if state.owner else None) == balance


@given(COMMANDS, st.integers(0, 40))
@settings(max_examples=60)
def test_where_it_is_cut_does_not_matter(rows: Any, cut: int):
    commands = [made(row) for row in rows]
    whole, outcomes = run(commands)
    first, before = run(commands[:cut])
    last, after = run(commands[cut:], first)
    assert before + after == outcomes
    assert last == whole


@given(COMMANDS, st.integers(0, 40))
@settings(max_examples=60)
def test_a_state_is_the_fold_of_a_beginning_of_its_events(rows: Any, upto: int):
    standing, states = Standing(), {0: Standing().state}
    events: list[EventEnvelope] = []
    for row in rows:
        standing, found = handle(BANK, standing, made(row))
        events += [each for each in found if isinstance(each, EventEnvelope)]
        states[standing.version] = standing.state
    some = min(upto, len(events))
    assert folded(BANK, events[:some]).state == states[some]
    # And an aggregate that is folded anew from what is kept goes on as if it had never been away.
    assert folded(BANK, events) == standing


def test_an_older_event_is_brought_up_step_by_step():
    class Named(Event, version=3):
        upcasters = {  # noqa: RUF012
            1: lambda data: {"first": data["name"].split()[0], "last": data["name"].split()[1]},
            2: lambda data: {**data, "title": ""},
        }
        first: str
        last: str
        title: str

    assert Named.loaded(1, '{"name": "Ann Lee"}') == Named(first="Ann", last="Lee", title="")
    assert Named.loaded(2, '{"first": "Ann", "last": "Lee"}') == Named(first="Ann", last="Lee", title="")


@pytest.mark.parametrize("data", ["", "  "])
@pytest.mark.parametrize("version", [1, 2])
def test_what_has_no_data_is_said_to_have_none(data: str, version: int):
    class Named(Command, version=2):
        upcasters = {1: dict}  # noqa: RUF012

    with pytest.raises(Unfit, match=r"^it has no data; one without fields has \{\}$"):
        Named.loaded(version, data)
    assert Named.loaded(version, "{}") == Named()


def test_a_chain_with_a_hole_is_refused_before_anything_runs():
    class Named(Event, version=3):
        upcasters = {2: dict}  # noqa: RUF012

    class Nothing(Decider[State]):
        name, commands, events = "nothing", (), (Named,)

        def initial(self) -> State:
            return State()

        def decide(self, state: State, command: Any) -> Rejected:
            del state, command
            return Rejected("no")

        def evolve(self, state: State, event: Any) -> State:
            del event
            return state

    with pytest.raises(ConfigError, match="no upcaster from version 1"):
        Domain("/x", Nothing())


EVENTS = run([asked(1, "Open", owner="ann"), asked(2, "Deposit", amount=5), asked(3, "Withdraw", amount=2)])[
    1
]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schemaversion": 9}, "schema version 9 is newer"),
        ({"type": "account.Vanished"}, "no event 'account.Vanished'"),
        ({"data": "{"}, "does not fit"),
        ({"version": 4}, "follows version 1"),
    ],
)
def test_an_event_that_cannot_be_read_is_named(change: dict[str, Any], said: str):
    with pytest.raises(StateError, match=said) as caught:
        folded(BANK, [EVENTS[0], replace(EVENTS[1], **change)])
    assert caught.value.params["event"] == "account/17/2"


def test_a_version_without_fees_is_read_as_one_with_none():
    old = replace(EVENTS[2], schemaversion=1, data='{"amount": 2, "balance": 3}')
    assert BANK.event(old.type, old.schemaversion, old.data) == Withdrawn(amount=2, fee=0, balance=3)
    assert folded(BANK, [*EVENTS[:2], old]).state == folded(BANK, EVENTS).state


class Broken(Account):
    def decide(self, state: Any, command: Any) -> Any:
        if getattr(command, "amount", 0) == 13:
            raise ZeroDivisionError("thirteen")
        if getattr(command, "amount", 0) == 14:
            return [Opened(owner="x", overdraft=0), "no event"]
        if getattr(command, "amount", 0) == 15:
            return []
        return super().decide(state, command)

    def evolve(self, state: Any, event: Any) -> Any:
        if isinstance(event, Deposited) and event.amount == 16:
            return {"no": "state"}
        return super().evolve(state, event)


@pytest.mark.parametrize(
    ("command", "kind", "said"),
    [
        (
            asked(9, "Deposit", amount=13),
            Kind.FAILED,
            "command c9 (account.Deposit of 17): ZeroDivisionError: thirteen",
        ),
        (asked(9, "Deposit", amount=14), Kind.FAILED, "no event of account"),
        (asked(9, "Deposit", amount=15), Kind.NOTHING, "nothing to do"),
        (asked(9, "Deposit", amount=16), Kind.FAILED, "initial gives AccountState"),
        (asked(9, "Deposit", amount=-1), Kind.INVALID, "amount: Input should be greater than 0"),
        (replace(asked(9, "Deposit", amount=1), schemaversion=7), Kind.INVALID, "schema version 7 is newer"),
        (replace(asked(9, "Deposit", amount=1), type="loan.Take"), Kind.INVALID, "no command 'loan.Take'"),
        (replace(asked(9, "Deposit", amount=1), type=None), Kind.INVALID, "the command has no type"),
        (replace(asked(9, "Deposit", amount=1), subject=None), Kind.INVALID, "the command has no subject"),
        (replace(asked(9, "Deposit", amount=1), id=None), Kind.INVALID, "the command has no id"),
        (
            replace(asked(9, "Deposit", amount=1), expectedversion=5),
            Kind.CONFLICT,
            "expects version 5, and it is at 1",
        ),
        (replace(asked(9, "Deposit", amount=1), data="{"), Kind.INVALID, "does not fit"),
    ],
)
def test_what_cannot_be_decided_is_refused_once_and_changes_nothing(
    command: CommandEnvelope, kind: Kind, said: str
):
    domain = Domain("/bank", Broken())
    before, _ = handle(domain, Standing(), asked(1, "Open", owner="ann"))
    after, (refusal,) = handle(domain, before, command)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.version) == (kind, 1)
    assert said in refusal.reason
    assert after == before
    assert handle(domain, after, asked(10, "Deposit", amount=1))[0].version == 2


def test_a_late_command_is_booked_after_what_was_decided_before_it():
    _, (_, late) = run([asked(1, "Open", at=60, owner="ann"), asked(2, "Deposit", at=10, amount=5)])
    assert late.time == NOON + timedelta(minutes=60)


def test_envelopes_are_the_same_after_the_wire():
    for each in EVENTS:
        assert EventEnvelope.from_json(json.loads(json.dumps(each.as_json()))) == each


def test_a_saga_asks_the_same_whenever_it_is_asked():
    saga = Transfers()
    start = CommandEnvelope(
        "t1", "transfer.Start", "t1", NOON, '{"sender": "a", "receiver": "b", "amount": 5}'
    )
    _, (started,) = handle(BANK, Standing(), start)
    assert isinstance(started, EventEnvelope)
    (debit,) = after_event(saga, BANK, started)
    assert (debit.id, debit.type, debit.subject, debit.time) == ("t1/debit", "account.Debit", "a", NOON)
    assert (debit.causationid, debit.correlationid) == (started.id, "t1")
    assert list(after_event(saga, BANK, started)) == [debit]
    _, (refusal,) = handle(BANK, Standing(), debit)
    assert isinstance(refusal, Refusal)
    (fail,) = after_refusal(saga, BANK, refusal)
    assert (fail.id, json.loads(fail.data)) == ("t1/fail", {"reason": "there is no such account"})


class Weigh(Command):
    kilos: float = 0.0
    why: str = "too heavy"


class Weighed(Event):
    kilos: float


class Scales(State):
    last: tuple[Any, ...] = ()


class Scale(Decider[Scales]):
    name = "scale"
    commands = (Weigh,)
    events = (Weighed,)

    def initial(self) -> Scales:
        return Scales()

    def decide(self, state: Scales, command: Any) -> Any:
        del state
        if command.kilos > 100:
            return Rejected(ValueError(command.why))  # type: ignore[arg-type]  # what people write
        return [Weighed(kilos=float("nan") if command.kilos < 0 else command.kilos)]

    def evolve(self, state: Scales, event: Any) -> Scales:
        del state
        return Scales(last=((1, 2),)) if event.kilos == 13 else Scales(last=(event.kilos,))


def weighed(kilos: float) -> Any:
    command = CommandEnvelope("w1", "scale.Weigh", "s", NOON, json.dumps({"kilos": kilos}))
    _, (made,) = handle(Domain("/scales", Scale()), NEW, command)
    return made


def test_what_would_not_come_back_from_the_store_as_it_was_is_no_fact():
    assert weighed(12.0).type == "scale.Weighed"
    for kilos, what in ((-1.0, "Weighed"), (13.0, "Scales")):
        refused = weighed(kilos)
        assert refused.kind is Kind.FAILED
        assert f"{what}(" in refused.reason
        assert "does not come back from its JSON" in refused.reason


def test_a_reason_is_a_text_whatever_was_given():
    assert weighed(101.0).reason == "too heavy"
