"""Event sourcing: commands are decided, one aggregate at a time, and what was decided is kept for ever.

A project writes a :class:`Decider` for each type of aggregate; a pipeline's step ``decide`` runs a :class:`Domain` of them
over a stream of commands, into an event store. Nothing here knows Spark.
"""

from __future__ import annotations

from tidemill.eventsourcing.decider import Decider, Domain, Rejected
from tidemill.eventsourcing.envelope import CommandEnvelope, EventEnvelope
from tidemill.eventsourcing.interpreter import Kind, Refusal, Standing, folded, handle
from tidemill.eventsourcing.messages import Command, Event, State
from tidemill.eventsourcing.saga import Ask, Saga

__all__ = [
    "Ask",
    "Command",
    "CommandEnvelope",
    "Decider",
    "Domain",
    "Event",
    "EventEnvelope",
    "Kind",
    "Refusal",
    "Rejected",
    "Saga",
    "Standing",
    "State",
    "folded",
    "handle",
]
