"""What inputs hold and how far they have been read, from the files that Spark writes."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill import storage
from tidemill.errors import SourceError, StateError
from tidemill.ledger import inputs
from tidemill.ledger.admitted import Standing, admitted, each_once
from tidemill.ledger.inputs import BatchOffsets
from tidemill.model import DeltaSource, FilesSource

HEADER = '{"batchWatermarkMs":1357391700000,"batchTimestampMs":1357392000123,"conf":{"spark.sql.shuffle.partitions":"2"}}'
DELTA_END = {
    "sourceVersion": 1,
    "reservoirId": "0b4e1ab5-4b8d-4f7e-9a4e-3a1b4b1d8e5f",
    "reservoirVersion": 8,
    "index": -1,
    "isStartingVersion": False,
}


def offsets(checkpoint: Path, batch: int, text: str) -> None:
    (checkpoint / "offsets").mkdir(parents=True, exist_ok=True)
    (checkpoint / "offsets" / str(batch)).write_text(text)


def uri(path: str) -> str:
    """A path as Spark's file-source log writes it."""
    return "file://" + quote(path, safe="/!$&'()*+,;=:@~")


def entry(path: str, batch: int) -> str:
    return json.dumps(
        {"path": uri(path), "timestamp": 1357391700000, "batchId": batch}, separators=(",", ":")
    )


def step(checkpoint: Path, name: str, *entries: str) -> None:
    folder = checkpoint / "sources" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(["v1", *entries]))


# ---- offsets


def test_the_offsets_of_a_batch_are_read_in_sparks_order(tmp_path: Path):
    offsets(tmp_path, 3, f'v1\n{HEADER}\n{{"logOffset":7}}\n-\n{json.dumps(DELTA_END)}')

    assert inputs.read_offsets(str(tmp_path), 3) == BatchOffsets(
        1_357_391_700_000, ({"logOffset": 7}, None, DELTA_END)
    )


def test_a_batch_that_spark_has_not_begun_has_no_offsets(tmp_path: Path):
    assert inputs.read_offsets(str(tmp_path), 3) is None


@pytest.mark.parametrize(
    "text", ["", "v1", "v1\n{", f'v1\n{HEADER}\n{{"logOff', "v1\n[]\n-", f"v7\n{HEADER}\n-"]
)
def test_torn_or_unknown_offsets_are_refused_naming_the_file(tmp_path: Path, text: str):
    offsets(tmp_path, 3, text)

    with pytest.raises(StateError) as refused:
        inputs.read_offsets(str(tmp_path), 3)

    assert refused.value.params["file"] == str(tmp_path / "offsets" / "3")
    assert refused.value.next_step


def test_the_query_of_a_checkpoint_is_known_once_it_has_begun(tmp_path: Path):
    assert inputs.query_id(str(tmp_path)) is None
    (tmp_path / "metadata").write_text('{"id":"5d0a5e5e-3b5e-4d2e-9d3c-6a1f0c9b8e7d"}')

    assert inputs.query_id(str(tmp_path)) == "5d0a5e5e-3b5e-4d2e-9d3c-6a1f0c9b8e7d"


# ---- the log of the file source


def test_files_are_given_by_the_steps_that_read_them(tmp_path: Path):
    step(tmp_path, "0", entry("/in/a", 0), entry("/in/b", 0))
    step(tmp_path, "1", entry("/in/c", 1))
    step(tmp_path, "2", entry("/in/d", 2))

    assert inputs.files_read(str(tmp_path), 0, -1, 2) == ["/in/a", "/in/b", "/in/c", "/in/d"]
    assert inputs.files_read(str(tmp_path), 0, 0, 1) == ["/in/c"]
    assert inputs.files_read(str(tmp_path), 0, 2, 2) == []
    assert inputs.files_read(str(tmp_path), 0, -1, -1) == []


def compacted(checkpoint: Path) -> None:
    """Steps 0 to 12 as Spark leaves them: compacted at 9, the older ones not yet cleaned away."""
    for number in range(13):
        entries = [entry(f"/in/{i}", i) for i in (range(number + 1) if number == 9 else [number])]
        step(checkpoint, "9.compact" if number == 9 else str(number), *entries)


@pytest.mark.parametrize(
    ("after", "until"), [(-1, 12), (-1, 9), (-1, 8), (5, 11), (9, 12), (8, 9), (10, 11), (2, 4)]
)
def test_compacting_changes_nothing(tmp_path: Path, after: int, until: int):
    compacted(tmp_path)

    assert inputs.files_read(str(tmp_path), 0, after, until) == [
        f"/in/{i}" for i in range(after + 1, until + 1)
    ]


