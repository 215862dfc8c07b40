"""``tidemill``: the application, and what becomes of its errors.

Exit codes: 0 done; 1 the work failed, or what was compared differs; 2 the request or the configuration is
wrong. An error prints as ``error: ...`` and ``next: ...`` on stderr, with ``--json`` as a document on stdout;
a traceback only with ``--debug``.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tidemill import __version__
from tidemill.cli.aggregate import aggregate, redecide
from tidemill.cli.backfill import backfill
from tidemill.cli.bootstrap import bootstrap
from tidemill.cli.check import check
from tidemill.cli.docs import docs
from tidemill.cli.doctor import doctor
from tidemill.cli.erase import erase
from tidemill.cli.init import init
from tidemill.cli.maintain import maintain
from tidemill.cli.output import alone, report
from tidemill.cli.plan import plan
from tidemill.cli.quarantine import quarantine, release
from tidemill.cli.query import query
from tidemill.cli.replay import replay
from tidemill.cli.restart import restart
from tidemill.cli.run import run
from tidemill.cli.runs import diff, publish, resume, undo
from tidemill.cli.schema import schema
from tidemill.cli.state import state
from tidemill.cli.status import status
from tidemill.cli.validate import validate
from tidemill.cli.verify import verify
from tidemill.errors import ConfigError, TidemillError

# What all usage errors share; typer names only this one of them in public.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Verbs(TyperGroup):
    """The group of verbs: every error leaves through here, and becomes a message and an exit code."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run one verb and exit, as typer does."""
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        if debug:
            os.environ.setdefault("TIDEMILL_SPARK_ERRORS", "error")
        words = _verb_first([word for word in given if word != "--debug"]) or ["--help"]
        as_json = "--json" in words and not {"--help", "-h", "--version"} & {*words}
        with alone() if as_json else nullcontext():
            try:
                code = super().main(words, **(extra | {"standalone_mode": False}))
            except Exception as error:  # noqa: BLE001  # the last door: beyond it a person would see a traceback
                if debug:
                    traceback.print_exc()
                known = _known(error, words)
                report(known, as_json=as_json)
                code = known.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _known(error: Exception, words: Sequence[str]) -> TidemillError:
    if isinstance(error, TidemillError):
        return error
    if isinstance(error, _UsageError):
        verb = next((word for word in words if word in VERBS), "")
        text: str = error.format_message()  # type: ignore[attr-defined]  # every usage error has it
        return ConfigError(text, next_step=f"see: tidemill {verb + ' ' if verb else ''}--help")
    if isinstance(error, typer.Abort):
        return TidemillError("stopped; nothing was done")
    return TidemillError(
        f"{type(error).__name__}: {error}",
        next_step="this is a fault of tidemill or of its surroundings; the same command with --debug says where",
    )


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:  # noqa: FBT001  # typer calls it so
    if asked:
        typer.echo(f"tidemill {__version__}")
        raise typer.Exit


@app.callback(epilog="First steps:\n\n$ tidemill init demo\n\n$ cd demo\n\n$ tidemill run --available-now")
def _application(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Print tracebacks, and what Spark says of them; goes anywhere on the line."
        ),
    ] = False,
) -> None:
    """Microbatch pipelines on Spark that know which intervals of a table are right.

    Exit codes: 0 done, 1 the work failed or differs, 2 the request or the configuration is wrong.
    """


def _examples(*lines: str) -> str:
    return "\n\n".join(
        ["Examples:" if len(lines) > 1 else "Example:", *(f"$ tidemill {line}" for line in lines)]
    )


_VERBS: tuple[tuple[Callable[..., None], str], ...] = (
    (init, _examples("init demo")),
    (validate, _examples("validate", "validate --env production")),
    (schema, _examples("schema > pipeline.schema.json")),
    (doctor, _examples("doctor")),
    (plan, _examples("plan departures", "plan departures --dirty --out repair.json")),
    (run, _examples("run departures --available-now", 'run departures delays --trigger "10 seconds"')),
    (
        backfill,
        _examples(
            "backfill departures --from 2013-01-05 --to 2013-01-08", "backfill departures --dirty --yes"
        ),
    ),
    (
        replay,
        _examples(
            "replay balances --dry-run",
            "replay balances --until 2024-06-01 --into tables/balances_in_may",
            "replay balances --into loadtest/balances --speed 10x",
        ),
    ),
    (restart, _examples("restart balances --dry-run", "restart balances --yes")),
    (bootstrap, _examples("bootstrap departures --dry-run", "bootstrap departures --newest-first")),
    (diff, _examples("diff 20130105T120000-1a2b3c")),
    (publish, _examples("publish 20130105T120000-1a2b3c")),
    (undo, _examples("undo 20130105T120000-1a2b3c")),
    (resume, _examples("resume 20130105T120000-1a2b3c")),
    (verify, _examples("verify departures --from 2013-01-05 --to 2013-01-06", "verify delays --probe")),
    (check, _examples("check departures", "check departures --from 2013-01-05 --to 2013-01-06 --json")),
    (status, _examples("status", "status departures --json")),
    (
        state,
        _examples(
            "state balances --at 2024-03-05", "state balances --at 2024-03-05T12 --key account=a --json"
        ),
    ),
    (
        query,
        _examples(
            'query "SELECT * FROM balances WHERE balance < 0"',
            'query "SELECT count(*) FROM departures" --at 2024-05-01T12:00:00Z --json',
        ),
    ),
    (quarantine, _examples("quarantine departures", 'quarantine departures --reason "event time" --json')),
    (
        release,
        _examples("release departures --dry-run", "release departures --where \"interval = '2013-01-05'\""),
    ),
    (erase, _examples("erase 4711 --dry-run", "erase 4711 --yes --json")),
    (
        aggregate,
        _examples("aggregate bank account/17", "aggregate bank account/17 --at 2024-05-01T12 --json"),
    ),
    (redecide, _examples("redecide bank", "redecide bank --most 100 --json")),
    (docs, _examples("docs departures", "docs departures --out site --keep 50")),
    (maintain, _examples("maintain departures --dry-run")),
)
VERBS = frozenset(verb.__name__ for verb, _ in _VERBS)


def _flowing(text: str) -> str:
    """A docstring whose paragraphs are one line each: the terminal decides where they break."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


for _verb, _epilog in _VERBS:
    app.command(help=_flowing(_verb.__doc__ or ""), epilog=_epilog)(_verb)


def _verb_first(words: list[str]) -> list[str]:
    """The project's options may stand before the verb; each verb takes them behind it."""
    moved = 0
    while moved < len(words) and words[moved].partition("=")[0] in {"--project", "--env", "--json"}:
        moved += 2 if words[moved] in {"--project", "--env"} else 1
    verb = words[moved : moved + 1]
    return [*verb, *words[:moved], *words[moved + 1 :]] if verb else words


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code. ``arguments`` default to the process's own."""
    app(list(arguments) if arguments is not None else None, prog_name="tidemill")


if __name__ == "__main__":
    main()
