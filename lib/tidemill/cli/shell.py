"""What every verb begins with: the engine of the chosen project, and where to print."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from tidemill.cli.output import Output

if TYPE_CHECKING:
    from tidemill.engine import Engine


class EngineFactory(Protocol):
    """Makes the engine of a project."""

    def __call__(self, project: Path | None, *, env: str | None, say: Callable[[str], None]) -> Engine:
        """The engine; ``say`` is told about progress."""
        ...


def _engine(project: Path | None, *, env: str | None, say: Callable[[str], None]) -> Engine:
    # Here and not above: `tidemill --help` needs no engine.
    from tidemill.engine import Engine

    return Engine(project, env=env, say=say)


def _is_terminal() -> bool:
    # Asked at the call: a test runner puts another stdin in place.
    return sys.stdin.isatty()


@dataclass(frozen=True, slots=True)
class Hands:
    """What verbs reach out with. A test passes its own as the application's ``obj``.

    >>> CliRunner().invoke(app, ["status"], obj=Hands(engine=my_factory))  # doctest: +SKIP
    """

    engine: EngineFactory = _engine
    is_terminal: Callable[[], bool] = _is_terminal
    pause: Callable[[float], object] = threading.Event().wait


@dataclass(frozen=True)
class Shell:
    """One call of one verb."""

    hands: Hands
    output: Output
    project: Path | None
    env: str | None

    @classmethod
    def of(cls, context: typer.Context, project: Path | None, env: str | None, *, as_json: bool) -> Shell:
        """The shell of a verb's call."""
        hands = context.obj if isinstance(context.obj, Hands) else Hands()
        return cls(hands, Output(as_json=as_json), project, env)

    @cached_property
    def engine(self) -> Engine:
        """The engine of the project, loaded at the first need. Raises :class:`ConfigError`."""
        return self.hands.engine(self.project, env=self.env, say=self.output.say)
