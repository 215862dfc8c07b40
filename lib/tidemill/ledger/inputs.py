"""What inputs hold and how far they have been read, without a JVM.

- A live stream's offsets are in Spark's checkpoint: ``offsets/<batch>`` is written before the batch runs.
- The file source numbers what it has seen in ``sources/<i>/``; an offset is a place in that log.
- A Delta source's offset is a version of the upstream table, and a place in it.
- Kafka's is the next offset of each partition; where the stream began stands in ``sources/<i>/0``.
- RabbitMQ's is the next offset; where the stream began stands beside the checkpoint, see :mod:`.streams`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.errors import SourceError, StateError
from tidemill.ledger import log
from tidemill.model import DeltaSource, FilesSource
from tidemill.storage import ObjectPath, Place, local_path, place, walk

FORMAT = "v1"


@dataclass(frozen=True, slots=True)
class BatchOffsets:
    """What ``offsets/<batch>`` says: the source ends in Spark's order, and the batch's watermark (ms)."""

    watermark: int
    ends: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file of a folder source."""

    path: str
    size: int
    modified: int


def read_offsets(checkpoint: str, batch: int) -> BatchOffsets | None:
    """The offsets of one batch; None when Spark has not written it, or has forgotten it."""
    path = place(checkpoint) / "offsets" / str(batch)
    try:
        version, header, *ends = path.read_text(encoding="utf-8").splitlines()
        if version != FORMAT:
            raise _unknown_format(path, version)
        watermark = int(json.loads(header).get("batchWatermarkMs", 0))
        return BatchOffsets(watermark, tuple(None if end == "-" else json.loads(end) for end in ends))
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        raise _torn(path) from None


def begun(checkpoint: str) -> bool:
    """Whether a stream has ever decided what a batch of it reads."""
    folder = place(checkpoint) / "offsets"
    return folder.is_dir() and any(path.name.isdigit() for path in folder.glob("[0-9]*"))


def last_committed(checkpoint: str) -> BatchOffsets | None:
    """The offsets of the last batch that Spark will not run again; None when there is none."""
    batch = committed(checkpoint)
    return read_offsets(checkpoint, batch) if batch >= 0 else None


def committed(checkpoint: str) -> int:
    """The number of the last batch that Spark will not run again; -1 when there is none."""
    folder = place(checkpoint) / "commits"
    if not folder.is_dir():
        return -1
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=-1)


def _torn(path: Place) -> StateError:
    return StateError(
        f"{path} is torn", next_step="see the guide: a lost or damaged checkpoint", file=str(path)
    )


def _unknown_format(path: Place, version: str) -> StateError:
    return StateError(
        f"{path} has the unknown format {version!r}",
        next_step="another Spark wrote it; go on with that one, or start anew on a new table",
        file=str(path),
    )


def query_id(checkpoint: str) -> str | None:
    """The id of the streaming query that owns a checkpoint; None when it has not begun."""
    try:
        return str(json.loads((place(checkpoint) / "metadata").read_text(encoding="utf-8"))["id"])
    except FileNotFoundError:
        return None


def files_read(checkpoint: str, source: int, after: int, until: int) -> list[str]:
    """The files that the file source ``source`` gave with log offsets in ``(after, until]``, in order.

    Raises :class:`StateError` when the source's log does not reach that far.
    """
    folder = place(checkpoint) / "sources" / str(source)
    found: dict[str, int] = {}
    for entry in _log_entries(folder, until):
        if after < entry["batchId"] <= until:
            found[entry["path"]] = entry["batchId"]
    return [local_path(path) for path in found]


def _log_entries(folder: Place, until: int) -> Iterator[dict[str, Any]]:
    # A compact file holds everything up to its number; the plain ones after it hold one step each. Spark
    # removes old ones some time after it has compacted them, so an old step may stand in a later compact only.
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    compacts = sorted(
        int(n.split(".")[0]) for n in names if n.endswith(".compact") and n.split(".")[0].isdigit()
    )
    base = max((c for c in compacts if c <= until), default=-1)
    wanted = [*([f"{base}.compact"] if base >= 0 else []), *(str(n) for n in range(base + 1, until + 1))]
    missing = next((name for name in wanted if name not in names), None)
    if missing is not None:
        later = next((c for c in compacts if c > until), None)
        if later is None:
            raise StateError(
                f"{folder} has no {missing}, and the steps up to {until} are wanted",
                next_step="the checkpoint was lost or replaced; see the guide: a lost or damaged checkpoint",
                file=str(folder),
            )
        wanted = [f"{later}.compact"]
    for name in wanted:
        version, *lines = (folder / name).read_text(encoding="utf-8").splitlines() or [""]
        if version != FORMAT:
            raise _unknown_format(folder / name, version)
        try:
            yield from [json.loads(line) for line in lines]
        except ValueError:
            raise _torn(folder / name) from None


