"""Data Docs: pages of what suites found, rendered by Great Expectations' own renderers into a frame of ours.

GX's frame fetches styles, scripts and fonts from elsewhere. This one holds what it shows: no page names an address outside
its folder, and each forbids the browser to load or run anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from tidemill.ledger.verdicts import Result
from tidemill.model import Suite
from tidemill.quality.as_gx import gx_suite, gx_validation, known_to_gx
from tidemill.validations import Validation, place

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where it goes below the folder, without its ending; its HTML, and the same as GX's JSON."""

    path: str
    html: str
    body: Any


def suite_page(of: str, suite: Suite) -> Page:
    """The page of a suite: ``of`` the input whose rows it judges, "" for the table."""
    from great_expectations.render.renderer.page_renderer import ExpectationSuitePageRenderer

    made: Any = gx_suite(known_to_gx(suite))
    renderer: Any = ExpectationSuitePageRenderer()
    sections = renderer.render(made).to_json_dict()["sections"]
    actions = [(each.id, each.action.value, each.severity) for each in suite.expectations]
    table = _table(("Expectation", "Action", "Severity"), actions)
    body = [*_rendered(sections), _section(len(sections) + 1, "Actions", table)]
    names = [*(section["section_name"] for section in sections), "Actions"]
    return Page(_suite_path(of), _frame(f"Suite {suite.name}", "../", names, body), made.to_json_dict())


def validation_page(validation: Validation, suite: Suite | None) -> Page:
    """The page of one validation, in the words of its suite as it is today: what :func:`known_to_gx` gives of it."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    known = suite or Suite(name="none")
    ids = {each.id for each in known.expectations}
    shown = [each for each in validation.results if each.id in ids]
    others = [each for each in validation.results if each.id not in ids]
    whole: Any = gx_validation(validation, known, validation.results)
    part = gx_validation(validation, known, shown)
    part.success, part.statistics = whole.success, whole.statistics
    renderer: Any = ValidationResultsPageRenderer(run_info_at_end=True)
    sections = renderer.render(part).to_json_dict()["sections"]
    _lead_to_suite(sections, f"../{_suite_path(validation.of)}.html" if suite is not None else None)
    body, names = _rendered(sections), [section["section_name"] for section in sections]
    if others:
        names.append("No longer in the suite")
        body.append(_section(len(names), names[-1], _plain(others)))
    title = f"{validation.pipeline}, {validation.part} of {validation.run}"
    html = _frame(title, "../", names, body)
    return Page(_validation_path(validation), html, whole.to_json_dict())


def index_page(pipeline: str, suites: Mapping[str, Suite], validations: Sequence[Validation]) -> Page:
    """The page that leads to all others, the newest validation first."""
    judged = [
        [f'<a href="{_suite_path(of)}.html">{escape(each.name)}</a>', _whose(of), str(len(each.expectations))]
        for of, each in suites.items()
    ]
    rows = [
        [
            _icon(met=each.success),
            _whole(f'<a href="{_validation_path(each)}.html">{each.at:%Y-%m-%d %H:%M:%S}</a>'),
            _whose(each.of),
            _whole(f"{each.met} of {len(each.results)}"),
            _few(each.intervals),
            f"{escape(each.part)} of {_whole(escape(each.run))}",
        ]
        for each in validations
    ]
    head = ("Status", "Published (UTC)", "Rows of", "Met", "Intervals", "Part")
    names = ["Validations", "Suites"]
    body = [
        _section(1, f"{pipeline}: validations", _cells(head, rows) if rows else "<p>There is none yet.</p>"),
        _section(2, "Suites", _cells(("Suite", "Rows of", "Expectations"), judged)),
    ]
    return Page(
        "index", _frame(f"Data Docs of {pipeline}", "", names, body), _index(pipeline, suites, validations)
    )


def _index(pipeline: str, suites: Mapping[str, Suite], validations: Sequence[Validation]) -> dict[str, Any]:
    return {
        "pipeline": pipeline,
        "suites": [
            {"name": each.name, "of": of, "page": f"{_suite_path(of)}.html"} for of, each in suites.items()
        ],
        "validations": [
            {
                "success": each.success,
                "at": each.at.isoformat(),
                "of": each.of,
                "run": each.run,
                "part": each.part,
                "version": each.version,
                "intervals": list(each.intervals),
                "expectations": len(each.results),
                "met": each.met,
                "page": f"{_validation_path(each)}.html",
                "json": f"{_validation_path(each)}.json",
            }
            for each in validations
        ],
    }


def _suite_path(of: str) -> str:
    return f"suites/{place(of)}"


def _validation_path(validation: Validation) -> str:
    return f"validations/{validation.name}"


def _whose(of: str) -> str:
    return f"the input {escape(of)}" if of else "the table"


def _few(labels: Sequence[str]) -> str:
    if len(labels) < 3:
        return ", ".join(_whole(escape(each)) for each in labels)
    return f"{len(labels)} from {_whole(escape(min(labels)))} to {_whole(escape(max(labels)))}"


def _whole(html: str) -> str:
    return f'<span class="whole">{html}</span>'


def _icon(*, met: bool) -> str:
    kind = "fa-check-circle text-success" if met else "fa-times text-danger"
    return f'<i class="fas {kind}" title="{"met" if met else "not met"}"></i>'


def _plain(results: Iterable[Result]) -> str:
    rows = [
        [_icon(met=each.met), escape(each.id), escape(each.text.removeprefix(f"{each.id}: "))]
        for each in results
    ]
    return _cells(("Status", "Expectation", "Observed Value"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _cells(head, [[escape(cell) for cell in row] for row in rows])


def _cells(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are HTML already."""
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="table listing"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _section(number: int, name: str, body: str) -> str:
    head = f'<div class="alert alert-secondary"><h5>{escape(name)}</h5></div>'
    return f'<div id="section-{number}" class="ge-section">{head}{body}</div>'


