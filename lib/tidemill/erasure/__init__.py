"""Erasure: fields of a person are sealed with a key of the person's own; without the key nobody can read them, wherever they lie.

A pipeline's input says ``personal``; :mod:`tidemill.erasure.keys` has what a store of keys is.
"""

from __future__ import annotations

from tidemill.erasure.inside import TOMBSTONE
from tidemill.erasure.keys import FileKeys, KeyStore

__all__ = ["TOMBSTONE", "FileKeys", "KeyStore"]
