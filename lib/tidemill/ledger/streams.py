"""Where a pipeline's stream began to read a queue of RabbitMQ, and which queue that was.

``streams.json`` beside the checkpoint holds it, by input. Spark keeps the offsets of its last hundred batches; the first
batch's, where a stream began, is needed for as long as history is read. RabbitMQ gives a queue no identity that outlasts
its name, so one record is kept in mind: at its offset stands another where the queue was made anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


@dataclass(frozen=True, slots=True)
class Begun:
    """The queue, and the offset of the first record that was read or is to be.

    ``last``: the offset of the newest record that a batch has read, and ``digest`` the SHA-256 of its body.
    """

    queue: str
    offset: int
    last: int | None = None
    digest: str | None = None


def read(state: str) -> dict[str, Begun]:
    """What is known, by input. Raises :class:`StateError` when the file is damaged."""
    path = _path(state)
    try:
        return {name: Begun(**each) for name, each in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError):
        raise _lost(path, "is damaged") from None


def begun(state: str, name: str) -> Begun:
    """Where the stream of one input began. Raises :class:`StateError` when that is not known."""
    found = read(state).get(name)
    if found is None:
        raise _lost(_path(state), f"does not say where the stream of {name} began")
    return found


def write(state: str, name: str, found: Begun) -> None:
    """Keep where the stream of one input began, whole or not at all."""
    known = read(state)
    if known.get(name) != found:
        values = {each: asdict(begin) for each, begin in (known | {name: found}).items()}
        replace_text(_path(state), json.dumps(values, indent=1, sort_keys=True))


def _lost(path: Place, what: str) -> StateError:
    return StateError(
        f"{path} {what}",
        next_step="restore it; without it history is not known, and the pipeline starts anew on a new table",
        file=str(path),
    )


def _path(state: str) -> Place:
    return place(state) / "streams.json"
