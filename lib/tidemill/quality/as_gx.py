"""Suites and what they found as Great Expectations' own values: what its renderers, and other tools, read.

An expectation's parameters are those that the suite has today: a commit holds an expectation's id and what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tidemill.ledger.verdicts import Result
from tidemill.model import Expectation, Suite
from tidemill.quality.in_gx import suite_in_gx
from tidemill.validations import Validation

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuite, ExpectationSuiteValidationResult
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

_NAMES = {"expect_multicolumn_values_to_be_unique": "expect_select_column_values_to_be_unique_within_record"}
"""By which name GX knows an expectation."""
_FINE = {"raised_exception": False, "exception_message": None, "exception_traceback": None}


def known_to_gx(suite: Suite) -> Suite:
    """The suite with those expectations that GX has words for, by the names that it has for them."""
    found = [
        each.model_copy(update={"type": _NAMES.get(each.type, each.type)}) for each in suite.expectations
    ]
    return Suite(name=suite.name, expectations=tuple(each for each in found if _takes(each)))


def _takes(each: Expectation) -> bool:
    try:
        return bool(suite_in_gx("one", [each]).expectations)
    except (ValueError, TypeError):
        return False


def gx_suite(suite: Suite) -> ExpectationSuite:
    """A suite of :func:`known_to_gx` as GX has it."""
    from great_expectations import __version__

    made = suite_in_gx(suite.name, suite.expectations)
    made.meta = {"great_expectations_version": __version__}
    return made


def gx_validation(
    validation: Validation, suite: Suite, results: Iterable[Result]
) -> ExpectationSuiteValidationResult:
    """Some of a validation's results as GX has them; ``suite``: its expectations, of :func:`known_to_gx`."""
    from great_expectations import __version__
    from great_expectations.core import ExpectationSuiteValidationResult

    expectations = {each.id: each for each in suite.expectations}
    found = [_gx_result(each, expectations.get(each.id)) for each in results]
    met = sum(bool(each.success) for each in found)
    return ExpectationSuiteValidationResult(
        success=met == len(found),
        results=found,
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": len(found),
            "successful_expectations": met,
            "unsuccessful_expectations": len(found) - met,
            "success_percent": 100 * met / len(found) if found else None,
        },
        meta={
            "great_expectations_version": __version__,
            "run_id": {"run_name": validation.run, "run_time": validation.at.isoformat()},
            "batch_spec": {"data_asset_name": _asset(validation)},
            "batch_parameters": {
                "pipeline": validation.pipeline,
                "rows of": f"the input {validation.of}" if validation.of else "the table",
                "part": validation.part,
                "intervals": ", ".join(validation.intervals) or "none",
                "table version": validation.version,
            },
        },
        batch_id=f"{validation.pipeline}-{validation.name}",
    )


def _asset(validation: Validation) -> str:
    return f"{validation.pipeline}: {validation.of}" if validation.of else validation.pipeline


def _gx_result(result: Result, each: Expectation | None) -> ExpectationValidationResult:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    # The id of one that is no longer in the suite begins with its type, unless its author gave it another.
    type_ = each.type if each else re.split(r"\W", result.id)[0]
    meta = {"id": result.id, **({"action": each.action.value} if each else {})}
    config = ExpectationConfiguration(
        type=type_,
        kwargs=dict(each.kwargs) if each else {},
        meta=meta,
        severity=FailureSeverity(each.severity) if each else FailureSeverity.CRITICAL,
    )
    return ExpectationValidationResult(
        success=result.met,
        expectation_config=config,
        # Of this one GX says no more than whether it is met.
        result={} if type_ == "expect_column_to_exist" else _seen(result),
        meta={},
        exception_info=dict(_FINE),
    )


def _seen(result: Result) -> dict[str, Any]:
    if result.unexpected is not None:
        rows, looked_at, unexpected = result.rows or 0, result.looked_at or 0, result.unexpected
        share = 100 * unexpected / looked_at if looked_at else None
        return {
            "element_count": rows,
            "missing_count": rows - looked_at,
            "missing_percent": 100 * (rows - looked_at) / rows if rows else None,
            "unexpected_count": unexpected,
            "unexpected_percent": share,
            "unexpected_percent_total": 100 * unexpected / rows if rows else None,
            "unexpected_percent_nonmissing": share,
            "partial_unexpected_list": [],
        }
    if result.value is None:
        return {}
    if isinstance(result.value, Mapping) and result.value.keys() <= {"unexpected", "missing"}:
        # Some of the distinct values, as quality.gx_run has them of GX.
        texts = [f"{what}: {', '.join(map(str, some))}" for what, some in result.value.items()]
        lists = {f"partial_{what}_list": some for what, some in result.value.items()}
        return {"observed_value": "; ".join(texts), **lists}
    return {"observed_value": result.value}
