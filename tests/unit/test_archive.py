"""Archives: what may be one, who serves which offsets of a history, what retention takes; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidemill.config import load_project
from tidemill.config.fingerprint import fingerprint
from tidemill.config.project import json_schema
from tidemill.errors import ConfigError
from tidemill.intervals import Grain, Interval, interval_at
from tidemill.ledger import coverage_json
from tidemill.ledger.coverage import Coverage, Shape, fold_all
from tidemill.ledger.facts import Commit, Expired, Fact, LiveBatch, from_json, to_json
from tidemill.ledger.judge import State, judge
from tidemill.model import ARCHIVED, Retain
from tidemill.planning.retention import outdated
from tidemill.planning.selection import Request, select
from tidemill.sources.archive import parted

SHAPE = Shape(Grain.DAY, timedelta(0), timedelta(0))
NOON = datetime(2024, 5, 10, 12, tzinfo=UTC)


def ingest(**kafka: Any) -> dict[str, Any]:
    source = {"servers": "b:9092", "topics": ["a", "b"], "format": "raw", "with": list(ARCHIVED)} | kafka
    return {
        "source": {"kafka": {key: value for key, value in source.items() if value is not None}},
        "event_time": {"column": "timestamp"},
        "interval": "day",
        "sink": {"delta": {"path": "raw"}},
    }


def events(**kafka: Any) -> dict[str, Any]:
    source = {"servers": "b:9092", "topics": ["a"], "schema": "at TIMESTAMP", "archive": "ingest"} | kafka
    return {
        "source": {"kafka": source},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }


def load(folder: Path, **pipelines: dict[str, Any]) -> Any:
    at = folder / "conf/pipelines"
    at.mkdir(parents=True)
    for name, body in pipelines.items():
        (at / f"{name}.yml").write_text(yaml.safe_dump(body))
    return load_project(folder)


@pytest.mark.parametrize(
    ("landing", "reading", "message"),
    [
        (ingest(), events(archive="ingst"), "did you mean 'ingest'?"),
        (ingest(), events(archive="events"), "name the pipeline that lands the raw records"),
        (ingest(format="string"), events(), "its format is string, not raw"),
        (
            ingest(**{"with": ["topic", "key", "timestamp"]}),
            events(),
            "does not name partition, offset, headers",
        ),
        (ingest() | {"transform": {"sql": "SELECT * FROM events"}}, events(), "it has a transform"),
        (ingest(topics=["b"]), events(), "ingest does not land a"),
        (
            ingest(options={"kafka.isolation.level": "read_committed"}),
            events(),
            "reads read_committed records",
        ),
        (
            events(archive=None) | {"sink": {"delta": {"path": "raw"}}},
            events(),
            "its format is json, not raw",
        ),
        (
            ingest()
            | {"source": {"files": {"path": "in", "format": "json", "schema": "timestamp TIMESTAMP"}}},
            events(),
            "its one source is not of Kafka",
        ),
        (
            ingest(),
            events() | {"sink": {"delta": {"path": "out", "retain": {"age": "1d"}}}},
            "only an archive is retained",
        ),
        (
            ingest() | {"sink": {"delta": {"path": "raw", "retain": {"age": "1d"}}}},
            events() | {"source": {"delta": {"path": "raw"}}},
            "ingest keeps its rows for a time only",
        ),
    ],
)
def test_what_is_no_archive_is_refused_with_its_place(
    tmp_path: Path, landing: dict[str, Any], reading: dict[str, Any], message: str
):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, ingest=landing, events=reading)
    assert message in str(raised.value)
    assert str(raised.value.params["file"]).endswith("events.yml")
    assert int(str(raised.value.params["line"])) > 1


def test_where_history_is_read_decides_no_row_but_a_bound_on_times_does(tmp_path: Path):
    folders = iter(tmp_path / str(n) for n in range(4))
    of = {
        str(archive): load(next(folders), ingest=ingest(), events=events(archive=archive))
        for archive in (
            None,
            "ingest",
            {"pipeline": "ingest", "within": "1d"},
            {"pipeline": "ingest", "within": "2d"},
        )
    }
    prints = [fingerprint(each.pipeline("events"), each.root) for each in of.values()]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_editors_know_that_a_name_is_enough():
    found = json_schema()["$defs"]["KafkaSource"]["properties"]["archive"]["anyOf"]
    assert {"$ref": "#/$defs/Archive"} in found
    assert {"type": "string"} in found


def test_the_guides_pipelines_are_one_project(tmp_path: Path):
    guide = Path(__file__).resolve().parents[2] / "docs/guides/archive.md"
    blocks = [
        yaml.safe_load(text)
        for text in re.findall(r"^```yaml\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL)
    ]
    found = load(tmp_path, **{block["name"]: block for block in blocks})
    assert sorted(found.pipelines) == ["clicks", "ingest", "visits"]
    assert found.pipeline("ingest").table.retain == Retain(age=timedelta(days=90), size=100 * 2**30)


@pytest.mark.parametrize(
    ("retain", "message"),
    [({}, "how much is kept"), ({"age": "0d"}, "keep nothing"), ({"size": "9 apples"}, "write 100 GB")],
)
def test_what_retention_does_not_mean(retain: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        Retain.model_validate(retain)


_AT = st.integers(0, 12)


@given(first=_AT, until=_AT, began=_AT, start=st.none() | _AT, landed=st.none() | _AT)
def test_each_record_of_a_history_is_read_once_and_from_where_it_is(
    first: int, until: int, began: int, start: int | None, landed: int | None
):
    def at(offset: int | None) -> dict[str, dict[str, int]]:
        return {} if offset is None else {"t": {"0": offset}}

    archive = {"began": at(began), "start": at(start), "end": at(landed), "since": 0}
    found = parted({"start": at(first), "end": at(until), "archive": archive})

    def span(low: Any, high: Any) -> list[int]:
        return list(range(low.get("t", {}).get("0", 0), high.get("t", {}).get("0", 0)))

    archived, asked = span(found.archived_from, found.archived_to), span(found.start, found.end)
    assert archived + asked == list(range(first, until))
    assert set(archived) <= set(range(max(began, start or 0), landed or 0))


def test_a_bound_on_times_makes_what_is_kept_enough():
    pin = {
        "start": {"t": {"0": 0}},
        "end": {"t": {"0": 9}},
        "archive": {"began": {}, "start": {"t": {"0": 5}}, "end": {"t": {"0": 7}}, "since": NOON.timestamp()},
    }
    hours = timedelta(hours=1)
    enough = [(NOON + 2 * hours, NOON + 3 * hours)]
    assert parted(pin, enough, 2 * hours).archived_to == {"t": {"0": 7}}
    assert parted(pin, enough, 3 * hours).archived_to == {}
    assert parted(pin, None, 2 * hours).archived_to == {}
    assert parted(pin, enough, None).end == {"t": {"0": 9}}


def batch(number: int, start: int, end: int, **added: int) -> LiveBatch:
    def at(offset: int) -> dict[str, Any]:
        return {"events": {"place": 0, "offset": {"t": {"0": offset}}}}

    labels = {label.replace("_", "-").removeprefix("d"): rows for label, rows in added.items()}
    return LiveBatch("p", "run", "code", "query", number, at(start), at(end), stateful=False, added=labels)


def folded(*facts: Fact) -> Coverage:
    return fold_all(Coverage(), [Commit(n, 1000 * n, fact) for n, fact in enumerate(facts)], SHAPE)


def test_batches_that_do_not_join_are_noticed():
    assert folded(batch(0, 0, 3), batch(1, 3, 5)).broken is None
    broken = folded(batch(0, 0, 3), batch(1, 4, 5), batch(2, 5, 6))
    assert broken.broken == "batch 1 does not begin where the one before it ended"
    assert coverage_json.from_json(coverage_json.as_json(broken)) == broken


def test_what_retention_took_is_neither_clean_nor_missing():
    took = Expired("p", int(datetime(2024, 5, 2, tzinfo=UTC).timestamp()), {"2024-05-01": 4}, {"t": {"0": 4}})
    assert from_json(to_json(took)) == took
    first, second = batch(0, 0, 6, d2024_05_01=4, d2024_05_02=2), batch(1, 6, 8, d2024_05_01=1, d2024_05_04=1)
    coverage = folded(first, took, second)
    assert coverage_json.from_json(coverage_json.as_json(coverage)) == coverage
    # The batch may also have come first, with the removal looking at the table before it.
    assert folded(first, second, took).intervals["2024-05-01"].rows == 1

    judged = judge(coverage, SHAPE, "code")
    states = {each.interval.label: each.state for each in judged}
    assert states == {"2024-05-01": State.EXPIRED, "2024-05-02": State.CLEAN, "2024-05-04": State.CLEAN}
    since = datetime(2024, 5, 2, tzinfo=UTC)
    chosen = select(
        judged,
        Request.between("2024-04-20", "2024-05-04"),
        grain=Grain.DAY,
        live=True,
        begin=None,
        now=NOON,
        since=since,
    )
    assert [each.interval.label for each in chosen.chosen] == ["2024-05-02", "2024-05-03"]
    assert [each.interval.label for each in chosen.left_out] == ["2024-05-01"]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 12), st.integers(1, 60))
def test_what_goes_is_the_oldest_and_no_more_than_must(sizes: list[int], age: int, size: int):
    days = [interval_at(Grain.DAY, NOON - timedelta(days=n)) for n in range(len(sizes))][::-1]
    of: dict[Interval, int] = dict(zip(days, sizes, strict=True))
    gone = outdated(Retain(age=timedelta(days=age), size=size), of, NOON)
    assert list(gone) == days[: len(gone)]
    left = days[len(gone) :]
    # Today has not ended: it stays, however much it is.
    assert days[-1] in left
    assert all(each.end > NOON - timedelta(days=age) for each in left)
    assert sum(of[each] for each in left) <= size or left == days[-1:]
    if gone and gone[-1].end > NOON - timedelta(days=age):
        assert of[gone[-1]] + sum(of[each] for each in left) > size
