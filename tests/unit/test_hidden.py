from __future__ import annotations

import json
from typing import Any

from tidemill.config import Project
from tidemill.ledger.verdicts import Result
from tidemill.model import Pipeline
from tidemill.quality.hidden import HIDDEN, Hidden, of_input, of_table, without_opened, without_values


def pipeline(personal: dict | None) -> Pipeline:
    source = {"delta": {"path": "in"}, **({"personal": personal} if personal else {})}
    return Pipeline.model_validate(
        {
            "name": "p",
            "source": source,
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out"}},
        }
    )


SEALS = pipeline({"keys": "k", "subject": "user", "seal": ["email", "data.name"]})
OPENS = pipeline({"keys": "k", "open": ["email"]})
NEITHER = pipeline(None)


def test_samples_of_what_was_opened_tell_equal_values_from_others_and_no_more():
    rows = [{"to": to, "born": 1815, "at": "2024-03-01"} for to in ("ada@x", "bob@x", "ada@x", None)]
    samples = [{"interval": "i", "rows": 1, "row": json.dumps(row)} for row in rows]

    assert without_opened(NEITHER, samples) == without_opened(SEALS, samples) == tuple(samples)

    found = [json.loads(each["row"]) for each in without_opened(OPENS, samples)]
    assert [each["to"] for each in found] == [f"{HIDDEN} 1", f"{HIDDEN} 3", f"{HIDDEN} 1", None]
    # A number may be a person's as well as a text: of a year of birth no more is told than of a name.
    assert [each["born"] for each in found] == [f"{HIDDEN} 2"] * 4
    assert [each["at"] for each in found] == [row["at"] for row in rows]


def test_values_that_may_be_a_persons_are_hidden_and_others_are_not():
    sealed, table = of_input(SEALS, "events"), of_table(OPENS)

    assert [sealed(each) for each in ("email", "data", "data.name.first", "page", "database")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert table("anything")
    for nothing in (of_input(OPENS, "events"), of_table(SEALS), of_table(NEITHER), Hidden()):
        assert not nothing("email")


def test_who_reads_what_was_opened_holds_it_at_any_remove():
    def reading(name: str, *tables: str, **personal: Any) -> Pipeline:
        more = {"personal": personal} if personal else {}
        body = {
            "name": name,
            "sources": {table: {"delta": {"path": table}, **more} for table in tables},
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": "code:made",
            "sink": {"delta": {"path": name}},
        }
        return Pipeline.model_validate(body)

    chain = (
        reading("last", "middle"),
        reading("middle", "sealed", "opened_quarantine"),
        reading("opened", "sealed", keys="k", open=["email"]),
        reading("beside", "sealed"),
        reading("sealed", "in", keys="k", subject="user", seal=["email"]),
    )
    project = Project("root", {each.name: each for each in chain})

    assert {name for name, each in project.pipelines.items() if each.holds_opened} == {
        "last",
        "middle",
        "opened",
    }
    assert project.pipelines["last"].model_dump() == chain[0].model_dump()
    assert of_table(project.pipelines["last"]).everything
    assert not of_table(project.pipelines["beside"]).everything


def test_of_what_gx_saw_no_value_stays():
    found = (
        Result("a", False, value={"unexpected": ["ada@x"]}),
        Result("b", False, value=3),
        Result("c", True),
    )

    assert [each.value for each in without_values(OPENS, found)] == [HIDDEN, HIDDEN, None]
    assert without_values(SEALS, found) == found
