"""What a pipeline's stream has stored for its ordered fold: ``folds.json`` beside the checkpoint.

Blobs in the state store are read with the schema they were written with, whenever that was. So the file lists every
schema that was in use since the stream began, and how the keys are spread, which never changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


@dataclass(frozen=True, slots=True)
class Stored:
    """``key`` and ``buckets`` as they were at the first batch; the fields of states and of rows, a type by name. ``zero``:
    what each field of a state is at first, as a text.
    """

    key: tuple[str, ...]
    buckets: int
    states: tuple[dict[str, str], ...]
    rows: tuple[dict[str, str], ...]
    zero: dict[str, str] = field(default_factory=dict)


def read(state: str) -> Stored | None:
    """What is stored; None when nothing is known. Raises :class:`StateError` when the file is damaged."""
    path = _path(state)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Stored(
            tuple(values["key"]),
            int(values["buckets"]),
            tuple(values["states"]),
            tuple(values["rows"]),
            dict(values.get("zero", {})),
        )
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise StateError(f"{path} is damaged", next_step="restore it", file=str(path)) from None


def write(state: str, stored: Stored) -> None:
    """Keep it, whole or not at all."""
    replace_text(_path(state), json.dumps(asdict(stored), indent=1, sort_keys=True))


def _path(state: str) -> Place:
    return place(state) / "folds.json"