def _rendered(sections: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        _view().render({"section": _safe(section), "section_loop": {"index": number}})
        for number, section in enumerate(sections, 1)
    ]


@cache
def _view() -> Any:
    # One for all pages: each compiles its templates anew.
    from great_expectations.render.view.view import DefaultJinjaSectionView

    return DefaultJinjaSectionView()


def _lead_to_suite(sections: Sequence[Mapping[str, Any]], page: str | None) -> None:
    """GX's header leads to where its own sites have the suite's page: lead to ours."""
    head = sections[0]["content_blocks"][0]
    styling = head["subheader"]["string_template"]["styling"]["params"]["expectation_suite_name"]
    if page is None:
        styling.clear()
    else:
        styling["attributes"] = {"href": page}


def _safe(part: Any) -> Any:
    """A rendered part whose texts are no HTML: GX escapes the parameters of its sentences, where they are texts, alone."""
    if isinstance(part, str):
        return escape(part, quote=False)
    if isinstance(part, list):
        return [_safe(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("content_block_type") == "graph":
        # Drawn by a script, which a page here does not run; the figures stand beside it.
        return {"content_block_type": "text", "text": []}
    return {
        key: value if key in _OF_GX else _template(value) if key == "string_template" else _safe(value)
        for key, value in part.items()
    }


_OF_GX = {"content_block_type", "styling", "table_options", "header_row_options", "section_name"}
"""Parts that hold no text of ours."""


def _template(template: Any) -> Any:
    if not isinstance(template, dict):
        return _safe(template)
    params = {
        name: value if isinstance(value, (str, int, float, type(None))) else str(value)
        for name, value in (template.get("params") or {}).items()
    }
    return {**template, "template": escape(str(template.get("template", "")), quote=False), "params": params}


@cache
def _style() -> str:
    return resources.files(__package__).joinpath("data_docs.css").read_text(encoding="utf-8")


def _frame(title: str, up: str, names: Iterable[str], sections: Iterable[str]) -> str:
    from great_expectations import __version__

    contents = "".join(
        f'<li><a href="#section-{n}">{escape(str(name))}</a></li>' for n, name in enumerate(names, 1)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{_style()}</style></head>\n'
        f'<body><nav><a class="home" href="{up}index.html">Data Docs</a><ul>{contents}</ul></nav>\n'
        f"<main><h1>{escape(title)}</h1>\n{''.join(sections)}\n"
        f"<footer>Rendered by Great Expectations {escape(__version__)}. Parameters are those that the suites have "
        "today.</footer></main></body></html>\n"
    )
