"""Whether the keys of persons are those that a pipeline has sealed with: lost ones would be made anew, without a word.

Beside its checkpoint a pipeline notes what each of its stores of keys is named by. Where that is not there any more, or is another,
nothing is sealed, opened or erased: what is in the tables could never be read again, and who is erased in a new store is
readable with the old one.
"""

from __future__ import annotations

import json
from typing import Any

from tidemill.erasure.keys import NOT_THERE, key_store
from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.storage import Place, place


def check_keys(pipeline: Pipeline, *, note: bool = True) -> None:
    """Raise :class:`StateError` where keys are not those of before; ``note`` what they are, where nothing is known yet.

    Stores that have no name are passed over.
    """
    said = sorted({each.personal.keys for each in pipeline.inputs.values() if each.personal is not None})
    known = _read(pipeline) if said else {}
    fresh = dict(known)
    for each in said:
        store = key_store(each)
        named = store.named()
        other = known[each] if each in known else _of_another_path(known, said, named)
        if other is not None and named not in (None, other):
            what = "not there" if named == NOT_THERE else "another store"
            raise StateError(
                f"{pipeline.name}: the keys {each} are {what}, and {pipeline.table.path} holds what was sealed with others",
                next_step=f"put the file back from a backup; where the keys are lost for good, what was sealed with them is too: remove "
                f"{_path(pipeline)} to go on with new ones",
                keys=each,
            )
        if note and named == NOT_THERE:
            store.keys([])  # makes it
            named = store.named()
        if named:
            fresh[each] = named
    if note and fresh != known:
        replace_text(_path(pipeline), json.dumps(fresh))


def _of_another_path(known: dict[str, Any], said: list[str], named: str | None) -> str | None:
    """A store that the pipeline had, where the one that it names now was never noted: it may have been moved, and has its name."""
    gone = [name for path, name in known.items() if path not in said]
    return None if not gone or named in gone else str(gone[0])


def _read(pipeline: Pipeline) -> dict[str, Any]:
    path = _path(pipeline)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _path(pipeline: Pipeline) -> Place:
    return place(pipeline.table.state_path) / "keys.json"