@pytest.mark.parametrize(("after", "until"), [(-1, 12), (-1, 9), (-1, 8), (2, 4), (5, 11)])
def test_cleaning_after_compacting_changes_nothing(tmp_path: Path, after: int, until: int):
    compacted(tmp_path)
    for number in range(9):
        (tmp_path / "sources" / "0" / str(number)).unlink()

    assert inputs.files_read(str(tmp_path), 0, after, until) == [
        f"/in/{i}" for i in range(after + 1, until + 1)
    ]


def test_what_is_no_step_is_passed_over(tmp_path: Path):
    step(tmp_path, "0", entry("/in/a", 0))
    for name in (".0.crc", ".1.tmp", "0.compact.tmp"):
        (tmp_path / "sources" / "0" / name).write_text("")

    assert inputs.files_read(str(tmp_path), 0, -1, 0) == ["/in/a"]


@pytest.mark.parametrize("lost", [0, 11, 12])
def test_a_lost_step_is_refused(tmp_path: Path, lost: int):
    compacted(tmp_path)
    (tmp_path / "sources" / "0" / "9.compact").unlink()
    (tmp_path / "sources" / "0" / str(lost)).unlink()

    with pytest.raises(StateError):
        inputs.files_read(str(tmp_path), 0, -1, 12)


def test_a_log_that_ends_too_early_or_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(StateError):
        inputs.files_read(str(tmp_path), 0, -1, 0)
    step(tmp_path, "0", entry("/in/a", 0))
    with pytest.raises(StateError):
        inputs.files_read(str(tmp_path), 0, -1, 1)


@pytest.mark.parametrize("text", ["", "v2\n{}", 'v1\n{"path":'])
def test_a_torn_step_is_refused(tmp_path: Path, text: str):
    step(tmp_path, "0", entry("/in/a", 0))
    (tmp_path / "sources" / "0" / "0").write_text(text)

    with pytest.raises(StateError):
        inputs.files_read(str(tmp_path), 0, -1, 0)


@pytest.mark.parametrize(
    "name", ["with space", "100%25 sure", "ünï-çødé-😀", "a;b=c&d", "q?x#y", "plus+at@tilde~", "k=v", "a:b"]
)
def test_names_of_files_survive_the_log(tmp_path: Path, name: str):
    step(tmp_path, "0", entry(f"/in/{name}.json", 0))

    assert inputs.files_read(str(tmp_path), 0, -1, 0) == [f"/in/{name}.json"]


@given(
    st.sampled_from(["/in", "s3://bucket/in"]),
    st.text(
        st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=20
    ).filter(lambda name: name != "."),
)
def test_any_name_of_a_file_survives(folder: str, name: str):
    encoded = f"{folder}/{quote(name)}" if "://" in folder else uri(f"{folder}/{name}")
    assert inputs.local_path(encoded) == f"{folder}/{name}"
    assert inputs.local_path(storage.uri(f"{folder}/{name}")) == f"{folder}/{name}"


@pytest.mark.parametrize(
    ("encoded", "path"),
    [  # as Java's URI writes them
        ("file:///in/a%20b", "/in/a b"),
        ("s3://bucket/my%20in/a%20b", "s3://bucket/my in/a b"),
        ("s3://bucket/in/100%2525%23%3F", "s3://bucket/in/100%25#?"),
        ("file:///in/%5B1%5D%7B%22%7D%5C%5E%60%7C%3C%3E%25", '/in/[1]{"}\\^`|<>%'),
        ("file:///in/a(1)&b=$c,+d;e@f!~g'h*:i", "/in/a(1)&b=$c,+d;e@f!~g'h*:i"),
        ("s3://bucket/in/ünï-çødé-😀%C2%A0%E3%80%80%C2%85", "s3://bucket/in/ünï-çødé-😀\u00a0\u3000\u0085"),
    ],
)
def test_spark_and_the_ledger_name_a_file_alike(encoded: str, path: str):
    assert inputs.local_path(encoded) == path
    assert storage.uri(path) == encoded


def test_a_folder_of_a_store_whose_name_has_a_blank_has_not_moved(tmp_path: Path):
    folder = tmp_path / "sources" / "0"
    folder.mkdir(parents=True)
    line = {"path": "s3://bucket/my%20in/a%20b.json", "timestamp": 1, "batchId": 0}
    (folder / "0").write_text("\n".join(["v1", json.dumps(line)]))

    assert inputs.files_read(str(tmp_path), 0, -1, 0) == ["s3://bucket/my in/a b.json"]
    assert inputs.moved_from(str(tmp_path), 0, 0, "s3://bucket/my in") is None
    assert inputs.moved_from(str(tmp_path), 0, 0, "s3://bucket/in") == "s3://bucket/my in"


