"""The tables that a query may name: each pipeline's own, and those beside it whose every row counts. No JVM."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tidemill.config import Project
from tidemill.errors import QueryError
from tidemill.ledger import log
from tidemill.model import Pipeline

QUARANTINE = pa.schema(
    {
        "pipeline": pa.string(),
        "input": pa.string(),
        "reasons": pa.list_(pa.string()),
        "record": pa.string(),
        "file": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "interval": pa.string(),
        "run": pa.string(),
        "batch": pa.int64(),
    }
)
"""The columns of a quarantine: one is made with the first row that is set aside, and is queried before."""


@dataclass(frozen=True, slots=True)
class Named:
    """A table by the name that a query gives it, and what it is ``of`` its pipeline."""

    name: str
    path: str
    pipeline: Pipeline
    of: Literal["table", "quarantine", "rejections"] = "table"

    def before_it_is_made(self) -> pa.Table:
        """What it holds while it is not there: of a pipeline that has run, a quarantine has no rows. Raises :class:`QueryError`."""
        own = self.pipeline.name
        if self.of == "quarantine" and log.exists(self.pipeline.table.path):
            return QUARANTINE.empty_table()
        run = f"run it: tidemill run {own} --available-now"
        if self.of == "rejections" and log.exists(self.pipeline.table.path):
            # Nobody but who took it away knows what it held.
            raise QueryError(f"{self.path} is not there", next_step=f"restore it, or {run}", table=self.name)
        raise QueryError(f"{own} has no table yet", next_step=run, table=self.name)

    def of_past(self) -> str:
        """The next step for whoever asks for a past that is not there."""
        own = self.pipeline.name
        if self.of != "table":
            return "ask for a later moment"
        if self.pipeline.recorded:
            return (
                f"events keep their own time: SELECT ... FROM {own} WHERE \"time\" < TIMESTAMP '2024-05-01'"
            )
        return f"what events up to then say, by today's code: tidemill replay {own} --until TIME --into PATH"


def tables_of(project: Project, names: Iterable[str]) -> Iterator[Named]:
    """The tables that these names mean, in any case. Raises :class:`QueryError` for a name that means none."""
    known = _known(project)
    folded = {name.casefold(): name for name in known}
    for name in sorted({folded.get(each.casefold(), each) for each in names}):
        if name not in known:
            raise _unknown(project, known, name)
        yield known[name]


def _known(project: Project) -> Mapping[str, Named]:
    pipelines, found = project.pipelines.values(), dict[str, Named]()
    for each in pipelines:
        aside = Named(f"{each.name}_quarantine", each.quarantine_path, each, "quarantine")
        refused = Named(f"{each.name}_rejections", each.rejections_path, each, "rejections")
        found |= {one.name: one for one in ((aside, refused) if each.recorded else (aside,))}
    # A pipeline may be named as what another has beside its table.
    return found | {each.name: Named(each.name, each.table.path, each) for each in pipelines}


def _unknown(project: Project, known: Mapping[str, Named], name: str) -> QueryError:
    own, _, of = name.rpartition("_")
    keeper = project.pipelines.get(own)
    if of == "states" and keeper is not None and log.exists(keeper.states_path):
        # Beside the rows that count it has those of chains that were replaced, which only the ledger tells apart.
        return QueryError(
            f"{name} is no table for queries: which of its rows count, the ledger of {own} says",
            next_step=f"tidemill state {own} --at TIME",
            table=name,
        )
    near = difflib.get_close_matches(name, known, n=1)
    tables = ", ".join(sorted(project.pipelines))
    return QueryError(
        f"there is no pipeline {name!r}, whose table a query could read",
        next_step=f"did you mean {near[0]!r}?" if near else f"tables here: {tables}",
        table=name,
    )
