"""Which schemas a pipeline has learnt from its registries: ``schemas.json`` beside the checkpoint.

It holds, by input and id, the schema as the registry gave it. The stream and history decode with these and no others, so
that they agree whatever the registry does later. An id is put there before a batch is published that was decoded with it.

``late`` is an id whose records had been set aside before it was learnt: what was written before then lacks them. Such ids
are part of the fingerprint, so that those intervals are stale. Lost, the file is made anew as values come; rows that were
written by late ids are stale then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


@dataclass(frozen=True, slots=True)
class Writer:
    """What values of one id were written with: an Avro schema's text, or why it is of no use."""

    schema: str
    unfit: str = ""
    late: bool = False


Writers = Mapping[int, Writer]


def read(state: str) -> dict[str, dict[int, Writer]]:
    """The schemas by input and id. Raises :class:`StateError` when the file is damaged."""
    path = _path(state)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return {name: {int(i): Writer(**each) for i, each in found.items()} for name, found in body.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError):
        raise StateError(
            f"{path} is damaged",
            next_step="put it back; or remove it, and backfill every interval of the table after the next run",
            file=str(path),
        ) from None


def add(state: str, name: str, learnt: Writers) -> None:
    """Keep schemas of one input, whole or not at all. One that is there already stays as it is."""
    known = read(state)
    merged = {**learnt, **known.get(name, {})}
    body = {**known, name: merged}
    plain = {of: {str(i): asdict(each) for i, each in sorted(found.items())} for of, found in body.items()}
    replace_text(_path(state), json.dumps(plain, indent=1, sort_keys=True))


def sealed(code: str, state: str) -> str:
    """The fingerprint of a pipeline whose code has the fingerprint ``code``: another one for each late id."""
    late = sorted((name, i) for name, found in read(state).items() for i, each in found.items() if each.late)
    return hashlib.sha256(json.dumps([code, late]).encode()).hexdigest()[:16] if late else code


def _path(state: str) -> Place:
    return place(state) / "schemas.json"