def test_addresses_of_other_file_systems_stay():
    assert inputs.local_path("hdfs://names/in/a%20b") == "hdfs://names/in/a%20b"
    assert inputs.local_path("s3a://bucket/in/a%20b") == "s3a://bucket/in/a b"
    assert inputs.local_path("file:/in/a%20b") == "/in/a b"


# ---- folders


def source(folder: Path) -> FilesSource:
    return FilesSource.model_validate({"path": str(folder), "format": "parquet"})


def test_a_folder_is_listed_oldest_first_without_what_is_hidden(tmp_path: Path):
    names = {
        "b.json": 30,
        "a.json": 20,
        "sub/c d%.json": 10,
        "_hidden": 1,
        ".also": 1,
        "_tmp/x": 1,
        ".git/y": 1,
    }
    for name, seconds in names.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x" * seconds)
        os.utime(path, (seconds, seconds))

    found = inputs.list_files(source(tmp_path))

    assert [(file.path, file.size, file.modified) for file in found] == [
        (str(tmp_path / "sub/c d%.json"), 10, 10_000),
        (str(tmp_path / "a.json"), 20, 20_000),
        (str(tmp_path / "b.json"), 30, 30_000),
    ]
    assert inputs.total_size([file.path for file in found] + [str(tmp_path / "gone")]) == 60


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SourceError) as refused:
        inputs.list_files(source(tmp_path / "none"))

    assert "source.files.path" in refused.value.next_step


def test_a_listing_is_known_again_whatever_its_order():
    described = inputs.describe_listing(["/b", "/a"])

    assert described == inputs.describe_listing(["/a", "/b"])
    assert described["files"] == 2
    assert described != inputs.describe_listing(["/a", "/c"])


# ---- Delta sources


def test_the_version_of_a_source_table_is_its_newest_commit(tmp_path: Path):
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    with pytest.raises(SourceError):
        inputs.delta_version(DeltaSource(path=str(tmp_path)))
    for version in (3, 12):
        (folder / f"{version:020d}.json").write_text("{}")
    (folder / f"{99:020d}.checkpoint.parquet").write_text("")

    assert inputs.delta_version(DeltaSource(path=str(tmp_path))) == 12


@pytest.mark.parametrize(
    ("version", "index", "starting", "pinned", "newest"),
    [
        (8, -1, False, 7, 7),  # before the first file of 8: 7 was read in full
        (8, -100, False, 7, 7),  # as the newer format writes it
        (8, -20, False, None, 8),  # around a change of schema in 8
        (8, 0, False, None, 8),  # in the middle of 8
        (8, 4, True, None, 8),  # in the middle of the table as it was at the start
        (8, -1, True, None, 8),
    ],
)
def test_an_offset_says_which_version_was_read_in_full(
    version: int,
    index: int,
    starting: bool,  # noqa: FBT001
    pinned: int | None,
    newest: int,
):
    offset = {**DELTA_END, "reservoirVersion": version, "index": index, "isStartingVersion": starting}

    assert inputs.pinned_version(offset) == pinned
    assert inputs.delta_version_of(offset) == newest


def test_without_an_offset_nothing_was_read_in_full():
    assert inputs.pinned_version(None) is None


# ---- what a Delta stream has read


def at(version: int, index: int = -1, *, starting: bool = False) -> dict[str, object]:
    return {**DELTA_END, "reservoirVersion": version, "index": index, "isStartingVersion": starting}


def add(name: str, **more: object) -> dict[str, object]:
    return {"add": {"path": name, "dataChange": True, "stats": "{}", **more}}


def remove(name: str, **more: object) -> dict[str, object]:
    return {"remove": {"path": name, "dataChange": True, **more}}


def upstream(table: Path, *commits: list[dict[str, object]], first: int = 0) -> str:
    """The log of a table, the commits before ``first`` cleaned away."""
    folder = table / "_delta_log"
    folder.mkdir()
    for version, actions in enumerate(commits):
        if version >= first:
            lines = [json.dumps(each, separators=(",", ":")) for each in [{"commitInfo": {}}, *actions]]
            (folder / f"{version:020d}.json").write_text("\n".join(lines))
    return str(table)


def read(table: str, start: object, end: object, begun: int | None = None) -> tuple[list[str], object]:
    found = admitted(table, start, end, begun)
    assert found.version == inputs.delta_version_of(end)
    return [str(each["path"]) for each in found.adds], found.standing


