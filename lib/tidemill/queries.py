"""The query side: SQL over the tables of a project's pipelines, as they stand or stood. No JVM, and nothing is written.

A query is parsed, and the names of pipelines in it become their tables: each is opened at one version, as Arrow's dataset over
its live files, and DuckDB answers from those alone. It can reach nothing else: no file, no network, no setting.
"""

from __future__ import annotations

import json
import re
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
from tidemill.queryable import Named, tables_of
from tidemill.sinks import commit
from tidemill.sinks.table import look

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

At = int | str | datetime | None
"""Which past state: a version of the table, a moment, or either as text; None: now."""
_QUOTE = 'a name that is also a word of SQL, such as "at" or "order", goes in double quotes'
_DIALECT = "the SQL is DuckDB's: one SELECT over the tables of pipelines"


@dataclass(frozen=True, slots=True)
class Read:
    """A table that a query names, and the version of it that it saw; None: a quarantine in which nothing had been set aside."""

    name: str
    path: str
    version: int | None


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
        self._open: dict[tuple[str, int | None], Any] = {}
        self._newest: dict[str, int] = {}
        self._held: list[duckdb.DuckDBPyConnection] = []
        # An engine often lives as long as its process; the connection must not, or DuckDB's library complains as it goes.
        weakref.finalize(self, self._held.clear)

    def query(self, sql: str, at: At = None) -> Answer:
        """See :meth:`tidemill.Engine.query`."""
        with self._turn:
            began, then = time.perf_counter(), None if at is None else _asked(at)
            connection = self._connection()
            wanted = tuple(tables_of(self._project, _names(connection, sql)))
            for again in (False, True):
                reads = tuple(self._read(each, then, alone=len(wanted) == 1) for each in wanted)
                held = tuple(zip(wanted, reads, strict=True))
                try:
                    found = self._answer(connection, sql, held)
                    return Answer(_numbered(found), reads, time.perf_counter() - began)
                except FileNotFoundError as error:
                    if again:
                        raise _vacuumed(reads) from error
                    # Of a table that was made anew, too: what is open is of the one before.
                    self._open.clear()
                    self._newest.clear()
            raise AssertionError  # the second attempt returned or raised

    def _answer(
        self, connection: duckdb.DuckDBPyConnection, sql: str, held: Iterable[tuple[Named, Read]]
    ) -> pa.Table:
        for named, read in held:
            there = read.version is not None
            connection.register(named.name, self._dataset(read) if there else named.before_it_is_made())
        try:
            return connection.sql(sql.strip().rstrip(";")).to_arrow_table()
        except duckdb.Error as error:
            # Arrow's own errors pass through DuckDB as text.
            if "No such file" in str(error):
                raise FileNotFoundError(str(error)) from error
            raise QueryError(_said(error), next_step=_after(error, self._project)) from error
        finally:
            for named, _ in held:
                connection.unregister(named.name)

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

    def _read(self, named: Named, at: int | datetime | None, *, alone: bool) -> Read:
        path = named.path
        newest = self._newest.get(path)
        if newest is None or not commit.is_newest(path, newest):
            newest = log.last_version(path)
        if newest is None:
            named.before_it_is_made()  # or it is said what is to be done
            if isinstance(at, int):
                raise _no_version(named.name, at, "nothing was ever set aside there")
            return Read(named.name, path, None)
        self._newest[path] = newest
        return Read(named.name, path, newest if at is None else _version(named, at, newest, alone=alone))

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
        said = str(parsed.get("error_message"))
        # Where it stumbles over no word, no quotes would help.
        step = _QUOTE if re.match(r'syntax error at or near "\w+"', said) else _DIALECT
        raise QueryError(f"not SQL: {said}", next_step=step)
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


def _asked(at: int | str | datetime) -> int | datetime:
    """A version or a moment, as a person says it."""
    if isinstance(at, int):
        return at
    if isinstance(at, str) and at.strip().isdecimal():
        return int(at)
    try:
        return parse_moment(at) if isinstance(at, str) else utc(at)
    except TidemillError:
        raise QueryError(
            f"{at!r} is neither a moment nor a version",
            next_step="write 2024-05-01, 2024-05-01T13:30:00Z or 17",
        ) from None


def _no_version(name: str, version: int, there: str) -> QueryError:
    return QueryError(f"{name} has no version {version}", next_step=there, table=name)


def _version(named: Named, at: int | datetime, newest: int, *, alone: bool) -> int | None:
    name, path = named.name, named.path
    if isinstance(at, int):
        if not alone:
            raise QueryError(
                "a version is one table's, and the query reads several or none",
                next_step="give a moment: --at 2024-05-01T12:00:00Z",
            )
        oldest = log.first_version(path) or 0
        if not 0 <= at <= newest:
            raise _no_version(name, at, f"it has versions {oldest} to {newest}")
        return at
    found = log.version_at(path, int(at.timestamp() * 1000))
    if found is None and named.of == "quarantine" and log.first_version(path) == 0:
        return None  # nothing had been set aside by then
    if found is None:
        raise QueryError(
            f"{name} was not there on {at:%Y-%m-%dT%H:%M:%SZ}, or its log does not reach back so far",
            next_step=named.of_past(),
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


def _after(error: duckdb.Error, project: Project) -> str:
    """What is to be done about what DuckDB says of a query that is well formed."""
    if "file system operations are disabled" in str(error):
        return f"a query reads the project's tables only: FROM {', '.join(sorted(project.pipelines))}"
    if "not found in FROM clause" in str(error):
        return "see which columns there are: SELECT * FROM ... LIMIT 1; a text goes in single quotes, 'a', a name in double ones, \"a\""
    return _DIALECT


def _numbered(found: pa.Table) -> pa.Table:
    seen: Counter[str] = Counter()
    names = []
    for name in found.column_names:
        names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found.rename_columns(names)
