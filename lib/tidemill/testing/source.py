"""Events kept in memory, and given to a pipeline's own source: files of the format that it declares."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tidemill.errors import PlanError
from tidemill.model import FilesSource, Input

Event = Mapping[str, Any]
"""One event: values by column."""

_FIRST = 1_600_000_000


class MemorySource:
    """What one input has been given, in order; the oracle sees ``events``, the pipeline sees files.

    Each :meth:`add` is one file, a second younger than the one before, and there whole or not at all. Files are what
    makes a kill of the pipeline's process the same as in earnest: nothing that it read is lost with it.

    >>> source = MemorySource(pipeline.inputs["events"])  # doctest: +SKIP
    >>> source.add({"id": 1, "at": datetime(2024, 5, 1)})  # doctest: +SKIP

    Raises :class:`PlanError` for an input that is no folder of files: feed what writes it.
    """

    def __init__(self, each: Input) -> None:
        if not isinstance(each.source, FilesSource):
            raise PlanError(
                f"{each.source.mark} is no folder of files", next_step="give events to what writes it"
            )
        self.events: list[Event] = []
        self.poison: list[str] = []
        self._source = each.source
        self._files: list[tuple[str, tuple[Event, ...], int]] = []

    def add(self, *events: Event) -> None:
        """These events arrive, together."""
        self.add_file(_encoded(self._source.format, events), self._source.format, *events)

    def add_raw(self, *records: str) -> None:
        """These records arrive as they are, a line each, and none is an event."""
        self.poison += records
        self._arrive(
            "".join(f"{record}\n" for record in records).encode(), self._source.format, (), len(records)
        )

    def add_file(self, content: bytes, suffix: str, *events: Event) -> Path:
        """A file of any content arrives; ``events`` are those that it holds."""
        self.events += events
        return self._arrive(content, suffix, events, 0)

    @property
    def paths(self) -> list[str]:
        """The files, in the order in which they arrived."""
        return [path for path, _, _ in self._files]

    def read(self, paths: Iterable[str]) -> list[Event]:
        """The events in these files, in the order in which they arrived."""
        wanted = set(paths)
        return [event for path, events, _ in self._files if path in wanted for event in events]

    def bad(self, paths: Iterable[str]) -> int:
        """How many records in these files are no events."""
        wanted = set(paths)
        return sum(count for path, _, count in self._files if path in wanted)

    def _arrive(self, content: bytes, suffix: str, events: tuple[Event, ...], bad: int) -> Path:
        number = len(self._files) + 1
        folder = Path(self._source.path)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:06d}.{suffix}"
        hidden = folder / f".{number:06d}"
        hidden.write_bytes(content)
        os.utime(hidden, (_FIRST + number, _FIRST + number))
        self._files.append((str(path), events, bad))
        return hidden.rename(path)


def _encoded(kind: str, events: Iterable[Event]) -> bytes:
    events = list(events)
    if kind == "json":
        return "".join(json.dumps(dict(event), default=_text) + "\n" for event in events).encode()
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerows([_text(v) if isinstance(v, date) else v for v in event.values()] for event in events)
        return out.getvalue().encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(event) for event in events]), sink)
    return bytes(sink.getvalue())


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return str(value)
