"""Places on a store: what their methods mean, and that an exclusive write is one."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.services.racers import race_for_leases
from tests.services.s3 import KEY, SECRET, Store
from tidemill.errors import LeaseHeld
from tidemill.ledger import lease, log
from tidemill.ledger.lease import Lease
from tidemill.ledger.whole import replace_text
from tidemill.model import Store as Settings
from tidemill.sinks import commit
from tidemill.storage import Place, missing, newest, parquet, place, remove_tree, walk
from tidemill.storage.clients import delta_options, hadoop_settings, use

pytestmark = pytest.mark.slow
NAMES = ("a b%3A1/f é.json", "x.parquet", "deep/er/y.txt", "_hidden/z", "deep/.w")


@pytest.fixture(params=["folder", "store"])
def root(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Place:
    """A folder on either side: the tests that take it say what both mean."""
    return tmp_path / "root" if request.param == "folder" else place(f"s3://{bucket}/root")


def test_what_is_written_is_read_and_found(root: Place) -> None:
    for name in NAMES:
        replace_text(root / name, f"text of {name}")

    assert [(root / name).read_text(encoding="utf-8") for name in NAMES] == [
        f"text of {name}" for name in NAMES
    ]
    assert sorted(path.name for path in root.iterdir()) == ["_hidden", "a b%3A1", "deep", "x.parquet"]
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["_hidden", "a b%3A1", "deep"]
    assert [path.name for path in root.glob("x.*")] == ["x.parquet"]
    assert sorted(file.path for file in walk(root)) == ["a b%3A1/f é.json", "deep/er/y.txt", "x.parquet"]
    assert [file.size for file in walk(root / "deep")] == [len("text of deep/er/y.txt")]
    assert missing(str(root), ["x.parquet", "nope", NAMES[0]]) == ["nope"]
    assert (root / "x.parquet").is_file()
    assert not (root / "deep").is_file()
    assert newest(root) > 1.7e9
    part = root / NAMES[0]
    assert (part.name, part.stem, part.suffix, part.parent.name) == ("f é.json", "f é", ".json", "a b%3A1")

    (root / "x.parquet").unlink()
    (root / "x.parquet").unlink(missing_ok=True)
    remove_tree(root / "deep")
    remove_tree(root / "nothing")
    assert [file.path for file in walk(root)] == [NAMES[0]]
    with pytest.raises(FileNotFoundError):
        (root / "x.parquet").read_text(encoding="utf-8")


def test_what_is_not_there_is_empty(root: Place) -> None:
    assert list(walk(root)) == []
    assert not root.is_dir()
    assert not log.exists(str(root))
    assert log.last_version(str(root)) is None


def test_marks_of_folders_are_no_files_that_were_left(bucket: str, store: Store) -> None:
    store.client().put_object(Bucket=bucket, Key="t/part-1/_temporary/", Body=b"")
    folder = place(f"s3://{bucket}/t/part-1")

    assert list(walk(folder)) == []
    assert newest(folder) == math.inf
    replace_text(folder / "_temporary/x", "left")
    assert 1.7e9 < newest(folder) < math.inf


def test_parquet_is_read_in_parts(root: Place) -> None:
    table = pa.table({"n": list(range(100_000))})
    local = pa.BufferOutputStream()
    pq.write_table(table, local)
    if isinstance(root, Path):
        root.mkdir()
        (root / "x.parquet").write_bytes(local.getvalue().to_pybytes())
    else:
        import obstore

        obstore.put(root._store, f"{root.key}/x.parquet", local.getvalue().to_pybytes())

    assert pq.read_metadata(parquet(root / "x.parquet")).num_rows == 100_000
    assert pq.read_table(parquet(root / "x.parquet")).equals(table)


def test_of_many_that_write_a_version_one_does(root: Place) -> None:
    log.log_folder(str(root)).mkdir(parents=True) if isinstance(root, Path) else None
    for version in range(5):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, v=version: commit.put(str(root), v, f'{{"n": {n}}}'), range(8)))
        assert won.count(True) == 1
        assert log.commit_text(str(root), version) == f'{{"n": {won.index(True)}}}'
    assert (log.first_version(str(root)), log.last_version(str(root))) == (0, 4)
    assert commit.is_newest(str(root), 4)
    assert not commit.is_newest(str(root), 3)


def test_a_lease_is_held_by_one_and_given_back(root: Place) -> None:
    with Lease(str(root), "live", what="a") as held:
        held.check()
        with pytest.raises(LeaseHeld, match="held by process"), Lease(str(root), "live", what="b"):
            pass
        with Lease(str(root), "live", what="c", take_over=True) as other:
            other.check()
            with pytest.raises(LeaseHeld, match="was lost to"):
                held.check()
    assert lease.read(root / "live.lease") is None
    with Lease(str(root), "live", what="d"):
        pass


def test_of_processes_that_start_at_once_one_gets_the_lease(bucket: str) -> None:
    state = f"s3://{bucket}/state"
    dead = {"token": "x", "host": "elsewhere", "pid": 1, "started": 1.0, "what": "dead"}
    times = {"since": "2024-01-01T00:00:00+00:00", "until": "2024-01-01T00:01:00+00:00"}
    for round_ in range(0, 6, 2):  # half of the leases belong to the dead, half to nobody
        replace_text(place(state) / f"round-{round_}.lease", json.dumps(dead | times))
    race_for_leases(state, 6)


def test_keys_come_from_the_settings_then_the_environment_then_a_profile(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in store.environment():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-north-1\nendpoint_url = {store.endpoint}\n")
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = lab-key\naws_secret_access_key = lab-secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    use(
        {
            "by-profile": Settings(profile="lab"),
            "by-name": Settings(access_key="k", secret_key="s", region="r"),  # noqa: S106
        }
    )

    profile, named = delta_options("s3://by-profile/t"), delta_options("s3://by-name/t")
    assert profile is not None
    assert named is not None
    assert (profile["aws_access_key_id"], profile["aws_region"]) == ("lab-key", "eu-north-1")
    assert profile["aws_endpoint"] == store.endpoint
    assert (named["aws_access_key_id"], named["aws_region"]) == ("k", "r")
    assert hadoop_settings("by-profile")["fs.s3a.bucket.by-profile.secret.key"] == "lab-secret"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    by_environment = delta_options("s3://by-environment/t")
    assert by_environment is not None
    assert by_environment["aws_access_key_id"] == KEY
    assert by_environment["aws_conditional_put"] == "etag"
    assert delta_options(str(tmp_path)) is None
