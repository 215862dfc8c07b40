"""How far a pipeline's bootstrap has come: what it decided before its stream began, and whether the stream stands at the pin.

``bootstrap.json`` beside the checkpoint holds it. The pin itself is Spark's: the checkpoint's offsets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


@dataclass(frozen=True, slots=True)
class Begun:
    """One bootstrap. ``until``: history's rows lie in intervals before this moment (ISO); None: wherever they lie.

    ``pinned``: the stream has counted all that there was, and stands at its end.
    """

    run: str
    until: str | None
    pinned: bool = False


def read(state: str) -> Begun | None:
    """What is known; None where none has begun. Raises :class:`StateError` when the file is damaged."""
    path = _path(state)
    try:
        return Begun(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise StateError(
            f"{path} is damaged",
            next_step="start anew on a new table and checkpoint: where history ends is not known",
            file=str(path),
        ) from None


def begin(state: str, found: Begun) -> None:
    """Keep what a bootstrap decided, whole or not at all."""
    replace_text(_path(state), json.dumps(asdict(found), indent=1))


def pinned(state: str, found: Begun) -> Begun:
    """Keep that the stream stands at the pin."""
    done = replace(found, pinned=True)
    begin(state, done)
    return done


def forget(state: str) -> None:
    """There was nothing to begin with."""
    _path(state).unlink(missing_ok=True)


def check_done(state: str, pipeline: str) -> None:
    """Raise :class:`StateError` where a bootstrap was interrupted before its stream stood at the pin."""
    found = read(state)
    if found is not None and not found.pinned:
        raise StateError(
            f"{pipeline}: a bootstrap was interrupted before it had seen all of the history",
            next_step=f"go on with it: tidemill bootstrap {pipeline}",
            run=found.run,
        )


def _path(state: str) -> Place:
    return place(state) / "bootstrap.json"
