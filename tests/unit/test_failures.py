"""What Spark passes on of an error in a process of its own, as tidemill's error."""

from __future__ import annotations

from pathlib import Path

from tidemill.config import parse_pipeline
from tidemill.errors import TransformError
from tidemill.execution.failures import explained
from tidemill.model import Pipeline

LED_TO = """Traceback (most recent call last):
tidemill.errors.TransformError: fold F: step raised ValueError: no x, for key user='x', at at=2024-05-02T11:00:00+00:00
  next: correct the fold or the row

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
tidemill.errors.TransformError: fold F: failed raised RuntimeError: no, for key user='x', at at=2024-05-02T11:00:00+00:00
  next: correct failed
 SQLSTATE: 38000
\tat org.apache.spark.TaskContextImpl.killTaskIfInterrupted(TaskContextImpl.scala:342)
"""


def pipeline(root: Path) -> Pipeline:
    values = {
        "name": "visits",
        "source": {"files": {"path": "in", "format": "json", "schema": "user STRING, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "transform": lambda events: events,
        "sink": {"delta": {"path": "out"}},
    }
    return parse_pipeline(values, root)


def test_of_errors_that_led_to_each_other_the_last_is_the_run_s(tmp_path: Path):
    found = explained(RuntimeError(LED_TO), pipeline(tmp_path))
    assert isinstance(found, TransformError)
    assert found.message.startswith("visits: fold F: failed raised RuntimeError: no, for key user='x'")
    assert found.next_step == "correct failed"
