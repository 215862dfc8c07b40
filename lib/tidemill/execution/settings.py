"""What a Spark session of tidemill is set to, why, and who may say otherwise.

Loads no Spark. :mod:`tidemill.execution.submission` hands the same to spark-submit, before its JVM starts, so that a
submitted job and a session built in a notebook are the same by construction.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from tidemill.execution import jars

ZONE = "spark.sql.session.timeZone"
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        # Days and hours are cut in UTC. With the machine's own zone, partitions would shift with it.
        ZONE: "UTC",
        # Python workers turn timestamps into naive datetimes of their own zone.
        "spark.executorEnv.TZ": "UTC",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # The default, 50, makes a small batch into a Delta table take 5.6 s instead of 0.75-1.1 s.
        "spark.databricks.delta.snapshotPartitions": "2",
        # Holds more than the heap, and transformWithState needs it; a batch then writes what it changed only.
        "spark.sql.streaming.stateStore.providerClass": (
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
        ),
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        # The default, INT96, has no statistics, and statistics are what a commit records and readers skip by.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # A table's root holds data that commits name, and no _SUCCESS files.
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        # Several pipelines in one session: a big batch of one must not starve the others.
        "spark.scheduler.mode": "FAIR",
        # tidemill draws its own progress; Spark's would write over it.
        "spark.ui.showConsoleProgress": "false",
        # Spark makes classes of each piece of a plan, for tens of milliseconds, and keeps those of the last 100 pieces. A batch
        # of one pipeline has ten to thirty: a driver of a few pipelines would make them all anew in each batch.
        "spark.sql.codegen.cache.maxEntries": "1000",
        # A port and a thread pool, for a page that few open. What it would show is kept all the same, of the last 1000
        # queries with their plans: a stream soon has those.
        "spark.ui.enabled": "false",
        "spark.sql.ui.retainedExecutions": "100",
        "spark.ui.retainedJobs": "200",
        "spark.ui.retainedStages": "200",
        "spark.ui.retainedTasks": "2000",
    }
)

LOCAL: Mapping[str, str] = MappingProxyType(
    {
        # On a local disk Hadoop forks a process to set each file's permissions: 45 ms against 2 ms for each of
        # the three log files of a batch. Both are for local disks only, so not for a cluster.
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        ),
        # Files under 4 MiB are otherwise never split: one core parses a batch and the others look on.
        "spark.sql.files.openCostInBytes": "1048576",
        # The file source keeps a file for each batch, and lists them all in each: without the default delay of ten
        # minutes only those since the last compaction. A local disk shows at once what was written.
        "spark.sql.streaming.fileSource.log.cleanupDelay": "1s",
        # Up to 10,000 tasks list a table's folders by default, and VACUUM pays for it with a minute.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
        # One driver on one machine: nothing has to reach it from elsewhere, and host names may not resolve.
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
)

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_ZONE = "-Duser.timezone=UTC"
COMPILE_ALL = "-XX:-DontCompileHugeMethods"
"""Spark makes one method of a stage, and Java leaves one of more than 8,000 bytes to its interpreter, unless told not to: a
suite of a hundred expectations was seen to take 17 us a row so, and 1.1 us when it is compiled."""
# A broken Avro record may claim a text of 2 GB, and Avro makes room for it before it looks: that ends the JVM. What a
# broker's message holds is far smaller.
_AVRO = {"bytes": 64 << 20, "string": 64 << 20, "collectionItems": 4 << 20}
_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")
_SAYS = {"--master": "spark.master", "--driver-memory": "spark.driver.memory"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_MEANT = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_PROPERTY = re.compile(r"((?:\\.|[^\\\s=:])*)\s*[=:]?\s*(.*)", re.DOTALL)


def is_local(master: str) -> bool:
    """Whether driver and executors are one JVM (``local[2]``, ``local[*]``), on one disk."""
    return master.startswith("local") and not master.startswith("local-cluster")


def cores(master: str) -> int:
    """The cores that a local master uses.

    >>> cores("local[3]"), cores("local[3,2]"), cores("local")
    (3, 3, 1)
    """
    asked = re.match(r"local(?:\[(\d+|\*))?", master)
    if asked is None or asked.group(1) is None:
        return 1
    if asked.group(1) != "*":
        return int(asked.group(1))
    # What this process may use, where the system can tell: a container may own fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_properties(text: str) -> dict[str, str]:
    r"""The settings in a file of Java's properties, with its escapes and lines that go on, as Spark reads ``spark-defaults.conf``.

    >>> parse_properties("# none\nspark.a 1\nspark.b=http\\://minio\\:9000\nspark.c: a,\\\n   b\n")
    {'spark.a': '1', 'spark.b': 'http://minio:9000', 'spark.c': 'a,b'}
    """
    found: dict[str, str] = {}
    for line in _whole_lines(text):
        match = _PROPERTY.match(line)
        if match is not None:
            key, value = (_ESCAPE.sub(_meant, each) for each in match.groups())
            found[key] = value.strip()
    return found


def _whole_lines(text: str) -> Iterator[str]:
    begun = ""
    for line in map(str.lstrip, re.split(r"\r\n|\r|\n", text)):
        if not begun and (not line or line.startswith(("#", "!"))):
            continue
        begun += line
        if (len(begun) - len(begun.rstrip("\\"))) % 2:
            begun = begun[:-1]
        else:
            yield begun
            begun = ""
    if begun:
        yield begun


def _meant(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    return chr(int(code, 16)) if code else _MEANT.get(letter, letter)


def parse_submit_args(text: str) -> dict[str, str]:
    """The settings in ``PYSPARK_SUBMIT_ARGS``, where they are given as ``--conf`` or as ``--master``.

    >>> parse_submit_args("--master local[3] --conf spark.a=1 pyspark-shell")
    {'spark.master': 'local[3]', 'spark.a': '1'}
    """
    words: list[str] = []
    for word in shlex.split(text):
        option, _, value = word.partition("=")
        words += [option, value] if value and option in {"--conf", *_SAYS} else [word]
    found: dict[str, str] = {}
    for flag, value in pairwise(words):
        if flag in {"--conf", "-c"} and "=" in value:
            key, _, said = value.partition("=")
            found[key] = said
        elif flag in _SAYS:
            found[_SAYS[flag]] = value
    return found


def given(master: str | None, start: Path | None = None) -> dict[str, str]:
    """What the user has set outside the code, weakest first: Spark's defaults file, the project's, the command.

    ``conf/spark/local.conf`` counts for a local master, ``conf/spark/cluster.conf`` for any other; the
    project is looked for from ``start``, else from the working directory.
    """
    found: dict[str, str] = {}
    conf_folder = os.environ.get("SPARK_CONF_DIR")
    spark_home = os.environ.get("SPARK_HOME")
    if conf_folder is None and spark_home:
        conf_folder = str(Path(spark_home) / "conf")
    if conf_folder:
        found |= _read(Path(conf_folder) / "spark-defaults.conf")
    command = parse_submit_args(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    master = master or command.get("spark.master") or found.get("spark.master") or "local[*]"
    project = jars.project_folder(start)
    if project:
        found |= _read(project / "conf" / "spark" / ("local.conf" if is_local(master) else "cluster.conf"))
    return found | command


def _read(path: Path) -> dict[str, str]:
    return parse_properties(path.read_text(encoding="utf-8")) if path.is_file() else {}


def resolve(master: str, said: Mapping[str, str], class_path: Sequence[Path]) -> dict[str, str]:
    """Every setting of a session: tidemill's defaults for this master, overruled by what was said.

    The Java options and the class path are joined with what was said, never replaced by it: a user who wants
    another garbage collector keeps UTC and Delta.
    """
    found = {**DEFAULTS, "spark.master": master}
    if is_local(master):
        found |= LOCAL
        # Fixed for a stateful stream at its first batch. The default, 200, makes that batch take 20 s.
        found["spark.sql.shuffle.partitions"] = str(max(2, cores(master)))
        found["spark.driver.memory"] = os.environ.get("TIDEMILL_DRIVER_MEMORY", "1g")
    elif "TIDEMILL_DRIVER_MEMORY" in os.environ:
        found["spark.driver.memory"] = os.environ["TIDEMILL_DRIVER_MEMORY"]
    found |= said
    found["spark.master"] = master
    found[JAVA_OPTIONS] = _java_options(said.get(JAVA_OPTIONS, ""), logging=True)
    if is_local(master) and not _COLLECTOR.search(found[JAVA_OPTIONS]):
        # A batch is short and its heap small. G1 takes buffers of half a megabyte, of which Parquet makes many,
        # for humongous, and stops 12 ms a batch for them.
        found[JAVA_OPTIONS] += " -XX:+UseParallelGC"
    executor = "spark.executor.extraJavaOptions"
    found[executor] = _java_options(said.get(executor, ""), logging=False)
    # One machine: the class path alone, which also reaches the file system that Hadoop loads. A cluster: shipped.
    key, glue = ("spark.driver.extraClassPath", os.pathsep) if is_local(master) else ("spark.jars", ",")
    found[key] = glue.join(
        dict.fromkeys([*map(str, class_path), *filter(None, said.get(key, "").split(glue))])
    )
    return found


def _java_options(said: str, *, logging: bool) -> str:
    words = [said] if said else []
    if "-Duser.timezone" not in said:
        words.append(_ZONE)
    if "DontCompileHugeMethods" not in said:
        words.append(COMPILE_ALL)
    for kind, most in _AVRO.items():
        option = f"-Dorg.apache.avro.limits.{kind}.maxLength"
        if option not in said:
            words.append(f"{option}={most}")
    if logging and "-Dlog4j" not in said:
        quiet = resources.files(__package__).joinpath("log4j2.properties")
        # From a zip (--py-files) there is no file to point the JVM at; Spark's own logging does then.
        if isinstance(quiet, Path):
            words.append(f'"-Dlog4j2.configurationFile={quiet.as_uri()}"')
    return " ".join(words)


def spark_home() -> str:
    """The folder of the pyspark that this interpreter would import."""
    spec = find_spec("pyspark")
    places = list((spec.submodule_search_locations if spec else None) or ())
    return places[0] if places else ""
