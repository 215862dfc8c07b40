"""Coverage as JSON, for the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tidemill.ledger import kept, trails
from tidemill.ledger.beside import Beside
from tidemill.ledger.carried import Carried, Lived, Seed, stood_from_json
from tidemill.ledger.covered import Coverage, IntervalCoverage, Mark
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
    fields["stood"] = stood_from_json(fields.get("stood"))
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
