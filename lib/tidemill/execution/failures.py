"""Turns what Spark and Python raise into tidemill's errors, with the cause and the next step."""

from __future__ import annotations

import re
from pathlib import Path

from pyspark.errors import PySparkException

from tidemill import errors
from tidemill.errors import SourceError, StoreError, TidemillError, TransformError, UnreadableFile
from tidemill.model import Pipeline

_FILE = re.compile(r"(?:file:/|s3a?://)(?:\\.|[^\s\"\]])+")
_GONE = ("FILE_NOT_EXIST", "PATH_NOT_FOUND", "FileNotFoundException")
_NOT_THERE = re.compile(r"\[PATH_NOT_FOUND\] Path does not exist: (?:file:)?(?P<path>.+?)\. SQLSTATE")
_UNREADABLE = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "is not a Parquet file",
    "EOFException",
    "ZipException",
)

_WORKER_GONE = "Python worker exited unexpectedly"
_OF_STORES = re.compile(
    r"Generic S3 error|software\.amazon\.awssdk\.[\w.]+Exception|org\.apache\.hadoop\.fs\.s3a\.\w+Exception"
)
_NETWORK = re.compile(r"java\.net\.\w+Exception|org\.apache\.http\.\w+Exception")
_LOST, _BEYOND = "are not available in Kafka any more", "Cannot fetch record for offset"
_NO_MOMENT, _OF_KAFKA = "ArithmeticException: long overflow", "sql.kafka010."
_RAISED = re.compile(r"tidemill\.errors\.(\w+): (.+)\n\s+next: (.+)")
_SILENT = re.compile(
    r"Cannot fetch record for offset \d+ in \d+ milliseconds|org\.apache\.kafka\.common\.errors\.TimeoutException: .*"
)
_IN_WORKER = "An exception was thrown from the Python worker:"
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in ')
_NOT_THEIRS = re.compile(
    rf"[/\\](?:pyspark|site-packages|python3\.\d+)[/\\]|^{re.escape(str(Path(errors.__file__).parent))}"
)
_CALLED = re.compile(r"was called from\s*\n\s*(\S.*?:\d+)\s*$", re.MULTILINE)
_REASON = re.compile(r"^\s*Reason:\s*(.+?)(?:\s*SQLSTATE.*)?$", re.MULTILINE)


def explained(error: BaseException, pipeline: Pipeline) -> TidemillError:
    """The tidemill error that says what ``error`` means for a run of ``pipeline``."""
    if isinstance(error, TidemillError):
        return error
    text = str(error)
    known = (meaning(text, pipeline) for meaning in _MEANINGS)
    return next((found for found in known if found is not None), None) or _of_the_transform(error, pipeline)


def _raised_in_python(text: str, pipeline: Pipeline) -> TidemillError | None:
    # By a source or a fold, in a process of Spark's, which passes on the text alone; the last is what the others led to.
    raised = next(iter(list(_RAISED.finditer(text))[-1:]), None)
    if raised is None:
        return None
    kind = getattr(errors, raised[1], SourceError)
    return kind(f"{pipeline.name}: {raised[2]}", next_step=raised[3])


def _worker_gone(text: str, pipeline: Pipeline) -> TidemillError | None:
    if _WORKER_GONE not in text:
        return None
    return TransformError(
        f"{pipeline.name}: a task's Python process ended in the middle of its work: it crashed, or was killed",
        next_step="nothing of this batch was published; start again. Where it comes back, see to the memory that such "
        "a process has, and to native code that the transform calls",
        condition="PYTHON_WORKER_EXITED",
    )


def _input_not_there(text: str, pipeline: Pipeline) -> TidemillError | None:
    found = _NOT_THERE.search(text)
    names = [name for name, each in pipeline.inputs.items() if found and each.source.mark == found["path"]]
    if not found or not names:
        return None
    return SourceError(
        f"{pipeline.name}: {found['path']}, which the input {names[0]} reads, is not there",
        next_step="put it there, or correct the path in the pipeline; nothing of this batch was published",
        path=found["path"],
    )


def _file_gone(text: str, pipeline: Pipeline) -> TidemillError | None:
    if not any(mark in text for mark in _GONE):
        return None
    name = _named(text)
    return SourceError(
        f"{pipeline.name}: {name} was listed and is gone",
        next_step="put it back, under the same name, and start again; nothing of this batch was published. "
        "Files that a pipeline has read stay its history: backfills read them again",
        file=name,
    )


