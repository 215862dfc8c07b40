"""Event files for the stream benchmarks: JSON lines, nine columns, in the order in which they arrive."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

SCHEMA = (
    "id STRING, at TIMESTAMP, user_id INT, page STRING, country STRING, "
    "amount_cents BIGINT, quantity INT, agent STRING, day STRING"
)
START = datetime(2024, 3, 1, 6, tzinfo=UTC)
KEYS = 500
_LATE = timedelta(minutes=10)
_COUNTRIES = ("DE", "FR", "GB", "JP", "NL", "US")
_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Macintosh)", "curl/8.5.0")


def write_events(folder: Path, *, files: int, rows: int, span: timedelta = timedelta(hours=1)) -> None:
    """Write ``files`` files of ``rows`` events; each covers ``span``, disordered, some ten minutes late."""
    folder.mkdir(parents=True)
    generator = random.Random(20_240_301)
    for number in range(files):
        path = folder / f"{number:06d}.json"
        begin = START + number * span
        lines = (_event(generator, f"{number}-{i}", begin, span) for i in range(rows))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # A stream reads files by their time.
        os.utime(path, (1_700_000_000 + number,) * 2)


def _event(generator: random.Random, name: str, begin: datetime, span: timedelta) -> str:
    at = begin + span * generator.random()
    if generator.random() < 0.05:
        at -= _LATE * generator.random()
    body = {
        "id": name,
        "at": at.isoformat(timespec="milliseconds"),
        "user_id": generator.randrange(KEYS),
        "page": f"/item/{generator.randrange(5_000)}",
        "country": generator.choice(_COUNTRIES),
        "amount_cents": generator.randrange(1, 50_000),
        "quantity": generator.randrange(1, 9),
        "agent": generator.choice(_AGENTS),
        "day": f"{at:%Y-%m-%d}",
    }
    return json.dumps(body)
