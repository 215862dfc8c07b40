"""The query side: SQL over the tables of a project's pipelines, as they stand or stood. No JVM, and nothing is written.

A query is parsed, and the names of pipelines in it become their tables: each is opened at one version, as Arrow's dataset over
its live files, and DuckDB answers from those alone. It can reach nothing else: no file, no network, no setting.
"""

from __future__ import annotations

import difflib
import json
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
from deltalake.exceptions import DeltaError

from tidemill.config import Project
from tidemill.display.answer import answer_html
from tidemill.errors import QueryError, TidemillError
from tidemill.intervals import parse_moment, utc
from tidemill.ledger import log
from tidemill.sinks import commit
from tidemill.sinks.table import look

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

At = int | str | datetime | None
"""Which past state: a version of the table, a moment, or either as text; None: now."""
_QUOTE = 'a name that is also a word of SQL, such as "at" or "order", goes in double quotes'


@dataclass(frozen=True, slots=True)
class Read:
    """A table that a query names, and the version of it that it saw."""

    name: str
    path: str
    version: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gives. ``arrow`` holds the rows; columns of one name are numbered: ``v``, ``v_1``."""

    arrow: pa.Table
    tables: tuple[Read, ...]
    seconds: float

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.arrow.column_names)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows, as plain values; moments in UTC."""
        return [tuple(row.values()) for row in self.arrow.to_pylist()]

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame."""
        return self.arrow.to_pandas()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "columns": list(self.columns),
            "rows": self.arrow.to_pylist(),
            "tables": {each.name: each.version for each in self.tables},
            "seconds": round(self.seconds, 4),
        }

    def _repr_html_(self) -> str:
        return answer_html(self)


class Tables:
    """A project's tables, open for queries; one that has not changed is not opened again. Threads take turns."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._turn = threading.Lock()
        self._open: dict[tuple[str, int], Any] = {}
        self._newest: dict[str, int] = {}
        self._held: list[duckdb.DuckDBPyConnection] = []
        # An engine often lives as long as its process; the connection must not, or DuckDB's library complains as it goes.
        weakref.finalize(self, self._held.clear)

    def query(self, sql: str, at: At = None) -> Answer:
        """See :meth:`tidemill.Engine.query`."""
        with self._turn:
            began = time.perf_counter()
            connection = self._connection()
            wanted = tuple(self._wanted(_names(connection, sql)))
            for again in (False, True):
                reads = tuple(self._read(name, path, at, alone=len(wanted) == 1) for name, path in wanted)
                try:
                    found = self._answer(connection, sql, reads)
                    return Answer(_numbered(found), reads, time.perf_counter() - began)
                except FileNotFoundError as error:
                    if again:
                        raise _vacuumed(reads) from error
                    # Of a table that was made anew, too: what is open is of the one before.
                    self._open.clear()
                    self._newest.clear()
            raise AssertionError  # the second attempt returned or raised

    def _answer(self, connection: duckdb.DuckDBPyConnection, sql: str, reads: tuple[Read, ...]) -> pa.Table:
        for each in reads:
            connection.register(each.name, self._dataset(each))
        try:
            return connection.sql(sql.strip().rstrip(";")).to_arrow_table()
        except duckdb.Error as error:
            # Arrow's own errors pass through DuckDB as text.
            if "No such file" in str(error):
                raise FileNotFoundError(str(error)) from error
            raise QueryError(_said(error), next_step=_QUOTE) from error
        finally:
            for each in reads:
                connection.unregister(each.name)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if not self._held:
            made = duckdb.connect()
            for setting in (
                "TimeZone = 'UTC'",
                "python_enable_replacements = false",
                "enable_external_access = false",
                "lock_configuration = true",
            ):
                made.execute(f"SET {setting}")
            self._held.append(made)
        return self._held[0]

    def _wanted(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The tables that these names mean. Raises :class:`QueryError` for a name that means none."""
        known = {}
        for pipeline in self._project.pipelines.values():
            known[pipeline.name] = pipeline.table.path
            known[f"{pipeline.name}_quarantine"] = pipeline.quarantine_path
        folded = {name.casefold(): name for name in known}
        for name in sorted({folded.get(each.casefold(), each) for each in names}):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                tables = ", ".join(sorted(self._project.pipelines))
                raise QueryError(
                    f"there is no pipeline {name!r}, whose table a query could read",
                    next_step=f"did you mean {near[0]!r}?" if near else f"tables here: {tables}",
                    table=name,
                )
            yield name, known[name]

    def _read(self, name: str, path: str, at: At, *, alone: bool) -> Read:
        newest = self._newest.get(path)
        if newest is None or not commit.is_newest(path, newest):
            newest = log.last_version(path)
        if newest is None:
            raise QueryError(
                f"{name} has no table yet",
                next_step=f"run it: tidemill run {name} --available-now",
                table=name,
            )
        self._newest[path] = newest
        return Read(name, path, newest if at is None else _version(name, path, at, newest, alone=alone))

    def _dataset(self, read: Read) -> Any:
        key = (read.path, read.version)
        if key not in self._open:
            try:
                found = look(*key).to_pyarrow_dataset()
            except DeltaError as error:
                raise QueryError(
                    f"{read.name} cannot be read at version {read.version}: {error}",
                    next_step="its log no longer reaches back so far, or the table has features that need Spark",
                    table=read.name,
                ) from error
            # A version back in time, and the newest: two a table are enough to keep.
            old = [each for each in self._open if each[0] == read.path]
            for each in old[:-1]:
                del self._open[each]
            self._open[key] = found
        return self._open[key]


def _names(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The tables that a query names. Raises :class:`QueryError` unless it is one SELECT, well formed."""
    ((text,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    parsed: dict[str, Any] = json.loads(text)
    if parsed.get("error"):
        if parsed.get("error_type") == "not implemented":
            raise QueryError(
                "a query only reads: this is no SELECT",
                next_step="what writes is a pipeline's run, backfill or replay",
            )
        raise QueryError(f"not SQL: {parsed.get('error_message')}", next_step=_QUOTE)
    statements = parsed.get("statements") or []
    if len(statements) != 1:
        raise QueryError(
            f"{len(statements)} statements" if statements else "there is no statement",
            next_step="a query is one SELECT",
        )
    nodes = list(_walk(statements))
    aliases = {str(each["key"]) for node in nodes for each in _ctes(node)}
    tables = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    for node in tables:
        if node.get("schema_name") or node.get("catalog_name"):
            path = ".".join(filter(None, (node["catalog_name"], node["schema_name"], node["table_name"])))
            raise QueryError(
                f"{path} is no table here", next_step="a pipeline's name is its table's name: FROM departures"
            )
    return {str(node["table_name"]) for node in tables} - aliases


def _walk(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _walk(each)


def _ctes(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = node.get("cte_map")
    return list(found.get("map", ())) if isinstance(found, dict) else []


def _version(name: str, path: str, at: int | str | datetime, newest: int, *, alone: bool) -> int:
    if isinstance(at, str) and at.strip().isdecimal():
        at = int(at)
    if isinstance(at, int):
        if not alone:
            raise QueryError(
                "a version is one table's, and the query reads several or none",
                next_step="give a moment: --at 2024-05-01T12:00:00Z",
            )
        oldest = log.first_version(path) or 0
        if not 0 <= at <= newest:
            raise QueryError(
                f"{name} has no version {at}",
                next_step=f"it has versions {oldest} to {newest}",
                table=name,
            )
        return at
    try:
        moment = parse_moment(at) if isinstance(at, str) else utc(at)
    except TidemillError:
        raise QueryError(
            f"{at!r} is neither a moment nor a version",
            next_step="write 2024-05-01, 2024-05-01T13:30:00Z or 17",
        ) from None
    found = log.version_at(path, int(moment.timestamp() * 1000))
    if found is None:
        raise QueryError(
            f"{name} was not there on {moment:%Y-%m-%dT%H:%M:%SZ}, or its log does not reach back so far",
            next_step=f"what events up to then say, by today's code: tidemill replay {name} --until TIME --into PATH",
            table=name,
        )
    return found


def _vacuumed(reads: Iterable[Read]) -> QueryError:
    tables = ", ".join(f"{each.name} at version {each.version}" for each in reads)
    return QueryError(
        f"files of {tables} are gone: maintain keeps those of past versions for its retention only",
        next_step="ask for a later moment; or by today's code: tidemill replay P --until TIME --into PATH",
    )


def _said(error: Exception) -> str:
    # DuckDB draws an arrow below the place; its first lines say what is wrong.
    return " ".join(str(error).partition("\n\nLINE")[0].split())


def _numbered(found: pa.Table) -> pa.Table:
    seen: Counter[str] = Counter()
    names = []
    for name in found.column_names:
        names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found.rename_columns(names)
