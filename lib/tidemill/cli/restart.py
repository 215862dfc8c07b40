"""``restart``: a stream whose states are not those of its table begins anew from them, after a look at the plan."""

from __future__ import annotations

import typer

from tidemill.cli import render
from tidemill.cli.agreement import DryRun, Yes, ask, must_ask
from tidemill.cli.backfill import show_done
from tidemill.cli.options import AsJson, EnvName, PipelineName, ProjectDir, TakeOver
from tidemill.cli.shell import Shell
from tidemill.planning.plan import explain, to_json


def restart(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    dry_run: DryRun = False,
    yes: Yes = False,
    take_over: TakeOver = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Have a stream begin anew, exactly where it stands, from the states of its table.

    For a fold, after late rows or other code: the states that the stream holds are then not those that a backfill has
    made, or today's code cannot read them (a field is gone, the key is another). The stream must not be running; backfill
    what is not clean first. In one commit the rows of open intervals are computed again, and the next batch of `tidemill run`
    begins with the right states: nothing is read twice, nothing is left out. On a terminal the plan is shown first;
    elsewhere --yes is needed.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    if dry_run:
        found = shell.engine.foresee_restart(pipeline)
        shell.output.show(to_json(found), *render.plan_lines(explain(found)))
        return
    if must_ask(shell, yes=yes):
        found = shell.engine.foresee_restart(pipeline)
        if not found.chunks:
            shell.output.note(*render.plan_lines(explain(found)))
            return
        ask(shell, *render.plan_lines(explain(found)))
    with shell.output.working("starting"):
        done = shell.engine.restart(pipeline, take_over=take_over)
    show_done(shell, done)
