"""Writes Data Docs: static pages of what a table's commits say of its suites. No JVM."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tidemill.errors import ConfigError
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.quality.as_gx import known_to_gx
from tidemill.quality.data_docs import Page, index_page, suite_page, validation_page
from tidemill.quality.in_gx import quiet
from tidemill.storage import Place
from tidemill.validations import newest

_OURS = re.compile(r"\d{20}-[A-Za-z0-9._-]+\.(html|json)")


@dataclass(frozen=True, slots=True)
class Docs:
    """Pages that were written: the folder, and the index as GX's tools may read it."""

    folder: str
    index: dict[str, Any]

    @property
    def page(self) -> str:
        """The page to open first."""
        return f"{self.folder}/index.html"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"folder": self.folder, **self.index}


def write_docs(pipeline: Pipeline, folder: Place, keep: int) -> Docs:
    """Write an index, a page a suite, and a page each of the ``keep`` newest validations; older pages of ours go.

    Beside each page is its JSON. The index is replaced last: it never leads to a page that is not there yet. Raises
    :class:`ConfigError` for a pipeline without suites, :class:`StateError` when the folder cannot be written.
    """
    suites = dict(pipeline.quality.inputs)
    if pipeline.quality.suite is not None:
        suites[""] = pipeline.quality.suite
    if not suites:
        raise ConfigError(
            f"{pipeline.name} has no suites",
            next_step="name one: quality: {suite: ...}",
            pipeline=pipeline.name,
        )
    validations = newest(pipeline, keep)
    with quiet():
        for of, suite in suites.items():
            _write(folder, suite_page(of, suite))
        known = {of: known_to_gx(suite) for of, suite in suites.items()}
        for each in validations:
            _write(folder, validation_page(each, known.get(each.of)))
        index = index_page(pipeline.name, suites, validations)
    _write(folder, index)
    kept = {each.name for each in validations}
    for path in (folder / "validations").glob("*"):
        if _OURS.fullmatch(path.name) and path.stem not in kept:
            path.unlink(missing_ok=True)
    return Docs(str(folder), index.body)


def _write(folder: Place, page: Page) -> None:
    replace_text(folder / f"{page.path}.json", json.dumps(page.body, indent=1, default=str) + "\n")
    replace_text(folder / f"{page.path}.html", page.html)
