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
        if each in known and named not in (None, known[each]):
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


def _read(pipeline: Pipeline) -> dict[str, Any]:
    path = _path(pipeline)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _path(pipeline: Pipeline) -> Place:
    return place(pipeline.table.state_path) / "keys.json"