def test_a_batch_reads_the_files_after_one_place_up_to_another(tmp_path: Path):
    table = upstream(tmp_path, [add("a")], [add("b"), add("c"), add("d")], [add("p=1/e"), add("p=2/e")])

    assert read(table, at(0), at(1)) == (["a"], None)
    assert read(table, at(0), at(1, 0)) == (["a", "b"], None)
    assert read(table, at(1, 0), at(1, 1)) == (["c"], None)
    assert read(table, at(1, 1), at(2)) == (["d"], None)
    assert read(table, at(1, 1), at(2, 0)) == (["d", "p=1/e"], None)
    assert read(table, at(2, 0), at(3)) == (["p=2/e"], None)
    assert read(table, at(1, -100), at(3, -100)) == (["b", "c", "d", "p=1/e", "p=2/e"], None)


@given(st.data())
def test_wherever_batches_end_each_file_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    names = [[f"{version}-{i}" for i in range(size)] for version, size in enumerate(sizes)]
    table = upstream(tmp_path_factory.mktemp("table"), *[[add(each) for each in some] for some in names])
    # Delta never stops after the last file of a version, but before the first of the next.
    places = [(v, i) for v, size in enumerate(sizes) for i in range(-1, size - 1)] + [(len(sizes), -1)]
    cuts = data.draw(st.lists(st.sampled_from(places), unique=True).map(sorted))
    ends = [at(*each) for each in [(0, -1), *cuts, (len(sizes), -1)]]

    batches = [read(table, start, end) for start, end in pairwise(ends)]

    assert [name for found, _ in batches for name in found] == [each for some in names for each in some]


def test_a_stream_begins_with_the_table_as_it_stands_whatever_is_left_of_its_log(tmp_path: Path):
    table = upstream(tmp_path, [add("a")], [add("b")], [add("c")], [add("d"), add("e")], first=3)

    assert read(table, None, at(2, 0, starting=True)) == ([], Standing(2, 0, 1))
    assert read(table, at(2, 0, starting=True), at(2, 1, starting=True)) == ([], Standing(2, 1, 2))
    assert read(table, at(2, 1, starting=True), at(3)) == ([], Standing(2, 2, None))
    assert read(table, at(2, 1, starting=True), at(3, 0)) == (["d"], Standing(2, 2, None))
    # All at once, and on: the table as it stood is the one before the version of the end.
    assert read(table, None, at(3)) == ([], Standing(2, 0, None))
    assert read(table, None, at(3, 0)) == (["d"], Standing(2, 0, None))


def test_a_stream_that_began_at_a_version_has_read_nothing_of_before(tmp_path: Path):
    table = upstream(tmp_path, [add("a")], [add("b")], [add("c"), add("d")], first=1)

    assert read(table, None, at(2, 0), begun=1) == (["b", "c"], None)
    assert read(table, None, at(3), begun=2) == (["c", "d"], None)


def test_what_only_rearranges_and_what_replaces_is_passed_over_by_number_and_all(tmp_path: Path):
    compacted = [
        remove("a", dataChange=False),
        add("ab", dataChange=False),
        add("c"),
        remove("b", dataChange=False),
        add("d"),
    ]
    swapped = [add("x"), remove("c"), add("y")]
    table = upstream(tmp_path, [add("a")], [add("b")], compacted, swapped, [remove("d")], [add("e")])

    # That c and d are gone again by the end is nothing to the batch that read them.
    assert read(table, at(1), at(6)) == (["b", "c", "d", "e"], None)
    assert read(table, at(2), at(2, 0)) == (["c"], None)
    assert read(table, at(2, 0), at(4)) == (["d"], None)
    assert read(table, at(3), at(5)) == ([], None)


def test_an_input_that_stands_still_asks_for_nothing(tmp_path: Path):
    table = upstream(tmp_path, [add("a")], [add("b")], first=2)

    for where in (at(1), at(1, 0), at(1, 0, starting=True)):
        assert read(table, where, where) == ([], None)


def test_a_commit_that_is_gone_is_named(tmp_path: Path):
    table = upstream(tmp_path, [add("a")], [add("b")], [add("c")], first=2)

    with pytest.raises(StateError) as refused:
        admitted(table, at(1), at(3))

    assert (refused.value.params["version"], refused.value.params["table"]) == (1, table)
    assert refused.value.next_step


def test_a_file_that_came_more_than_once_is_read_as_often():
    assert each_once([]) == [[]]
    assert each_once([("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5), ("b", 6)]) == [[1, 2, 4], [3, 6], [5]]
