"""What a pipeline's stream has stored for its ordered fold: ``folds.json`` beside the checkpoint.

Blobs in the state store are read with the schema they were written with, whenever that was. So the file lists every
schema that was in use since the stream began, and how the keys are spread. A stream that begins anew keeps nothing of what was
stored before: what it begins with has a description of its own, in its folder, and that takes this one's place.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place

_FILE, OF_SEED = "folds.json", "_FOLD.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """``key`` and ``buckets`` as they were when the stream began; the fields of states and of rows, a type by name. ``zero``:
    what each field of a state is at first, as a text. ``most``: how many buckets the store has had at some time.
    """

    key: tuple[str, ...]
    buckets: int
    states: tuple[dict[str, str], ...]
    rows: tuple[dict[str, str], ...]
    zero: dict[str, str] = field(default_factory=dict)
    most: int = 0

    @property
    def ever(self) -> int:
        """How many buckets may hold something, of then or of now."""
        return max(self.most, self.buckets)


def read(state: str) -> Stored | None:
    """What is stored; None when nothing is known. Raises :class:`StateError` when the file is damaged."""
    return _read(place(state) / _FILE)


def write(state: str, stored: Stored) -> None:
    """Keep it, whole or not at all."""
    replace_text(place(state) / _FILE, _text(stored))


def read_seed(folder: str) -> Stored | None:
    """What a stream stores that begins anew with what lies in a folder; None of before that was kept there."""
    return _read(place(folder) / OF_SEED)


def write_seed(folder: str, stored: Stored) -> None:
    """Keep it there."""
    (place(folder) / OF_SEED).write_text(_text(stored), encoding="utf-8")


def _read(path: Place) -> Stored | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Stored(
            tuple(values["key"]),
            int(values["buckets"]),
            tuple(values["states"]),
            tuple(values["rows"]),
            dict(values.get("zero", {})),
            int(values.get("most", 0)),
        )
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise StateError(f"{path} is damaged", next_step="restore it", file=str(path)) from None


def _text(stored: Stored) -> str:
    return json.dumps(asdict(stored), indent=1, sort_keys=True)
