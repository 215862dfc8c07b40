"""What documents, errors and help tell a person to type can be typed: the verb is there, and has these options."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from tidemill.cli.app import VERBS, app

_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = re.compile(r"tidemill ([a-z]+)((?: +(?:--?[a-z][a-z-]*|[\w{}\[\]./:*-]+|\"[^\"\n]*\"))*)")
_OPTION = re.compile(r"(?<=\s)--[a-z][a-z-]*")


def test_commands_that_are_named_have_the_options_that_are_named():
    verbs = get_command(app).commands  # type: ignore[attr-defined]  # a group's
    known = {name: {text for each in verb.params for text in each.opts} for name, verb in verbs.items()}
    assert known.keys() == VERBS
    texts = [*(_ROOT / "lib").rglob("*.py"), *(_ROOT / "jobs").rglob("*.py"), *(_ROOT / "docs").rglob("*.md")]
    texts += [*(_ROOT / "lib").rglob("*.md"), _ROOT / "README.md", _ROOT / "CONTRIBUTING.md"]
    named = [(path.name, *match) for path in texts for match in _COMMAND.findall(path.read_text("utf-8"))]
    wrong = [
        f"{file}: tidemill {verb} {option}"
        for file, verb, rest in named
        for option in _OPTION.findall(rest)
        if option not in known.get(verb, set()) | {"--help"}
    ]
    assert wrong == []
    assert sum(verb in VERBS for _, verb, _ in named) > 150
