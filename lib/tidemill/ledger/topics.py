"""Which topics a pipeline's stream has read, by the ids that their broker gave them: one made anew has another.

``topics.json`` beside the checkpoint holds, by input, each topic's id. Lost, it is written again at the next start; what
was made anew before that is then not noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


def read(state: str) -> dict[str, dict[str, str]]:
    """The ids by input and topic. Raises :class:`StateError` when the file is damaged."""
    path = _path(state)
    try:
        return {name: dict(ids) for name, ids in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError):
        raise StateError(
            f"{path} is damaged",
            next_step="remove it, if none of the topics was made anew; the next start writes it again",
            file=str(path),
        ) from None


def write(state: str, name: str, ids: Mapping[str, str]) -> None:
    """Keep the ids of one input's topics, whole or not at all."""
    known = read(state)
    if known.get(name, {}) != ids:
        replace_text(_path(state), json.dumps(known | {name: dict(ids)}, indent=1, sort_keys=True))


def _path(state: str) -> Place:
    return place(state) / "topics.json"
