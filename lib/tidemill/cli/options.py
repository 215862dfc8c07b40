"""The options that several verbs share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PipelineName = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="The pipeline's name.", show_default=False)
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's name, as backfill printed it.", show_default=False)
]

_PROJECT = "The project's folder; else the nearest one upwards from here that holds conf/pipelines."
ProjectDir = Annotated[
    Path | None,
    typer.Option("--project", metavar="DIR", help=_PROJECT, show_default=False, rich_help_panel="Project"),
]
EnvName = Annotated[
    str | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help="The overlay conf/env/NAME.yml; else the one that TIDEMILL_ENV names.",
        show_default=False,
        rich_help_panel="Project",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout, errors too.", rich_help_panel="Project"),
]

From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="MOMENT", help="From here: 2013-01-05 or 2013-01-05T13, UTC.", show_default=False
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="MOMENT", help="Up to here, not included.", show_default=False),
]
Dirty = Annotated[
    bool, typer.Option("--dirty", help="Intervals whose input changed after they were written.")
]
Stale = Annotated[bool, typer.Option("--stale", help="Intervals that other code than today's wrote.")]
Missing = Annotated[bool, typer.Option("--missing", help="Intervals that were never computed.")]
IncludeOpen = Annotated[
    bool,
    typer.Option(
        "--open", help="Intervals that the live stream is still filling; their rows are provisional."
    ),
]
NewestFirst = Annotated[bool, typer.Option("--newest-first", help="Begin with the newest interval.")]

Force = Annotated[
    bool, typer.Option("--force", help="Publish even what the gate refuses; --why is kept in the commit.")
]
Why = Annotated[
    str | None,
    typer.Option("--why", metavar="REASON", help="Why --force is right.", show_default=False),
]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over", help="Take the lease from its holder; only when you are sure that it is dead."
    ),
]
