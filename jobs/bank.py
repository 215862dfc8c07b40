"""A bank: accounts and transfers between them, as deciders. Amounts are in cents.

A transfer is a saga over two accounts: debit the one, credit the other; where the credit is refused, refund the first.
What of it runs on Spark is in :mod:`jobs.bank_flows`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from jobs.bank_fees import fee
from tidemill.eventsourcing import (
    Ask,
    Command,
    Decider,
    Domain,
    Event,
    EventEnvelope,
    Refusal,
    Rejected,
    Saga,
    State,
)


class Open(Command):
    """Open an account."""

    owner: str
    overdraft: int = Field(default=0, ge=0)


class Deposit(Command):
    """Pay in."""

    amount: int = Field(gt=0)


class Withdraw(Command):
    """Take out; it may cost a fee."""

    amount: int = Field(gt=0)


class Debit(Command):
    """A transfer's first step, at the sender."""

    transfer: str
    receiver: str
    amount: int = Field(gt=0)


class Credit(Command):
    """A transfer's second step, at the receiver."""

    transfer: str
    sender: str
    amount: int = Field(gt=0)


class Refund(Command):
    """The way back, at the sender."""

    transfer: str
    amount: int = Field(gt=0)
    reason: str


class Opened(Event):
    """An account is there."""

    owner: str
    overdraft: int


class Deposited(Event):
    """Money came."""

    amount: int
    balance: int


def _without_fee(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "fee": 0}


class Withdrawn(Event, version=2):
    """Money went. Before version 2 there were no fees."""

    upcasters = {1: _without_fee}  # noqa: RUF012  # pydantic keeps it as a class variable

    amount: int
    fee: int
    balance: int


class Debited(Event):
    """Money went to another account."""

    transfer: str
    receiver: str
    amount: int
    balance: int


class Credited(Event):
    """Money came from another account."""

    transfer: str
    sender: str
    amount: int
    balance: int


class Refunded(Event):
    """Money of a transfer that failed came back."""

    transfer: str
    amount: int
    balance: int
    reason: str


class AccountState(State):
    """An account; ``owner`` is None before it is opened."""

    owner: str | None = None
    balance: int = 0
    overdraft: int = 0


class Account(Decider[AccountState]):
    """An account never goes below its overdraft."""

    name = "account"
    commands = (Open, Deposit, Withdraw, Debit, Credit, Refund)
    events = (Opened, Deposited, Withdrawn, Debited, Credited, Refunded)

    def initial(self) -> AccountState:
        """No account yet."""
        return AccountState()

    def decide(self, state: AccountState, command: Any) -> Iterable[Event] | Rejected:
        """What an account does when it is asked."""
        if isinstance(command, Open):
            if state.owner is not None:
                return Rejected("the account is open already")
            return [Opened(owner=command.owner, overdraft=command.overdraft)]
        if state.owner is None:
            return Rejected("there is no such account")
        if isinstance(command, (Withdraw, Debit)):
            return _taken_out(state, command)
        return [_paid_in(state.balance + command.amount, command)]

    def evolve(self, state: AccountState, event: Any) -> AccountState:
        """The account after an event."""
        if isinstance(event, Opened):
            return AccountState(owner=event.owner, overdraft=event.overdraft)
        return state.model_copy(update={"balance": event.balance})


def _taken_out(state: AccountState, command: Withdraw | Debit) -> Iterable[Event] | Rejected:
    charged = fee(command.amount) if isinstance(command, Withdraw) else 0
    wanted, there = command.amount + charged, state.balance + state.overdraft
    if wanted > there:
        return Rejected(f"{wanted} are wanted, and there are {there}")
    left = state.balance - wanted
    if isinstance(command, Withdraw):
        return [Withdrawn(amount=command.amount, fee=charged, balance=left)]
    return [
        Debited(transfer=command.transfer, receiver=command.receiver, amount=command.amount, balance=left)
    ]


def _paid_in(balance: int, command: Deposit | Credit | Refund) -> Event:
    match command:
        case Deposit(amount=amount):
            return Deposited(amount=amount, balance=balance)
        case Credit(transfer=transfer, sender=sender, amount=amount):
            return Credited(transfer=transfer, sender=sender, amount=amount, balance=balance)
        case Refund(transfer=transfer, amount=amount, reason=reason):
            return Refunded(transfer=transfer, amount=amount, balance=balance, reason=reason)


class Start(Command):
    """Send money."""

    sender: str
    receiver: str
    amount: int = Field(gt=0)


class Complete(Command):
    """A transfer's last step."""


class Fail(Command):
    """A transfer's last step, when it does not work out."""

    reason: str


class Started(Event):
    """A transfer is under way."""

    sender: str
    receiver: str
    amount: int


class Completed(Event):
    """The money has arrived."""


class Failed(Event):
    """The money is where it was."""

    reason: str


class TransferState(State):
    """How far a transfer is: new, started, completed, failed."""

    stage: str = "new"


class Transfer(Decider[TransferState]):
    """A transfer ends once, one way or the other."""

    name = "transfer"
    commands = (Start, Complete, Fail)
    events = (Started, Completed, Failed)

    def initial(self) -> TransferState:
        """Nothing is known of it."""
        return TransferState()

    def decide(self, state: TransferState, command: Any) -> Iterable[Event] | Rejected:
        """What a transfer does when it is asked."""
        if isinstance(command, Start):
            if state.stage != "new":
                return Rejected(f"the transfer is {state.stage}")
            if command.sender == command.receiver:
                return Rejected("sender and receiver are one account")
            return [Started(sender=command.sender, receiver=command.receiver, amount=command.amount)]
        if state.stage != "started":
            return Rejected(f"the transfer is {state.stage}")
        return [Failed(reason=command.reason)] if isinstance(command, Fail) else [Completed()]

    def evolve(self, state: TransferState, event: Any) -> TransferState:
        """The transfer after an event."""
        del state
        return TransferState(stage=type(event).__name__.lower())


class Transfers(Saga):
    """Debit, credit, done; and back where the credit is refused."""

    def on_event(self, event: Any, envelope: EventEnvelope) -> Iterable[Ask]:
        """The next step."""
        match event:
            case Started():
                transfer = envelope.subject
                debit = Debit(transfer=transfer, receiver=event.receiver, amount=event.amount)
                return [Ask(f"{transfer}/debit", event.sender, debit)]
            case Debited(transfer=transfer):
                credit = Credit(transfer=transfer, sender=envelope.subject, amount=event.amount)
                return [Ask(f"{transfer}/credit", event.receiver, credit)]
            case Credited(transfer=transfer):
                return [Ask(f"{transfer}/complete", transfer, Complete())]
            case Refunded(transfer=transfer):
                return [Ask(f"{transfer}/fail", transfer, Fail(reason=event.reason))]
        return ()

    def on_refusal(self, command: Any, refusal: Refusal) -> Iterable[Ask]:
        """The way back."""
        match command:
            case Debit(transfer=transfer):
                return [Ask(f"{transfer}/fail", transfer, Fail(reason=refusal.reason))]
            case Credit(transfer=transfer, sender=sender, amount=amount):
                refund = Refund(transfer=transfer, amount=amount, reason=refusal.reason)
                return [Ask(f"{transfer}/refund", sender, refund)]
        return ()


BANK = Domain("/bank", Account(), Transfer())