def first_offsets(checkpoint: str, number: int) -> dict[str, dict[str, int]]:
    """Where the stream began to read the source ``number``, by topic and partition.

    A partition that came later is not named: it began at 0. Raises :class:`StateError` when Spark's note is gone.
    """
    path = place(checkpoint) / "sources" / str(number) / "0"
    try:
        version, text = path.read_text(encoding="utf-8").lstrip("\0").split("\n", 1)
        if version != FORMAT:
            raise _unknown_format(path, version)
        return {topic: dict(offsets) for topic, offsets in json.loads(text).items()}
    except (FileNotFoundError, ValueError):
        raise _torn(path) from None


def describe_offsets(offset: Mapping[str, Any], most: int = 4) -> str:
    """The offset of a stream, or those of a source with partitions, the first few of them.

    >>> describe_offsets({"offset": 7})
    'offset 7'
    """
    if isinstance(offset.get("offset"), int):
        return f"offset {offset['offset']}"
    parts = [f"{topic}/{part} {at}" for topic, each in sorted(offset.items()) for part, at in each.items()]
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def list_files(source: FilesSource) -> list[EventFile]:
    """Every file the folder holds now that a run would read, oldest first.

    Raises :class:`SourceError` when the folder is not there.
    """
    root = folder_of(source)
    found = [EventFile(str(root / file.path), file.size, file.modified) for file in walk(root)]
    return sorted(found, key=lambda file: (file.modified, file.path))


def folder_of(source: FilesSource) -> Place:
    """The folder of the files. Raises :class:`SourceError` when it is not there."""
    root = place(source.path)
    if not root.is_dir():
        raise SourceError(
            f"the source folder {source.path} is not there",
            next_step="create it, or correct source.files.path",
            path=source.path,
        )
    return root


def delta_version(source: DeltaSource) -> int:
    """The newest version of the source table. Raises :class:`SourceError` when there is no table."""
    newest = log.last_version(source.path)
    if newest is None:
        raise SourceError(
            f"the source table {source.path} is not there",
            next_step="run the pipeline that writes it first, or correct source.delta.path",
            path=source.path,
        )
    return newest


def _before_version(offset: Mapping[str, Any]) -> bool:
    """Whether a Delta source's offset stands before the first file of its version.

    Delta writes that place as -1, or as -100 in offsets of its newer format; other negative places lie
    around a change of schema, inside a version.
    """
    index = int(offset["index"])
    return (index == -1 or index <= -100) and not offset.get("isStartingVersion")


def pinned_version(offset: Any) -> int | None:
    """The table version that a Delta source's offset has read in full; None inside a version."""
    if not isinstance(offset, dict):
        return None
    return int(offset["reservoirVersion"]) - 1 if _before_version(offset) else None


def delta_version_of(offset: Any) -> int:
    """The newest version of which a Delta source's offset has read anything."""
    version = int(offset["reservoirVersion"])
    return version - 1 if _before_version(offset) else version


def begin_again(source: DeltaSource, offset: Mapping[str, Any]) -> int | None:
    """The version with which a new stream of a table reads on from an offset, and nothing is left out; None: with all of it.

    What lies before the offset in its version is read again, and so is the newest version where none has come since.
    """
    if offset.get("isStartingVersion"):
        return None
    return min(int(offset["reservoirVersion"]), delta_version(source))


def total_size(paths: list[str]) -> int:
    """Bytes in these files; those that are gone count nothing here, the reader will name them."""
    total = 0
    listed: dict[Place, dict[str, int]] = {}
    for path in paths:
        at = place(path)
        try:
            if isinstance(at, ObjectPath):
                # One listing a folder, not one request a file.
                if at.parent not in listed:
                    listed[at.parent] = {file.path: file.size for file in walk(at.parent)}
                total += listed[at.parent].get(at.name, 0)
            else:
                total += at.stat().st_size
        except OSError:
            continue
    return total


def describe_listing(paths: list[str]) -> dict[str, Any]:
    """A listing as a fact holds it: enough to see whether the folder has grown since."""
    digest = hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:16]
    return {"files": len(paths), "hash": digest}


def moved_from(checkpoint: str, number: int, until: int, folder: str) -> str | None:
    """Where a file source read from, when that was not ``folder``; None when it was, or has read nothing.

    The checkpoint names whole paths: under another path every file would count as new and be read again.
    """
    for entry in _log_entries(place(checkpoint) / "sources" / str(number), until):
        path = local_path(entry["path"])
        return None if path.startswith(folder.rstrip("/") + "/") else str(place(path).parent)
    return None
