"""The query side: SQL over tables as they stand and stood; nothing else can be read, and nothing written. No JVM."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from tidemill import Engine
from tidemill.cli.app import app
from tidemill.config import Project, parse_pipeline
from tidemill.display.answer import said_of
from tidemill.errors import QueryError
from tidemill.execution.quarantine import SCHEMA
from tidemill.ledger import log
from tidemill.queryable import QUARANTINE


def pipeline(root: Path, name: str, **more: Any) -> Any:
    return parse_pipeline(
        {
            "name": name,
            "source": {"files": {"path": "in", "format": "json", "schema": "account STRING, at TIMESTAMP"}},
            "event_time": {"column": "at"},
            "interval": "all",
            "sink": {"delta": {"path": f"tables/{name}"}},
        }
        | more,
        root,
    )


def held(**balances: int) -> pa.Table:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    return pa.table(
        {
            "account": list(balances),
            "balance": list(balances.values()),
            "at": pa.array([moment] * len(balances), pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Balances in two versions, owners in one; and a pipeline without a table."""
    write_deltalake(tmp_path / "tables/balances", held(a=10, b=20))
    write_deltalake(tmp_path / "tables/balances", held(a=11, b=20, c=5), mode="overwrite")
    write_deltalake(tmp_path / "tables/owners", pa.table({"account": ["a", "c"], "owner": ["Ann", "Cem"]}))
    names = ("balances", "owners", "empty")
    return Engine(Project(str(tmp_path), {name: pipeline(tmp_path, name) for name in names}))


def test_a_query_sees_the_table_as_it_is_and_says_which_version(engine: Engine, tmp_path: Path):
    found = engine.query('SELECT account, balance, "at" FROM balances WHERE balance > 5 ORDER BY account')

    moment = datetime(2024, 5, 1, tzinfo=UTC)
    assert found.columns == ("account", "balance", "at")
    assert found.rows == [("a", 11, moment), ("b", 20, moment)]
    assert {each.name: each.version for each in found.tables} == {"balances": 1}
    write_deltalake(tmp_path / "tables/balances", held(d=99), mode="append")
    again = engine.query("SELECT sum(balance) AS total FROM Balances;")
    assert (again.rows, again.tables[0].version) == ([(135,)], 2)


def test_tables_join_and_equal_columns_are_numbered(engine: Engine):
    found = engine.query(
        "WITH rich AS (SELECT * FROM balances WHERE balance > 5) "
        "SELECT owner, balance FROM rich JOIN owners USING (account)"
    )

    assert found.rows == [("Ann", 11)]
    assert {each.name: each.version for each in found.tables} == {"balances": 1, "owners": 0}
    both = engine.query("SELECT b.account, o.account FROM balances b JOIN owners o ON true LIMIT 1")
    assert both.columns == ("account", "account_1")


@pytest.mark.parametrize("at", [0, "0"])
def test_the_past_by_version(engine: Engine, at: int | str):
    assert engine.query("SELECT sum(balance) FROM balances", at=at).rows == [(30,)]


def test_the_past_by_time(engine: Engine, tmp_path: Path):
    path = str(tmp_path / "tables/balances")
    stamps = {each["version"]: each["timestamp"] for each in DeltaTable(path).history()}
    # The two commits may be of one millisecond: the first is moved an hour back, by its own log entry.
    first = log.log_folder(path) / f"{0:020d}.json"
    first.write_text(first.read_text().replace(str(stamps[0]), str(stamps[0] - 3_600_000)))
    between = datetime.fromtimestamp(stamps[0] / 1000 - 60, UTC)

    assert engine.query("SELECT sum(balance) FROM balances", at=between).tables[0].version == 0
    assert engine.query("SELECT sum(balance) FROM balances", at=between.isoformat()).rows == [(30,)]
    assert engine.query("SELECT sum(balance) FROM balances", at=datetime.now(UTC)).rows == [(36,)]
    with pytest.raises(QueryError, match="balances was not there on 2001-01-01"):
        engine.query("SELECT 1 FROM balances", at="2001-01-01")


