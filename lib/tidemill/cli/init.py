"""``init``: a project that runs, to change into one's own."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson
from tidemill.cli.output import Output
from tidemill.display import words
from tidemill.errors import ConfigError

_KEPT = {"README.md", ".gitignore"}
"""A folder that was made for a repository has these already; they stay as they are."""

_Dir = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder; made when it is not there.", show_default=False)
]


def init(folder: _Dir, *, as_json: AsJson = False) -> None:
    """Write a project that runs: one pipeline, its transform, and a few events to read."""
    written = write_project(folder)
    here = folder.resolve() == Path.cwd()
    steps = ["tidemill validate", "tidemill run --available-now", "tidemill status"]
    if not here:
        steps[0] = f"cd {folder} && {steps[0]}"
    Output(as_json=as_json).show(
        {"folder": str(folder), "files": written, "next": steps},
        Text.assemble("wrote ", (str(folder), "bold"), f": {words.count(len(written), 'file')}"),
        *render.lines(f"  {name}" for name in written),
        Text("next:", style="bold"),
        *render.lines(f"  {step}" for step in steps),
    )


def write_project(folder: Path) -> list[str]:
    """Write the template into a folder; gives the names of what was written.

    Nothing is overwritten. Raises :class:`ConfigError`, before anything is written, when the folder has a
    ``conf`` or another file that would be.
    """
    if (folder / "conf").exists():
        raise ConfigError(
            f"{folder} has a conf folder already: it is a project, or belongs to something else",
            next_step="choose a new folder: tidemill init DIR",
            folder=str(folder),
        )
    files = dict(_template(resources.files("tidemill.cli").joinpath("templates")))
    there = {name for name in files if (folder / name).exists()}
    if there - _KEPT:
        raise ConfigError(
            f"{folder} has {', '.join(sorted(there - _KEPT))} already, and nothing is overwritten",
            next_step="choose a new folder: tidemill init DIR",
            folder=str(folder),
        )
    try:
        for name in sorted(files.keys() - there):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[name].read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be written: {error.strerror}", next_step="choose another DIR"
        ) from None
    return sorted(files.keys() - there)


def _template(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for each in folder.iterdir():
        # A real .gitignore would act on tidemill's own repository.
        name = prefix + each.name.replace("dot-", ".", 1)
        if each.is_dir():
            found += [] if each.name == "__pycache__" else _template(each, f"{name}/")
        else:
            found.append((name, each))
    return found
