"""What a pipeline is: frozen values, validated once, knowing no Spark."""

from __future__ import annotations

from tidemill.model.pipeline import SINGLE_INPUT, IntervalSpec, Pipeline
from tidemill.model.sink import DeltaSink, Gate, Sink
from tidemill.model.source import DeltaSource, EventTime, FilesSource, Input
from tidemill.model.transform import Step
from tidemill.model.trigger import Trigger

__all__ = [
    "SINGLE_INPUT",
    "DeltaSink",
    "DeltaSource",
    "EventTime",
    "FilesSource",
    "Gate",
    "Input",
    "IntervalSpec",
    "Pipeline",
    "Sink",
    "Step",
    "Trigger",
]
