"""Coverage as JSON, for the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tidemill.ledger import kept, trails
from tidemill.ledger.beside import Beside
from tidemill.ledger.carried import Carried, Lived, Seed
from tidemill.ledger.covered import Coverage, IntervalCoverage, Mark, Stood
from tidemill.ledger.seen import BatchSeen


def as_json(coverage: Coverage) -> dict[str, Any]:
    """Coverage as plain JSON values."""
    return asdict(coverage)


def from_json(body: Mapping[str, Any]) -> Coverage:
    """Coverage from :func:`as_json`'s values."""
    fields = dict(body)
    fields["recent"] = tuple(BatchSeen(**seen) for seen in fields["recent"])
    fields["trails"] = trails.from_json(fields.get("trails", ()))
    fields["kept"] = kept.from_json(fields.get("kept"))
    fields["seed"] = Seed(**fields["seed"]) if fields.get("seed") else None
    fields["stood"] = _stoods(fields.get("stood"), fields["seed"])
    fields["astray"] = _mark(fields["astray"]) if "astray" in fields else _since(fields)
    fields["opened"] = tuple(fields.get("opened", ()))
    fields["ahead"] = tuple((start, end) for start, end in fields.get("ahead", ()))
    fields["intervals"] = {
        label: IntervalCoverage(
            **{
                **each,
                "marks": tuple(Mark(**mark) for mark in each["marks"]),
                "provisional": tuple(each["provisional"]),
                "beside": tuple(Beside(**one) for one in each.get("beside", ())),
                "lived": Lived(**each["lived"]) if each.get("lived") else None,
                "carried": Carried(**each["carried"]) if each.get("carried") else None,
            }
        )
        for label, each in fields["intervals"].items()
    }
    return Coverage(**fields)


def _stoods(body: Any, seed: Seed | None) -> tuple[Stood, ...]:
    if isinstance(body, Mapping):  # before restarts in a row were told apart: what was before the last
        lived = Lived(**body["lived"]) if body["lived"] else None
        return (Stood("", body["last"], seed.last if seed else "", lived, body["code"]),)
    return tuple(_stood(each) for each in body or ())


def _stood(body: Mapping[str, Any]) -> Stood:
    lived = Lived(**body["lived"]) if body["lived"] else None
    return Stood(**{**body, "lived": lived, "astray": _mark(body["astray"])})


def _since(fields: Mapping[str, Any]) -> Mark | None:
    # Of before this was kept it is not known since when, nor whether the stream has begun anew.
    return Mark(fields["broken"], fields["version"]) if fields.get("broken") and fields["stateful"] else None


def _mark(body: Mapping[str, Any] | None) -> Mark | None:
    return Mark(**body) if body else None
