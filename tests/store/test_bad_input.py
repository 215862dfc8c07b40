"""What is wrong with a store is said by name, soon, with what to do; and no key is ever in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.services.faults import proxy
from tests.services.s3 import KEY, SECRET, Store
from tests.store.lake import Lake
from tidemill.cli.app import app
from tidemill.config import load_project
from tidemill.errors import ConfigError, StoreError
from tidemill.intervals import Grain
from tidemill.ledger.lease import Lease
from tidemill.sinks import commit
from tidemill.sinks.table import LogTable

pytestmark = pytest.mark.slow
SOON = 45.0
_FIELDS = [
    {"name": name, "type": kind, "nullable": True, "metadata": {}}
    for name, kind in {
        "id": "long",
        "sensor": "string",
        "at": "timestamp",
        "v": "long",
        "event_date": "date",
    }.items()
]


def _refused(lake: Lake, error: str, step: str) -> StoreError:
    began = time.monotonic()
    with pytest.raises(StoreError, match=error) as found:
        lake.engine.status("readings")
    with (
        pytest.raises(StoreError, match=error),
        Lease(lake.engine.project.pipeline("readings").table.state_path, "live", what="a"),
    ):
        pass
    assert time.monotonic() - began < SOON
    assert step in found.value.next_step
    assert SECRET not in str(found.value)
    return found.value


def test_a_bucket_that_is_not_there(tmp_path: Path, store: Store, bucket: str) -> None:
    lake = Lake(tmp_path, store, f"{bucket}-gone", None, events_on_store=False)

    found = _refused(lake, "there is no such bucket", "create it")
    assert found.params["bucket"] == f"{bucket}-gone"


def test_keys_that_the_store_does_not_know(
    tmp_path: Path, store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    lake = Lake(tmp_path, store, bucket, None, events_on_store=False)

    found = _refused(
        lake,
        r"refuses the request \(InvalidAccessKeyId\); the keys are from the environment",
        "correct the keys",
    )
    assert "SOMEBODYELSE" not in str(found)


def test_an_endpoint_where_nothing_listens(tmp_path: Path, store: Store, bucket: str) -> None:
    lake = Lake(tmp_path, store, bucket, None, events_on_store=False)
    (tmp_path / "conf/stores.yml").write_text(f"{bucket}:\n  endpoint: http://127.0.0.1:9\n")
    lake.use(1)

    _refused(lake, "http://127.0.0.1:9: the store does not answer", "check the endpoint")


def test_a_store_that_ignores_conditions(tmp_path: Path, store: Store, bucket: str) -> None:
    with proxy(store.endpoint, patience=1) as between:
        between.careless = True
        lake = Lake(tmp_path, store, bucket, None, events_on_store=False)
        (tmp_path / "conf/stores.yml").write_text(f"{bucket}: {{endpoint: '{between.endpoint}'}}\n")
        lake.use(1)
        state = lake.engine.project.pipeline("readings").table.state_path

        with pytest.raises(StoreError, match="ignores the conditions"), Lease(state, "live", what="a"):
            pass
        between.careless = False
        with Lease(state, "live", what="a") as held:
            held.check()
    assert lake.objects() == ["tables/readings/_tidemill/live.lease"]


def test_a_table_on_such_a_store_is_not_written_either_whose_leases_are_elsewhere(
    tmp_path: Path, store: Store, bucket: str
) -> None:
    lake = Lake(tmp_path, store, bucket, None, events_on_store=False)
    declared = tmp_path / "conf/pipelines/readings.yml"
    text, path = declared.read_text(), f"s3://{bucket}/tables/readings"
    declared.write_text(text.replace(f'"{path}"', f'"{path}", state: data/state'))
    table = LogTable.create(path, Grain.DAY, {"type": "struct", "fields": _FIELDS})
    stands = lake.objects()
    with proxy(store.endpoint, patience=1) as between:
        between.careless = True
        (tmp_path / "conf/stores.yml").write_text(f"{bucket}: {{endpoint: '{between.endpoint}'}}\n")
        engine = lake.use(1)

        assert engine.maintain("readings", dry_run=True).dry_run  # writes nothing, and asks nothing
        with pytest.raises(StoreError, match="ignores the conditions"):
            engine.maintain("readings")
        with pytest.raises(StoreError, match="ignores the conditions"):
            LogTable.create(f"{path}2", Grain.DAY, table.schema)
        with pytest.raises(StoreError, match="ignores the conditions"):
            commit.put(path, 0, "over what is there")
        assert lake.objects() == stands

        between.careless = False
        assert not commit.put(path, 0, "over what is there")
        assert commit.put(path, 1, "{}")
    assert lake.objects() == [*stands, f"tables/readings/_delta_log/{1:020}.json"]


def test_the_command_line_says_it_in_json(tmp_path: Path, store: Store, bucket: str) -> None:
    Lake(tmp_path, store, f"{bucket}-gone", None, events_on_store=False)

    done = CliRunner().invoke(app, ["status", "readings", "--project", str(tmp_path), "--json"])
    assert done.exit_code == 1
    assert '"error": "STORE"' in done.output
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (
            "lake-of-tests: {endpint: 'http://h'}",
            r"stores.yml:1: lake-of-tests.endpint: unknown key 'endpint'",
        ),
        ("lake-of-tests: {access_key: '${env:LAKE_KEY}'}", "access_key and secret_key come together"),
        ("lake-of-tests:\n  access_key: ${env:NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
        ("lake-of-tests: {endpoint: 'lake.example'}", "stores.yml:1: lake-of-tests.endpoint"),
        ("La: {}", "'La' is no bucket's name"),
        ("- a", "a mapping of buckets is wanted"),
    ],
)
def test_settings_that_are_none(
    tmp_path: Path, store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch, written: str, error: str
) -> None:
    Lake(tmp_path, store, bucket, None, events_on_store=False)
    monkeypatch.setenv("LAKE_KEY", "a-key-that-must-not-show")
    (tmp_path / "conf/stores.yml").write_text(written)

    with pytest.raises(ConfigError, match=error) as found:
        load_project(tmp_path)
    assert "must-not-show" not in str(found.value)


def test_keys_are_nowhere_but_with_the_clients(
    tmp_path: Path, store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path, store, bucket, None, events_on_store=False)
    before = lake.engine.project.fingerprint("readings")
    monkeypatch.setenv("LAKE_SECRET", SECRET)
    (tmp_path / "conf/stores.yml").write_text(
        f"{bucket}: {{access_key: {KEY}, secret_key: '${{env:LAKE_SECRET}}', endpoint: '{store.endpoint}'}}\n"
    )
    engine = lake.use(1)

    assert engine.project.fingerprint("readings") == before
    assert SECRET not in repr(engine.project)
    assert KEY not in repr(engine.project)
    assert engine.coverage("readings").rows == ()


@pytest.mark.parametrize("path", ["s3://ab/tables", "s3://bucket", "s3://Bucket/tables"])
def test_paths_that_name_no_bucket(tmp_path: Path, store: Store, bucket: str, path: str) -> None:
    Lake(tmp_path, store, bucket, None, events_on_store=False)
    file = tmp_path / "conf/pipelines/readings.yml"
    file.write_text(file.read_text().replace(f"s3://{bucket}/tables/readings", path))

    with pytest.raises(ConfigError, match=r"readings.yml:\d+: sink.delta.path"):
        load_project(tmp_path)


def test_another_scheme_is_refused_by_name(tmp_path: Path, store: Store, bucket: str) -> None:
    lake = Lake(tmp_path, store, bucket, None, events_on_store=False)
    file = tmp_path / "conf/pipelines/readings.yml"
    file.write_text(file.read_text().replace(f"s3://{bucket}", "gs://bucket"))

    with pytest.raises(ConfigError, match="on a file system, or on s3://"):
        lake.use(1).status("readings")
