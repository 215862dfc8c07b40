"""Up to which commit of its table a pipeline has sent rows to its topic: ``sent.json`` beside the checkpoint.

The table's log holds what is to be sent; this is only how far that has come. Set back, rows are sent again under the
ids that they had.
"""

from __future__ import annotations

import json

from tidemill.errors import StateError
from tidemill.ledger import log
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


def read(state: str, table: str, topic: str) -> int | None:
    """The version up to which all is sent; None before anything was noted for this topic.

    Raises :class:`StateError` when the file is damaged, or is of another table than the one that is there.
    """
    path = place(state) / "sent.json"
    try:
        noted = json.loads(path.read_text(encoding="utf-8")).get(topic)
        version, digest = (None, None) if noted is None else (int(noted["version"]), noted["digest"])
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise _unfit(path, "is damaged") from None
    if version is not None and version >= 0 and not log.goes_on_from(table, version, digest):
        raise _unfit(path, f"says that version {version} of another table was sent")
    return version


def write(state: str, table: str, topic: str, version: int) -> None:
    """Note that everything up to a version was sent, whole or not at all."""
    path = place(state) / "sent.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    noted = {"version": version, "digest": log.digest(table, version)}
    replace_text(path, json.dumps(known | {topic: noted}, indent=1, sort_keys=True))


def _unfit(path: Place, what: str) -> StateError:
    return StateError(
        f"{path} {what}",
        next_step="write into it the last version of which the topic holds the rows; removed, the topic gets what is "
        "appended from now on",
        file=str(path),
    )
