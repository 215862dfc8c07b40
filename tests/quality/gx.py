"""Great Expectations itself, on a Spark frame: what it says of each expectation."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pyspark.sql import DataFrame

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


class Gx:
    """A context in memory; validates frames whose column ``row`` numbers the rows."""

    def __init__(self) -> None:
        import great_expectations as gx

        logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_spark("spark", persist=False)
        asset = source.add_dataframe_asset("frame")
        self._batches = asset.add_batch_definition_whole_dataframe("whole")

    def says(self, frame: DataFrame, expectations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each expectation: ``success``, ``rows``, ``looked_at`` and the numbers of the ``unexpected`` rows.

        One of all rows together gives ``success`` and the value ``observed``. An expectation that GX
        cannot evaluate gives its ``error`` alone.
        """
        from great_expectations.core import ExpectationSuite

        numbered = [{**each, "meta": {"number": i}} for i, each in enumerate(expectations)]
        batch = self._batches.get_batch({"dataframe": frame})
        form = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]}
        with warnings.catch_warnings():
            # Conditions written as texts are old, and still read.
            warnings.simplefilter("ignore")
            found = batch.validate(ExpectationSuite(name="suite", expectations=numbered), result_format=form)
        said: list[dict[str, Any]] = [{"error": "no result"} for _ in numbered]
        for each in found.results:
            said[each.expectation_config.meta["number"]] = _said(each)
        return said


def _said(each: Any) -> dict[str, Any]:
    result = each.result
    errors = sorted(set(_messages(each.exception_info)))
    # Of this one GX says no more than whether it is met.
    if not result and (errors or each.expectation_config.type != "expect_column_to_exist"):
        return {"error": errors}
    if "element_count" not in result:
        return {"success": each.success, "observed": result.get("observed_value")}
    rows = result["element_count"]
    return {
        "success": each.success,
        "rows": rows,
        "looked_at": rows - result.get("missing_count", 0),
        "unexpected": sorted(index["row"] for index in result.get("unexpected_index_list") or []),
        "unexpected_count": result["unexpected_count"],
    }


def _messages(info: Any) -> Iterator[str]:
    if isinstance(info, dict):
        if info.get("exception_message"):
            yield str(info["exception_message"])[:300]
        for inner in info.values():
            yield from _messages(inner)