@pytest.mark.parametrize(
    ("sql", "at", "message"),
    [
        ("SELECT * FROM balance", None, "no pipeline 'balance'"),
        ("SELECT * FROM empty", None, "empty has no table yet"),
        ("SELECT nothing FROM balances", None, '"nothing" not found'),
        ("SELEC 1", None, "not SQL"),
        ("", None, "no statement"),
        ("SELECT 1; SELECT 2", None, "2 statements"),
        ("DELETE FROM balances", None, "only reads"),
        ("CREATE TABLE x AS SELECT 1", None, "only reads"),
        ("COPY (SELECT 1) TO 'out.csv'", None, "only reads"),
        ("ATTACH 'other.db'", None, "only reads"),
        ("SET threads = 1", None, "only reads"),
        ("SELECT * FROM read_text('/etc/hostname')", None, "disabled"),
        ("SELECT * FROM '/etc/hostname'", None, "no pipeline '/etc/hostname'"),
        ("SELECT * FROM main.balances", None, "main.balances is no table here"),
        ("SELECT 1 FROM balances", "soon", "neither a moment nor a version"),
        ("SELECT 1 FROM balances", 9, "no version 9"),
        ("SELECT 1 FROM balances, owners", 0, "a version is one table's"),
    ],
)
def test_what_is_no_such_query_is_refused(engine: Engine, sql: str, at: Any, message: str, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(QueryError, match=message):
        engine.query(sql, at=at)

    assert sorted(tmp_path.rglob("*")) == before
    assert engine.query("SELECT count(*) FROM balances").rows == [(3,)]


@pytest.mark.parametrize(
    ("sql", "helps"),
    [
        ("SELECT order FROM balances", "double quotes"),
        ("SELEC 1", "double quotes"),
        ("SELECT 'a", "DuckDB's"),
        ("SELECT nosuch(1) FROM balances", "DuckDB's"),
        ("SELECT nothing FROM balances", "which columns there are"),
        ("SELECT * FROM read_csv('x.csv')", "the project's tables only: FROM balances, empty, owners"),
    ],
)
def test_what_is_said_next_is_of_what_is_wrong(engine: Engine, sql: str, helps: str):
    with pytest.raises(QueryError) as wrong:
        engine.query(sql)

    assert helps in wrong.value.next_step
    assert ("double quotes" in wrong.value.next_step) == (helps == "double quotes")


def test_what_a_pipeline_has_beside_its_table(tmp_path: Path):
    decides = [{"decide": "jobs.bank:BANK"}]
    store = pipeline(tmp_path, "library", interval="day", transform=decides)
    fold, empty = pipeline(tmp_path, "balances"), pipeline(tmp_path, "empty")
    project = Project(str(tmp_path), {"library": store, "balances": fold, "empty": empty})
    refusals = pa.table({"id": ["c1", "c2"], "kind": ["rejected", "invalid"]})
    write_deltalake(tmp_path / "tables/balances", held(a=10))
    write_deltalake(tmp_path / "tables/balances_states", held(a=10))
    engine = Engine(project)

    def refused(sql: str, at: Any = None) -> QueryError:
        with pytest.raises(QueryError) as caught:
            engine.query(sql, at=at)
        return caught.value

    for beside in ("library_rejections", "library_quarantine", "library"):
        error = refused(f"SELECT * FROM {beside}")
        assert error.message == "library has no table yet"
        assert error.next_step == "run it: tidemill run library --available-now"
    write_deltalake(tmp_path / "tables/library", held(a=10))
    assert "library_rejections is not there" in refused("SELECT * FROM library_rejections").message
    write_deltalake(tmp_path / "tables/library_rejections", refusals)
    assert engine.query("SELECT id FROM library_rejections WHERE kind = 'invalid'").rows == [("c2",)]
    assert "no pipeline" in refused("SELECT * FROM balances_rejections").message
    assert refused("SELECT * FROM balances_states").next_step == "tidemill state balances --at TIME"
    assert "replay" not in refused("SELECT * FROM library", "2001-01-01").next_step
    assert "replay" not in refused("SELECT * FROM library_rejections", "2001-01-01").next_step

    # Who watches a quarantine counts its rows, whether there ever was one or not.
    watch = "SELECT count(*), max(\"at\"), max(len(reasons)) FROM balances_quarantine WHERE input = 'events'"
    for at in (None, datetime.now(UTC)):
        found = engine.query(watch, at=at)
        assert (found.rows, found.as_json()["tables"]) == ([(0, None, None)], {"balances_quarantine": None})
    assert "nothing was set aside" in said_of(found)
    assert "neither a moment nor" in refused(watch, "soon").message
    assert refused(watch, 0).message == "balances_quarantine has no version 0"
    types = {"STRING": pa.string(), "TIMESTAMP": pa.timestamp("us", "UTC"), "BIGINT": pa.int64()}
    types["ARRAY<STRING>"] = pa.list_(pa.string())
    declared = [each.split(" ") for each in SCHEMA.split(", ")]
    assert pa.schema([(name, types[kind]) for name, kind in declared]) == QUARANTINE
    write_deltalake(tmp_path / "tables/balances_quarantine", QUARANTINE.empty_table())
    row = {"input": "events", "reasons": ["a", "b"], "at": datetime(2024, 5, 1, tzinfo=UTC)}
    write_deltalake(
        tmp_path / "tables/balances_quarantine",
        pa.Table.from_pylist([row], schema=QUARANTINE),
        mode="append",
    )
    assert engine.query(watch).rows == [(1, datetime(2024, 5, 1, tzinfo=UTC), 2)]
    assert engine.query(watch, at="2001-01-01").rows == [(0, None, None)]  # by then nothing was
    (log.log_folder(str(tmp_path / "tables/balances_quarantine")) / f"{0:020d}.json").unlink()
    assert "does not reach back" in refused(watch, "2001-01-01").message


def test_a_past_whose_files_are_gone_is_told_and_one_made_anew_is_seen(engine: Engine, tmp_path: Path):
    table = DeltaTable(str(tmp_path / "tables/balances"))
    live = set(table.file_uris())
    for path in (tmp_path / "tables/balances").glob("*.parquet"):
        if str(path) not in live:
            path.unlink()
    with pytest.raises(QueryError, match="balances at version 0 are gone"):
        engine.query("SELECT sum(balance) FROM balances", at=0)

    assert engine.query("SELECT sum(balance) FROM balances").rows == [(36,)]
    shutil.rmtree(tmp_path / "tables/balances")
    write_deltalake(tmp_path / "tables/balances", held(z=1))
    write_deltalake(tmp_path / "tables/balances", held(z=2), mode="overwrite")
    assert engine.query("SELECT sum(balance) FROM balances").rows == [(2,)]


def test_a_warm_query_of_a_small_model_takes_milliseconds(engine: Engine):
    engine.query("SELECT * FROM balances WHERE account = 'a'")

    fastest = min(engine.query("SELECT * FROM balances WHERE account = 'a'").seconds for _ in range(20))

    # Some 5 ms as seen; a JVM, a job or a table opened anew would be far beyond.
    assert fastest < 0.05


def test_the_verb_prints_rows_or_json(tmp_path: Path):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/pipelines/balances.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'account STRING, at TIMESTAMP'}}\n"
        "event_time: {column: at}\ninterval: all\nsink: {delta: {path: tables/balances}}\n"
    )
    write_deltalake(tmp_path / "tables/balances", held(a=10, b=20))
    sql = "SELECT account, balance FROM balances ORDER BY balance DESC"

    said = CliRunner().invoke(app, ["query", sql, "--project", str(tmp_path), "--rows", "1"])
    body = CliRunner().invoke(app, ["query", sql, "--at", "0", "--project", str(tmp_path), "--json"])
    wrong = CliRunner().invoke(app, ["query", "SELECT * FROM balanses", "--project", str(tmp_path)])

    assert said.exit_code == 0, said.output
    assert "b        20" in said.stdout
    assert "and 1 row more" in said.stdout
    assert "2 rows from balances (version 0)" in said.stdout
    found = json.loads(body.stdout)
    assert (found["rows"], found["tables"]) == (
        [{"account": "b", "balance": 20}, {"account": "a", "balance": 10}],
        {"balances": 0},
    )
    assert (wrong.exit_code, "did you mean 'balances'?" in wrong.stderr) == (2, True)