def _store_failed(text: str, pipeline: Pipeline) -> TidemillError | None:
    if not (_OF_STORES.search(text) or (_named(text).startswith("s3") and _NETWORK.search(text))):
        return None
    return StoreError(
        f"{pipeline.name}: a store refused or did not answer: {_cause(text)}",
        next_step="nothing of this batch was published; once the store is well, start again",
        path=pipeline.table.path,
    )


def _file_unreadable(text: str, pipeline: Pipeline) -> TidemillError | None:
    if not any(mark in text for mark in _UNREADABLE):
        return None
    name = _named(text)
    return UnreadableFile(
        f"{pipeline.name}: {name} cannot be read",
        next_step="put a readable file in its place, under the same name (for json and csv an empty one "
        "gives it up), and start again; nothing of this batch was published",
        file=name,
        reason=_cause(text),
    )


def _broker_silent(text: str, pipeline: Pipeline) -> TidemillError | None:
    silent = _SILENT.search(text)
    if silent is None:
        return None
    servers = ", ".join(each.kafka.servers for each in pipeline.inputs.values() if each.kafka is not None)
    return SourceError(
        f"{pipeline.name}: the broker at {servers} does not answer any more: {silent[0]}",
        next_step="nothing of this batch was published, and what was published stays; start again when it runs. It is "
        "waited for as long as the options say (kafkaConsumer.pollTimeoutMs, kafka.default.api.timeout.ms), else minutes",
        condition="KAFKA_SILENT",
    )


def _records_gone(text: str, pipeline: Pipeline) -> TidemillError | None:
    if _LOST not in text and _BEYOND not in text:
        return None
    return SourceError(
        f"{pipeline.name}: Kafka does not hold what comes next any more: {_lost(text)}",
        next_step="nothing of this batch was published, and what was published stays; start again, to see which "
        "offsets of which partition are gone",
        condition="KAFKA_DATA_LOSS",
    )


def _no_moment(text: str, pipeline: Pipeline) -> TidemillError | None:
    if _NO_MOMENT not in text or _OF_KAFKA not in text:
        return None
    return SourceError(
        f"{pipeline.name}: a record's time stamp in Kafka is none: Spark multiplies its milliseconds, and the number is too "
        "great (it may be in nanoseconds); Spark can read no record of its batch",
        next_step="nothing of this batch was published, and what was published stays. Have the broker refuse such time "
        "stamps (message.timestamp.after.max.ms), or set its own (message.timestamp.type=LogAppendTime); a record that "
        "is there already is passed over by a new table with source.kafka.starting behind it",
        condition="KAFKA_TIME_STAMP",
    )


_MEANINGS = (
    _raised_in_python,
    _worker_gone,
    _input_not_there,
    _file_gone,
    # Before what says that a file is unreadable: a store that fails is no fault of the file's.
    _store_failed,
    _file_unreadable,
    # Before what says that records are gone: the text of a broker that is silent says so, too.
    _broker_silent,
    _records_gone,
    _no_moment,
)
"""What a text may mean, the first that holds; the last resort is that the transform is at fault."""


def _of_the_transform(error: BaseException, pipeline: Pipeline) -> TransformError:
    kind = error.getCondition() if isinstance(error, PySparkException) else None
    text = str(error)
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    called = _CALLED.search(text)
    said = _said_in_worker(text) or (f"{first[:500]} (from {called[1]})" if called else first[:500])
    return TransformError(
        f"{pipeline.name}: {said}",
        next_step="nothing of this batch was published; correct the cause and start again. With --debug Spark says more",
        condition=kind or type(error).__name__,
    )


def _said_in_worker(text: str) -> str | None:
    """What was raised in a Python process of Spark's, and the line of the user's own code that it came from."""
    _, found, trace = text.partition(_IN_WORKER)
    frames: list[str] = []
    for line in trace.splitlines() if found else ():
        frame = _FRAME.match(line)
        if frame is not None:
            frames.append(f"{frame['file']}:{frame['line']}")
        elif frames and line and not line[0].isspace():
            theirs = [each for each in frames if not _NOT_THEIRS.search(each)]
            return f"{line[:500]} (from {(theirs or frames)[-1]})"
    return None


def _lost(text: str) -> str:
    reason = _REASON.search(text)
    said = (line.strip() for line in text.splitlines() if _BEYOND in line or _LOST in line)
    return (reason[1] if reason else next(said, ""))[:500]


def _cause(text: str) -> str:
    causes = [line.partition("Caused by:")[2].strip() for line in text.splitlines() if "Caused by:" in line]
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return (causes[-1] if causes else first)[:300]


def _named(text: str) -> str:
    found = _FILE.search(text)
    # What is asked for by its name has what patterns are made of escaped.
    return re.sub(r"\\(.)", r"\1", found[0].rstrip(".,;'")) if found else "a file"
