"""What a pipeline is: frozen values, validated once, knowing no Spark."""

from __future__ import annotations

from tidemill.model.archive import ARCHIVED, Archive
from tidemill.model.pipeline import SINGLE_INPUT, IntervalSpec, Pipeline
from tidemill.model.quality import Action, Expectation, Quality, Suite
from tidemill.model.rabbitmq import RabbitSource
from tidemill.model.records import RecordSource
from tidemill.model.registry import Registry
from tidemill.model.retain import Retain
from tidemill.model.sink import DeltaSink, Gate, Sink
from tidemill.model.source import DeltaSource, EventTime, FilesSource, Input, KafkaSource, Personal, Source
from tidemill.model.store import Store
from tidemill.model.topic import TopicSink
from tidemill.model.transform import Step
from tidemill.model.trigger import Trigger

__all__ = [
    "ARCHIVED",
    "SINGLE_INPUT",
    "Action",
    "Archive",
    "DeltaSink",
    "DeltaSource",
    "EventTime",
    "Expectation",
    "FilesSource",
    "Gate",
    "Input",
    "IntervalSpec",
    "KafkaSource",
    "Personal",
    "Pipeline",
    "Quality",
    "RabbitSource",
    "RecordSource",
    "Registry",
    "Retain",
    "Sink",
    "Source",
    "Step",
    "Store",
    "Suite",
    "TopicSink",
    "Trigger",
]
