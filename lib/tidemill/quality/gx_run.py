"""What Great Expectations says of rows that are written: for the expectations that tidemill does not compile.

Whether each is met is asked first, which costs the least; what was seen, of those that are not. GX starts jobs of its own
for it, caches no frame, and takes a few seconds to load.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame

from tidemill.errors import QualityError
from tidemill.ledger.verdicts import Result
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.quality.in_gx import quiet, suite_in_gx

_ALONE = threading.Lock()
"""GX keeps its project, and Spark the warnings' filters, in the process: chunks that run beside one another take turns."""
_FEW = 5
_LONGEST = 400  # characters of a value in a commit, whose metadata stays small


def judged_in_gx(suite: Suite, frame: DataFrame) -> tuple[Result, ...]:
    """What GX finds of the suite's expectations that run there, in the suite's order; GX is not loaded for none.

    ``frame`` is a batch frame in a session of its own: GX leaves views there. Raises :class:`QualityError`, with file and
    line, for the first expectation that GX cannot evaluate on these rows.
    """
    asked = suite.that_run(Runs.GX)
    if not asked:
        return ()
    with _ALONE, quiet(), _batches(frame) as batch:
        met = [bool(each.success) for each in _validated(batch, asked, {"result_format": "BOOLEAN_ONLY"})]
        unmet = [each for each, is_met in zip(asked, met, strict=True) if not is_met]
        form = {"result_format": "SUMMARY", "partial_unexpected_count": _FEW}
        seen = {
            each.id: found.result or {}
            for each, found in zip(unmet, _validated(batch, unmet, form), strict=True)
        }
    return tuple(_result(each, seen.get(each.id)) for each in asked)


@contextmanager
def _batches(frame: DataFrame) -> Iterator[Any]:
    """The frame as GX's one batch, in a project in memory; the process's own project of GX, if any, comes back."""
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.exceptions.exceptions import DataContextRequiredError

    try:
        before = project_manager.get_current_project()
    except DataContextRequiredError:
        before = None
    try:
        bare = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        )
        context = gx.get_context(mode="ephemeral", project_config=bare)
        source = context.data_sources.add_spark("spark", persist=False)
        # Its SQL runs in this session, and would look for the batch's view in the process's first one.
        source._spark = frame.sparkSession  # noqa: SLF001  there is no parameter for it
        asset = source.add_dataframe_asset("rows")
        yield asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    finally:
        project_manager.set_project(before)


def _validated(batch: Any, asked: Sequence[Expectation], form: Mapping[str, Any]) -> list[Any]:
    """GX's result of each expectation, in their order."""
    if not asked:
        return []
    results = batch.validate(suite_in_gx("asked", asked), result_format=dict(form)).results
    found = {each.expectation_config.meta["number"]: each for each in results}
    for number, each in enumerate(asked):
        if number not in found:
            raise _cannot(each, "it is left out of the suite; see tidemill validate")
        for message in _messages(found[number].exception_info):
            raise _cannot(each, message)
    return [found[number] for number in range(len(asked))]


def _messages(info: Any) -> Iterator[str]:
    """What went wrong, as GX tells it: of the expectation, or of each metric that it asks."""
    if isinstance(info, dict):
        if info.get("raised_exception"):
            yield str(info.get("exception_message") or "it raised an exception")
        for inner in info.values():
            yield from _messages(inner)


def _cannot(each: Expectation, why: str) -> QualityError:
    first = next((line.strip() for line in why.splitlines() if line.strip()), why)
    file, _, line = each.where.rpartition(":")
    return QualityError(
        f"{each.where}: {each.id} cannot be evaluated in Great Expectations: {first[:300]}",
        next_step="correct it, or leave it out of the suite",
        file=file,
        line=line,
        expectation=each.id,
    )


def _result(each: Expectation, seen: Mapping[str, Any] | None) -> Result:
    if seen is None:
        return Result(each.id, met=True)
    if "element_count" in seen:
        rows = int(seen["element_count"])
        looked_at = rows - int(seen.get("missing_count") or 0)
        return Result(each.id, False, rows, looked_at, int(seen["unexpected_count"]))
    value = seen.get("observed_value")
    # Of distinct values GX tells no more than which are too many, and which are not there.
    return Result(each.id, met=False, value=_short(_differing(seen) if value is None else value))


def _differing(seen: Mapping[str, Any]) -> Any:
    names = {"partial_unexpected_list": "unexpected", "partial_missing_list": "missing"}
    return {short: seen[name] for name, short in names.items() if seen.get(name)} or None


def _short(value: Any) -> Any:
    """A value as JSON has it, cut where it is long; what JSON has no word for as a text."""
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        return str(value)
    return json.loads(text) if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
