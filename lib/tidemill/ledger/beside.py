"""What rows were made beside: of tables that are read whole, which erasures their readers had seen. Pure.

A table that is read whole makes nothing dirty by its changes. That an erased person was taken out of it does, or rows that were
made beside its old ones would keep what is left of the person. So who reads says, in the fact of what it publishes, which
commit of each such table was the last then known to take somebody out, looked up before it read; and an interval keeps what was
said of the rows that it holds. It is dirty where one of them is older than what the table's own ledger says by now. Nothing is
marked, and so nothing can come between a table's change and a mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Taken = Mapping[str, int]
"""By input, the last version of its table that took an erased person out; one that is not named: none has."""
_NEVER = -1


@dataclass(frozen=True, slots=True)
class Beside:
    """Some rows of an interval were made when ``taken`` was so; the last of them came with ``version``."""

    taken: Taken
    version: int


AllBeside = tuple[Beside, ...]
"""Of all rows of an interval; () where all were made when nobody had ever been taken out."""


def joined(
    stood: AllBeside, writers: Mapping[str, int], taken: Taken, version: int, pin: int = _NEVER
) -> AllBeside:
    """What rows of an interval were made beside after more came, with ``version``; those of up to ``pin`` went then.

    ``writers``: as the ledger knows them, the last version at which each wrote.
    """
    if not stood and not taken:
        return ()
    if not stood and writers:
        stood = (Beside({}, max(writers.values())),)
    kept = [each for each in stood if each.version > pin and each.taken != taken]
    found = (*kept, Beside(dict(taken), version))
    return found if any(each.taken for each in found) else ()


def outdated(stood: AllBeside, now: Taken) -> tuple[str, ...]:
    """The inputs from whose tables somebody was taken out since some of the rows were made, or that are other tables since."""
    made = [each.taken for each in stood] or [{}]
    return tuple(name for name, last in now.items() if any(taken.get(name, _NEVER) != last for taken in made))
