"""``validate``: is the configuration right, and is the code what a backfill can repeat?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.config.determinism import Suspect, suspects
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from tidemill.engine import Engine
    from tidemill.model import Pipeline


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one pipeline; ``fingerprint`` is None when its code is not there."""

    pipeline: str
    fingerprint: str | None
    error: TidemillError | None
    suspects: tuple[Suspect, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the pipeline may run."""
        return self.error is None and not self.suspects

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pipeline": self.pipeline,
            "ok": self.ok,
            "fingerprint": self.fingerprint,
            "error": self.error.as_json() if self.error else None,
            "suspects": [each.as_json() for each in self.suspects],
            "warnings": list(self.warnings),
        }


def validate(
    context: typer.Context, *, project: ProjectDir = None, env: EnvName = None, as_json: AsJson = False
) -> None:
    """Check every pipeline: its YAML, that its code is there, that the code is deterministic, that its suites fit.

    Reads no input. Only for a pipeline with suites Spark and Great Expectations are started.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    loaded = shell.engine.project
    found = [examine(shell.engine, loaded.pipelines[name]) for name in sorted(loaded.pipelines)]
    ok = all(each.ok for each in found)
    parts = [part for each in found for part in _parts(each)]
    shell.output.show({"ok": ok, "pipelines": [each.as_json() for each in found]}, *parts)
    if not ok:
        raise typer.Exit(2)


def examine(engine: Engine, pipeline: Pipeline) -> Finding:
    """What can be said of a pipeline without running it."""
    try:
        fingerprint = engine.project.fingerprint(pipeline.name)
        seen = suspects(pipeline, engine.project.root)
        engine.check_rules(pipeline.name)
    except TidemillError as error:
        return Finding(pipeline.name, None, error, (), _warnings(pipeline))
    return Finding(pipeline.name, fingerprint, None, seen, _warnings(pipeline))


def _warnings(pipeline: Pipeline) -> tuple[str, ...]:
    found = []
    for name in pipeline.inputs:
        watermark = pipeline.event_time_of(name).watermark
        if watermark is not None and not watermark:
            found.append(
                f"the watermark of {name} is 0: every row older than the newest one seen counts as late. "
                "Wait as long as stragglers take, for example 10m"
            )
    return tuple(dict.fromkeys(found))


def _parts(finding: Finding) -> list[RenderableType]:
    state = render.word("ok" if finding.ok else "failed")
    code = f"  code {finding.fingerprint[:8]}" if finding.fingerprint else ""
    parts: list[RenderableType] = [Text.assemble((finding.pipeline, "bold"), "  ", state, code)]
    if finding.error is not None:
        parts.append(render.indented(Text.assemble(("error: ", "bold red"), finding.error.message)))
        parts.append(render.indented(Text.assemble(("next: ", "bold"), finding.error.next_step)))
    for each in finding.suspects:
        parts.append(
            render.indented(Text.assemble(("error: ", "bold red"), f"{each.where}: {each.call}: {each.why}"))
        )
        parts.append(render.indented(Text.assemble(("next: ", "bold"), each.next_step)))
    parts += [render.indented(Text.assemble(("warning: ", "yellow"), text)) for text in finding.warnings]
    return parts
