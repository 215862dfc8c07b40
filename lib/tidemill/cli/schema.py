"""``schema``: the JSON Schema of a pipeline file."""

from __future__ import annotations

import typer

from tidemill.cli.options import AsJson
from tidemill.cli.output import print_json
from tidemill.config import json_schema


def schema(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Print the JSON Schema of a pipeline file, for editors that complete and check YAML."""
    # JSON is the only thing that this verb can print.
    del context, as_json
    print_json(json_schema())
