"""Erase: a person's key goes, and the intervals that hold something of the person are dirty until they are computed again.

First the key: from then on nobody can open what was sealed with it, in tables, states, quarantine, and old versions of them.
Then each pipeline of the project with personal fields reads its inputs once, up to where the table has read them, and the
intervals that rows of the person belong to are marked in the table's log. Tables that hold opened fields still have them
until a backfill; and what was read from those tables is dirty until they were, and it was after them. A crash in between leaves
a key that is gone and marks that are missing: erasing again makes them. So does a store that is lost, or a pipeline whose input
cannot be read: all else is erased and marked, and then all problems are raised as one. An event store's rows are facts, and
stay as they are: sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tidemill.config import Project
from tidemill.erasure.keys import KeyStore
from tidemill.errors import PlanError, StateError, TidemillError
from tidemill.execution.failures import explained
from tidemill.execution.reach import Reached, personal_of, reach
from tidemill.execution.same_keys import check_stores, note_erased, noted_as_erased, stores_of
from tidemill.model import Pipeline
from tidemill.view import downstream

if TYPE_CHECKING:
    from tidemill.engine import Engine


Known = Literal["key", "erased", "unseen"]
"""What was known of a person: a key, an erasure of before, or neither."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of a person's fields. ``keys``: how many keys there were, and are gone (with ``dry_run``: would be).

    ``known``: whether there was a key, or the person was erased before, or nothing was known of them.
    ``backfill``: the pipelines that are to be computed anew, and what reads their tables, in this order. ``maintain``: those of
    them whose old versions may hold opened fields. ``again``: others who were erased once and have keys, as a store was put back.
    """

    keys: int
    pipelines: tuple[Reached, ...]
    dry_run: bool
    backfill: tuple[str, ...] = ()
    maintain: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    known: Known = "key"

    def as_json(self) -> dict[str, Any]:
        """Plain values; not the person's name."""
        return asdict(self)


def erase(
    engine: Engine, subject: str, *, dry_run: bool, unseen: bool, say: Callable[[str], None]
) -> Erasure:
    """See :meth:`tidemill.Engine.erase`."""
    project = engine.project
    pipelines = [each for each in project.pipelines.values() if each.personal]
    if not pipelines:
        raise PlanError(
            "no pipeline of the project has personal fields",
            next_step="say personal at the input whose rows are a person's: see the guide on erasure",
        )
    problems, keys, gone, found = _Problems(), 0, set[str](), list[Reached]()
    stores, every = _stores(pipelines, problems), {said for each in pipelines for said in _said(each)}
    known = _known(stores, pipelines, subject, problems)
    if known == "unseen" and not unseen:
        # Where a store cannot be asked, it may be the one that knows the person.
        raise (
            _incomplete(problems.all, gone, every, dry_run=dry_run)
            if problems.all
            else _never_seen(subject, pipelines)
        )
    for said, store in stores.items():
        with problems.of(f"the keys {said}"):
            keys += store.known([subject]).get(subject) is not None if dry_run else store.erase(subject)
            gone.add(said)
    # An event store may have been given commands that were sealed before, a table hold what was opened before.
    others = [each for each in project.pipelines.values() if not each.personal]
    for each in (*pipelines, *others) if gone else ():
        if each.personal and not gone & _said(each):
            continue  # its keys are as they were
        with problems.of(each):
            running = partial(_running, engine, each)
            made = reach(engine, each, subject, dry_run=dry_run, running=running, say=say)
            found += [made] if made is not None else []
    again = set[str]()
    for each in pipelines:
        if gone & _said(each):
            with problems.of(each):
                backs = check_stores(each) if dry_run else note_erased(each)
                again |= {who for back in backs for who in back.who}
    if problems.all:
        raise _incomplete(problems.all, gone, every, dry_run=dry_run)
    anew = {each.pipeline: each.opens for each in found if each.intervals}
    anew |= {reader: True for each in found for reader in each.beside}
    return Erasure(
        keys=keys,
        pipelines=tuple(found),
        dry_run=dry_run,
        backfill=_in_turn(project, anew),
        maintain=_in_turn(project, [name for name, opens in anew.items() if opens]),
        again=tuple(sorted(again - {subject})),
        known=known,
    )


