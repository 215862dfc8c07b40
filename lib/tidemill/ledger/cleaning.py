"""Which files of a Delta log may go: commits that no version within the retention is made from.

Source: the Delta transaction protocol, "Metadata Cleanup". A version is made from the last checkpoint before it and
the commits since. So what goes is what lies before the newest checkpoint that is itself not newer than the first
version to keep.
"""

from __future__ import annotations

import re

from tidemill.ledger import log
from tidemill.storage import Place

_OF_THE_LOG = re.compile(r"(\d{20})(\.(\d{20})\.compacted)?\.(json|crc|checkpoint\..*)")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


def first_needed(table: str, since: float) -> int:
    """The last version that was the table's at ``since`` (epoch seconds): it and all later ones stay readable."""
    first = 0
    for version, path in sorted(
        (int(path.stem), path) for path in log.log_folder(table).glob("*.json") if path.stem.isdigit()
    ):
        if path.stat().st_mtime >= since:
            break
        first = version
    return first


def not_needed(table: str, first: int) -> tuple[Place, ...]:
    """The files that no version from ``first`` on is made from, oldest first: taken in this order, no gap comes up."""
    folder = log.log_folder(table)
    names = [path.name for path in folder.iterdir()]
    # Of one file: parts of a checkpoint may be missing.
    checkpoints = [int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))]
    base = max((version for version in checkpoints if version <= first), default=-1)
    numbered = sorted((int(found[1]), name) for name in names if (found := _OF_THE_LOG.fullmatch(name)))
    return tuple(folder / name for version, name in numbered if version < base)
