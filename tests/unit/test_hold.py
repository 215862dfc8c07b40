"""A stream of upserts waits between two batches as long as a living swap asks it to."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from tidemill.execution.hold import hold, wait_while_held
from tidemill.model import Pipeline


def pipeline(root: Path, mode: str = "upsert") -> Pipeline:
    of_mode = {"mode": "upsert", "key": ["id"], "order_by": ["at"]} if mode == "upsert" else {}
    return Pipeline.model_validate(
        {
            "name": "model",
            "source": {"delta": {"path": str(root / "log")}},
            "event_time": {"column": "at"},
            "interval": "all",
            "sink": {"delta": {"path": str(root / "table"), **of_mode}},
        }
    )


class Waiting:
    """A stream at the start of a batch, in a thread."""

    def __init__(self, model: Pipeline) -> None:
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=wait_while_held, args=(model, self.stopping))
        self.thread.start()

    def goes_on(self, within: float) -> bool:
        self.thread.join(within)
        return not self.thread.is_alive()


def test_nobody_asks_and_nobody_waits(tmp_path: Path):
    assert Waiting(pipeline(tmp_path)).goes_on(5)


def test_a_stream_waits_for_the_swap_that_asks(tmp_path: Path):
    model = pipeline(tmp_path)

    with hold(model, "a-run"):
        waiting = Waiting(model)
        assert not waiting.goes_on(0.3)
    assert waiting.goes_on(5)


def test_a_stream_that_is_to_stop_waits_no_longer(tmp_path: Path):
    model = pipeline(tmp_path)

    with hold(model, "a-run"):
        waiting = Waiting(model)
        waiting.stopping.set()
        assert waiting.goes_on(5)


def test_who_asked_and_died_holds_nobody_up(tmp_path: Path):
    model = pipeline(tmp_path)
    with hold(model, "a-run"):
        path = Path(model.table.state_path) / "hold.lease"
        left = json.loads(path.read_text())
    path.write_text(json.dumps(left | {"started": 1.0}))  # another process has its number now

    assert Waiting(model).goes_on(5)
    # And the next to ask takes its place.
    with hold(model, "another-run"):
        assert not Waiting(model).goes_on(0.2)


def test_a_stream_that_appends_is_never_held(tmp_path: Path):
    with hold(pipeline(tmp_path), "a-run"):
        assert Waiting(pipeline(tmp_path, "append")).goes_on(5)


def test_who_lives_and_does_not_renew_it_holds_nobody_up(tmp_path: Path):
    model = pipeline(tmp_path)
    with hold(model, "a-run"):
        path = Path(model.table.state_path) / "hold.lease"
        left = json.loads(path.read_text())
        path.write_text(json.dumps(left | {"until": "2024-05-01T00:00:00+00:00"}))

        assert Waiting(model).goes_on(5)
