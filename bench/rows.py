"""Whether two tables hold the same rows, however often each and in whatever order. DuckDB reads the files."""

from __future__ import annotations

from pathlib import Path

import duckdb
from deltalake import DeltaTable


def count(table: Path) -> int:
    """How many rows a table holds."""
    with duckdb.connect() as connection:
        return _counted(connection, f"SELECT count(*) FROM {_source(table)}")


def same_rows(first: Path, second: Path, *, partition: str = "event_date") -> bool:
    """Whether both tables hold the same rows as multisets, and some; partition by partition, to save memory."""
    with duckdb.connect() as connection:
        a, b = (f"FROM {_source(table)}" for table in (first, second))
        days = f"SELECT DISTINCT {partition} {a} UNION SELECT DISTINCT {partition} {b}"
        found = [row[0] for row in connection.execute(days).fetchall()]
        columns = ", ".join(f'"{row[0]}"' for row in connection.execute(f"DESCRIBE SELECT * {a}").fetchall())
        for day in found:
            one, other = (f"SELECT {columns} {side} WHERE {partition} = '{day}'" for side in (a, b))
            apart = f"({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})"
            if _counted(connection, f"SELECT count(*) FROM ({apart})"):
                return False
        return bool(found)


def _source(table: Path) -> str:
    paths = ", ".join(f"'{path}'" for path in DeltaTable(table).file_uris())
    return f"read_parquet([{paths}], hive_partitioning = true, union_by_name = true)"


def _counted(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