def _known(
    stores: Mapping[str, KeyStore], pipelines: Iterable[Pipeline], subject: str, problems: _Problems
) -> Known:
    """What the stores know of a person, or pipelines have noted, where a store was put back from before."""
    was_erased = any(noted_as_erased(each, subject) for each in pipelines)
    for said, store in stores.items():
        with problems.of(f"the keys {said}"):
            found = store.known([subject])
            if found.get(subject) is not None:
                return "key"
            was_erased = was_erased or subject in found
    return "erased" if was_erased else "unseen"


def _never_seen(subject: str, pipelines: Iterable[Pipeline]) -> PlanError:
    columns = {one.subject for each in pipelines for one in personal_of(each).values() if one.subject}
    return PlanError(
        f"no key of {subject!r} is known, nor that one was erased: nothing of them was encrypted with these keys",
        next_step=f"check how they are named in {', '.join(sorted(columns)) or 'the inputs'}; to make sure that nothing can be read "
        "that comes later under this name: --unseen",
        known="unseen",
    )


class _Problems:
    """What hindered some of it, while the rest goes on."""

    def __init__(self) -> None:
        self.all: list[str] = []

    @contextmanager
    def of(self, what: Pipeline | str) -> Iterator[None]:
        """Note what is raised."""
        try:
            yield
        except TidemillError as error:
            self.all.append(
                f"{error.message} (next: {error.next_step})" if error.next_step else error.message
            )
        except Exception as error:  # noqa: BLE001  Spark may raise anything where an input cannot be read, a store, too
            text = f"{what}: {error}" if isinstance(what, str) else explained(error, what).message
            self.all.append(text)


def _incomplete(problems: list[str], gone: set[str], stores: set[str], *, dry_run: bool) -> StateError:
    where = "" if gone == stores else f" from {' and '.join(sorted(gone))} alone"
    if dry_run:
        what = "not all that would be reached can be said"
    elif gone:
        what = (
            f"the key is gone{where}, for good; but not all was reached that may hold something of the person"
        )
    else:
        what = "no key was erased"
    several = "".join(f"\n  {each}" for each in dict.fromkeys(problems))
    return StateError(
        f"{what}:{several}",
        next_step="put that right and erase again: what is done already takes no harm",
        key_is_gone=bool(gone) and not dry_run,
        problems=len(problems),
    )


def _stores(pipelines: Iterable[Pipeline], problems: _Problems) -> dict[str, KeyStore]:
    """The stores in which to erase: those that every pipeline knows for those that it has sealed with."""
    found, unfit = dict[str, KeyStore](), set[str]()
    for each in pipelines:
        for said in sorted(_said(each)):
            fits = False
            with problems.of(each):
                check_stores(each, only=said)
                found |= stores_of(each, only=said)
                fits = True
            unfit |= set() if fits else {said}
    return {said: store for said, store in found.items() if said not in unfit}


def _said(pipeline: Pipeline) -> set[str]:
    return {each.keys for each in personal_of(pipeline).values()}


def _running(engine: Engine, pipeline: Pipeline) -> bool:
    return any(status.running for status in engine.status(pipeline.name))


def _in_turn(project: Project, names: Iterable[str]) -> tuple[str, ...]:
    """These pipelines and those that read their tables, at any remove, each after what it reads; not event stores."""
    done: list[str] = []
    seen = set[str]()

    def visit(name: str) -> None:
        if name in seen or project.pipeline(name).recorded:
            return
        seen.add(name)
        for reader in downstream(project, project.pipeline(name)):
            visit(reader)
        done.append(name)

    for name in names:
        visit(name)
    return tuple(reversed(done))


def left_to_do(found: Erasure) -> Iterable[str]:
    """The commands that take what is left of the person out of tables."""
    yield from (f"tidemill erase {who}" for who in found.again)
    yield from (f"tidemill backfill {name} --dirty" for name in found.backfill)
    yield from (f"tidemill maintain {name}" for name in found.maintain)
