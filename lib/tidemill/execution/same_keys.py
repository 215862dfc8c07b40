"""Whether the keys of persons are those that a pipeline has sealed with: lost ones would be made anew, without a word.

Beside its checkpoint a pipeline notes what each of its stores of keys is named by, and who was erased in it, as digests that only
who has the store can compare. Where the store is not there any more, or is another, nothing is sealed, opened or erased: what is in
the tables could never be read again, and who is erased in a new store is readable with the old one. Where it is the one of
before, but persons who were erased have keys again, or may get new ones, they are to be erased again before anything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.erasure.keys import NOT_THERE, KeyStore
from tidemill.erasure.stores import key_store
from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.storage import Place, place

_MOST = 10


@dataclass(frozen=True, slots=True)
class _Noted:
    """A store by its name; the digests of those who were erased in it."""

    name: str
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Back:
    """A store was put back from before some were erased: ``who`` of them has a key again, and how many ``others`` may get one."""

    keys: str
    who: tuple[str, ...]
    others: int

    def __str__(self) -> str:
        """What is wrong, in a line."""
        count = len(self.who) + self.others
        return f"the keys {self.keys} are of a time before {count} of the persons were erased"


def stores_of(pipeline: Pipeline, only: str | None = None) -> dict[str, KeyStore]:
    """A pipeline's stores of keys, by what the configuration says of them, or ``only`` one. Raises as :func:`key_store`."""
    said = _roots(pipeline)
    return {keys: key_store(keys, said[keys]) for keys in sorted(said) if only in (None, keys)}


def _roots(pipeline: Pipeline) -> dict[str, str]:
    return {each.keys: each.root for each in (one.personal for one in pipeline.inputs.values()) if each}


def check_keys(pipeline: Pipeline, *, note: bool = True) -> None:
    """Raise :class:`StateError` where keys are not those of before; ``note`` what they are, where nothing is known yet.

    Stores that have no name are passed over; of those that do not tell whom they know it is not seen that they went back.
    """
    backs = check_stores(pipeline, note=note)
    for each in backs:
        again = [f"tidemill erase {who}" for who in each.who[:_MOST]]
        more = len(each.who) + each.others - len(again)
        raise StateError(
            f"{pipeline.name}: {each}: whose fields were unreadable could be read again",
            next_step="erase them again: "
            + "; ".join(
                [
                    *again,
                    *([f"and {more} more" if again else f"{more} whom it does not name"] if more else []),
                ]
            )
            + f". Where nobody knows who they were, put a newer backup there, or remove {_path(pipeline)} to go on without them",
            keys=each.keys,
        )


def check_stores(pipeline: Pipeline, *, note: bool = False, only: str | None = None) -> tuple[Back, ...]:
    """As :func:`check_keys`, of all stores or ``only`` one; gives those that went back, instead of raising for them."""
    stores = stores_of(pipeline, only)
    known = _read(pipeline) if stores else {}
    fresh, backs = dict(known), list[Back]()
    for said, store in stores.items():
        named = store.named()
        stood = known.get(said) or _of_another_path(known, _roots(pipeline), named)
        if stood is not None and named not in (None, stood.name):
            raise _not_those(pipeline, said, named)
        if note and named == NOT_THERE:
            store.keys([])  # makes it
            named = store.named()
        if not named:
            continue
        before = frozenset[str]() if stood is None else stood.erased
        now = _digests(named, store.subjects(erased=True) or ())
        if before - now.keys():
            backs.append(_back(said, store, named, before - now.keys()))
        fresh[said] = _Noted(named, before | now.keys())
    if note and fresh != known:
        _write(pipeline, fresh)
    return tuple(backs)


def note_erased(pipeline: Pipeline) -> tuple[Back, ...]:
    """Note who is erased by now, where the pipeline has noted what its stores are; as :func:`check_stores`."""
    return check_stores(pipeline, note=bool(_read(pipeline)))


def noted_as_erased(pipeline: Pipeline, subject: str) -> bool:
    """Whether a pipeline has noted that this person was erased, in a store that may not know of it any more."""
    return any(each.erased & _digests(each.name, [subject]).keys() for each in _read(pipeline).values())


@dataclass(frozen=True, slots=True)
class SameKeys:
    """The stores of a live stream as they were when it began: asked once a batch, for the name alone."""

    pipeline: Pipeline
    stores: Mapping[str, tuple[KeyStore, str | None]]

    @classmethod
    def of(cls, pipeline: Pipeline) -> SameKeys:
        """As they are now."""
        return cls(pipeline, {said: (store, store.named()) for said, store in stores_of(pipeline).items()})

    def check(self) -> None:
        """Raise :class:`StateError` where one is not there any more, or another."""
        for said, (store, name) in self.stores.items():
            now = store.named()
            if now != name:
                raise _not_those(self.pipeline, said, now)


def _not_those(pipeline: Pipeline, said: str, named: str | None) -> StateError:
    what = "not there" if named == NOT_THERE else "another store"
    return StateError(
        f"{pipeline.name}: the keys {said} are {what}, and {pipeline.table.path} holds what was sealed with others",
        next_step=f"put the file back from a backup; where the keys are lost for good, what was sealed with them is too: remove "
        f"{_path(pipeline)} to go on with new ones",
        keys=said,
    )


def _of_another_path(known: Mapping[str, _Noted], said: Iterable[str], named: str | None) -> _Noted | None:
    """A store that the pipeline had, where the one that it names now was never noted: it may have been moved, and has its name."""
    gone = [noted for path, noted in known.items() if path not in set(said)]
    moved = next((each for each in gone if each.name == named), None)
    return moved or next(iter(gone), None)


def _back(said: str, store: KeyStore, named: str, missing: frozenset[str]) -> Back:
    found = _digests(named, store.subjects(erased=False) or ())
    who = sorted(found[each] for each in missing & found.keys())
    return Back(said, tuple(who), len(missing) - len(who))


def _digests(named: str, subjects: Iterable[str]) -> dict[str, str]:
    return {hashlib.sha256(f"{named}\0{each}".encode()).hexdigest()[:20]: each for each in subjects}


def _read(pipeline: Pipeline) -> dict[str, _Noted]:
    path = _path(pipeline)
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # Before who was erased was noted, it was the name alone.
    return {
        said: _Noted(each) if isinstance(each, str) else _Noted(each["name"], frozenset(each["erased"]))
        for said, each in body.items()
    }


def _write(pipeline: Pipeline, noted: Mapping[str, _Noted]) -> None:
    body = {said: {"name": each.name, "erased": sorted(each.erased)} for said, each in noted.items()}
    replace_text(_path(pipeline), json.dumps(body))


def _path(pipeline: Pipeline) -> Place:
    return place(pipeline.table.state_path) / "keys.json"
