"""Where a verb prints: results on stdout, progress and errors on stderr; or one JSON document on stdout.

With JSON nothing but the document reaches stdout, see :func:`alone`: what a project's own code prints goes to stderr.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from tidemill.errors import TidemillError

_CHUNK = re.compile(r"chunk (\d+)/(\d+): (.*)")
_WIDE = 200  # columns for a reader that is a pipe: lines are whole, and grep finds them


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide when there is none and COLUMNS does not say."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDE
    return made


class Output:
    """Prints for a person, or as JSON for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, body: Any, *parts: RenderableType) -> None:
        """Print a verb's result: ``body`` as JSON, or ``parts`` for a person."""
        if self.as_json:
            print_json(body)
            return
        out = console()
        with out.capture() as printed:
            for part in parts:
                out.print(part)
        text = printed.get()
        # Tables pad their last column; in a file or a pipe those blanks are only noise.
        sys.stdout.write(
            text if out.is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        )
        sys.stdout.flush()

    def note(self, *parts: RenderableType) -> None:
        """Tell a person something beside the result; nothing with JSON."""
        if not self.as_json:
            err = console(stderr=True)
            for part in parts:
                err.print(part)

    def say(self, line: str) -> None:
        """Progress: a line, or a step of the bar that :meth:`working` draws."""
        if self._progress is None or self._task is None:
            self.note(Text(line, style="dim"))
            return
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            self._progress.console.print(Text(line, style="dim"))
        else:
            number, total, what = chunk.groups()
            self._progress.update(
                self._task,
                completed=int(number) - 1,
                total=int(total),
                description=f"{number}/{total}  {what}",
            )

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """While a verb computes: a progress bar on a terminal, plain lines elsewhere, silence with JSON."""
        err = console(stderr=True)
        if self.as_json or not err.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            self._progress, self._task = progress, progress.add_task(what, total=None)
            try:
                yield
            finally:
                self._progress = None


_stdout: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


@contextmanager
def alone() -> Iterator[None]:
    """Keeps stdout for :func:`print_json`: whatever else is printed there meanwhile goes to stderr."""
    before = _stdout.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(before)


def print_json(body: Any) -> None:
    """One document on stdout, readable by people too. What is no number, and infinity, are texts, as Spark writes them."""
    out = _stdout.get() or sys.stdout
    try:
        text = json.dumps(body, indent=2, default=str, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(body), indent=2, default=str, ensure_ascii=False)
    try:
        out.write(text + "\n")
        out.flush()
    except BrokenPipeError:
        # Who read it has seen enough; what is left would be written again, and complained of, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case _:
            return value


def print_error(message: str, next_step: str) -> None:
    """An error as a person reads it: what is wrong, and what to do next."""
    err = console(stderr=True)
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if next_step:
        err.print(Text.assemble(("next: ", "bold"), next_step), soft_wrap=True)


def report(error: TidemillError, *, as_json: bool) -> None:
    """Print an error that ended a verb."""
    if as_json:
        print_json(error.as_json())
    else:
        print_error(error.message, error.next_step)
