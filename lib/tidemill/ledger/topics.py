"""Which topics a pipeline's stream has read, by the ids that their broker gave them: one made anew has another.

``topics.json`` beside the checkpoint holds, by input, the id of each topic that is named or was read; it is there before the
first batch that reads a topic is published. An empty id is of a broker that gives none, or is whoever's word for it that the
topic was not made anew: the next start takes the id that it finds. Where the file is lost that word is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

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
            next_step="remove it; the next start says what to write instead, if none of the topics was made anew",
            file=str(path),
        ) from None


def write(state: str, name: str, ids: Mapping[str, str]) -> None:
    """Keep the ids of one input's topics, whole or not at all."""
    known = read(state)
    if known.get(name, {}) != ids:
        replace_text(_path(state), json.dumps(known | {name: dict(ids)}, indent=1, sort_keys=True))


def check_known(state: str, name: str, topics: Iterable[str], now: Mapping[str, str]) -> None:
    """Raise :class:`StateError` when an input has read topics of which ``now`` holds the ids, and theirs are not known.

    Nothing tells then whether they were made anew since.
    """
    known = read(state).get(name, {})
    lacking = sorted(topic for topic in topics if topic not in known and topic in now)
    if lacking:
        several = f"topics {', '.join(lacking)} were" if len(lacking) > 1 else f"topic {lacking[0]} was"
        entry = json.dumps({name: dict.fromkeys(lacking, "")})
        raise StateError(
            f"{several} read for input {name}, and {_path(state)} does not hold by which id: nothing tells whether one was "
            "made anew since, with other records at the offsets that were read",
            next_step=f"if none was, add {entry} to that file, and start again; else start on a new table and checkpoint",
            input=name,
            topics=tuple(lacking),
        )


def _path(state: str) -> Place:
    return place(state) / "topics.json"
