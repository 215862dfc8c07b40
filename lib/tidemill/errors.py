"""Every error that tidemill raises on purpose.

    TidemillError
    ├── ConfigError          the request or the configuration is wrong        exit 2
    │   └── EnvironmentProblem   Java, jars or versions are missing or unfit  exit 2
    ├── PlanError            what was asked cannot be planned                 exit 2
    ├── QueryError           a query is wrong, or what it asks for is gone    exit 2
    ├── LeaseHeld            another process owns the pipeline                exit 2
    ├── SourceError          input cannot be read                             exit 1
    │   └── UnreadableFile       one file of it, which is named                   exit 1
    ├── SendError            a broker did not take rows                       exit 1
    ├── TransformError       the pipeline's own code failed or misbehaved     exit 1
    ├── QualityError         a gate or a rule refused the rows                exit 1
    ├── CommitConflict       a publish lost its race too often                exit 1
    └── StateError           checkpoint, ledger or run folder do not fit      exit 1
        └── StoreError           an object store refuses, or does not answer      exit 1

A message says what is wrong and where; ``next_step`` says what to do about it. Code that reacts to an
error looks at its class, ``code`` and ``params``, never at the prose.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TidemillError(Exception):
    """The root of the tree.

    ``params`` are the facts behind the message (file, line, field, holder, ...), JSON-able, for ``--json``.

    >>> ConfigError("unknown key 'nme'", next_step="did you mean 'name'?", file="p.yml", line=3).params["line"]
    3
    """

    code: ClassVar[str] = "TIDEMILL"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, next_step: str = "", **params: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.params = params

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message

    def as_json(self) -> dict[str, Any]:
        """The error as ``--json`` prints it."""
        return {
            "error": self.code,
            "message": self.message,
            "next_step": self.next_step,
            "params": {key: str(value) for key, value in self.params.items()},
        }


class ConfigError(TidemillError):
    """The configuration or the request is wrong; carries file, line and field where they are known."""

    code = "CONFIG"
    exit_code = 2


class EnvironmentProblem(ConfigError):
    """Java, jars, versions or the file system are not what tidemill needs."""

    code = "ENVIRONMENT"


class PlanError(TidemillError):
    """What was asked cannot be planned: an interval outside the data, a plan that drifted."""

    code = "PLAN"
    exit_code = 2


class QueryError(TidemillError):
    """A query is no SELECT, is wrong, or asks for a table or a version that is not there."""

    code = "QUERY"
    exit_code = 2


class LeaseHeld(TidemillError):
    """Another process owns the pipeline; ``params`` name the holder and since when."""

    code = "LEASE_HELD"
    exit_code = 2


class SourceError(TidemillError):
    """Input is missing, unreadable or has moved past what a pin promised."""

    code = "SOURCE"


class UnreadableFile(SourceError):
    """One file of the input cannot be read at all; ``params`` name the ``file`` and the ``reason``."""

    code = "UNREADABLE_FILE"


class SendError(TidemillError):
    """A broker did not take rows that the table holds; ``params`` name the ``topic``. The next start sends them."""

    code = "SEND"


class TransformError(TidemillError):
    """The pipeline's transform raised, or gave rows that the sink cannot place."""

    code = "TRANSFORM"


class QualityError(TidemillError):
    """A gate or a rule with action ``fail`` refused the rows; nothing was published."""

    code = "QUALITY"


class CommitConflict(TidemillError):
    """A publish met changed files too often; nothing was published, and planning again is safe."""

    code = "COMMIT_CONFLICT"


class StateError(TidemillError):
    """Checkpoint, table, ledger or run folder contradict each other."""

    code = "STATE"


class StoreError(StateError):
    """An object store does not answer, or refuses; ``params`` name the ``bucket`` and the ``path``."""

    code = "STORE"
