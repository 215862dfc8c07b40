"""A small file, replaced whole: readers see the old text or the new one, and a crash leaves one of them."""

from __future__ import annotations

import secrets

from tidemill.errors import StateError
from tidemill.protocol import Point, passing
from tidemill.storage import ObjectPath, Place


def replace_text(path: Place, text: str) -> None:
    """Make ``text`` the content of ``path``, whose folder is made too.

    Raises :class:`StateError` when it cannot be written: the disk is full, or the folder is not ours.
    """
    if isinstance(path, ObjectPath):
        passing(Point.NOT_YET_IN_PLACE)
        path.write_text(text)
        return
    # A name of its own: a live run and a backfill may write at once, in one process too.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        passing(Point.NOT_YET_IN_PLACE)
        fresh.replace(path)
    except OSError as error:
        raise StateError(
            f"{path} cannot be written: {error.strerror or error}",
            next_step="its folder must be writable, and the disk must have room; what was published stays published",
            file=str(path),
        ) from error
