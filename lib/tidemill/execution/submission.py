"""What spark-submit is given before its JVM starts: a file of settings, so that none of them is on a command line.

Loads no Spark. ``python -m tidemill.execution.submission MASTER [KEY=VALUE ...]`` prints the file. ``KEY=VALUE`` is what the
command says; it wins over ``--properties-file FILE``, that over ``conf/spark``, and that over tidemill's defaults. With
``--shown`` it prints the settings as a person may see them, ``KEY=VALUE`` each, with a zero byte behind.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidemill.errors import ConfigError, TidemillError
from tidemill.execution import jars
from tidemill.execution.settings import given, parse_properties, resolve

_JARS = "spark.jars"
_HUSHED = r"secret|passw|token|jaas|(?:access|account|private|api)[._-]?key"
_NAMED = re.compile(_HUSHED, re.IGNORECASE)
_WITHIN = re.compile(rf"([\w.-]*(?:{_HUSHED})[\w.-]*=)(?:\"[^\"]*\"|\S+)", re.IGNORECASE)
_LOGIN = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_HIDDEN = "*********(redacted)"
_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"})


def said_by_command(settings: Sequence[str], file: Path | None, below: Mapping[str, str]) -> dict[str, str]:
    """What holds where a command says ``settings`` and names a properties ``file``, over what was said ``below``.

    The command's jars join those from below, all others replace. Raises :class:`ConfigError` for what is no setting.

    >>> said_by_command(["spark.a=1", "spark.jars=b.jar"], None, {"spark.a": "0", "spark.jars": "a.jar"})
    {'spark.a': '1', 'spark.jars': 'a.jar,b.jar'}
    """
    found = dict(below)
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"there is no file {file}", next_step="correct --properties-file")
        found |= parse_properties(file.read_text(encoding="utf-8"))
    for each in settings:
        key, parted, value = each.partition("=")
        if not parted:
            raise ConfigError(f"{each!r} is no setting", next_step="write --conf KEY=VALUE")
        found[key] = ",".join(filter(None, [found.get(key), value])) if key == _JARS else value
    return found


def as_properties(settings: Mapping[str, str]) -> str:
    r"""Settings as a file of Java's properties, as Spark reads it: in UTF-8.

    >>> print(as_properties({"spark.a": " x\\y", "spark.b": "p=q # r"}), end="")
    spark.a=\ x\\y
    spark.b=p=q # r
    """
    return "".join(f"{_key(key)}={_value(value)}\n" for key, value in sorted(settings.items()))


def shown(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as a person may see them: without the values of those whose name says that they are secret.

    Hidden are also secrets within a value: ``-Djavax.net.ssl.keyStorePassword=...``, ``http://user:password@host``; and what
    ``spark.redaction.regex`` means; where that is no expression of Python's, all are.

    >>> shown({"spark.hadoop.fs.s3a.secret.key": "x", "spark.a": "-Dkey.password=x -Dy=z"})
    {'spark.hadoop.fs.s3a.secret.key': '*********(redacted)', 'spark.a': '-Dkey.password=*********(redacted) -Dy=z'}
    """
    try:
        own = re.compile(settings.get("spark.redaction.regex") or "(?!)")
    except re.error:  # Java's expressions are others
        own = re.compile("")

    def seen(key: str, value: str) -> str:
        if _NAMED.search(key) or own.search(key):
            return _HIDDEN
        return _LOGIN.sub(rf"\g<1>{_HIDDEN}@", _WITHIN.sub(rf"\g<1>{_HIDDEN}", value))

    return {key: seen(key, value) for key, value in settings.items()}


def _key(text: str) -> str:
    return re.sub(r"([\s=:#!\\])", r"\\\1", text)


def _value(text: str) -> str:
    escaped = text.translate(_ESCAPED)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def main(arguments: Sequence[str]) -> int:
    """Prints the settings; exit code 2 with the reason on stderr where there are none."""
    parser = argparse.ArgumentParser(prog="python -m tidemill.execution.submission", allow_abbrev=False)
    parser.add_argument("--shown", action="store_true", help="as a person may see them, without secrets")
    parser.add_argument("--properties-file", type=Path, help="the file that spark-submit is to be told")
    parser.add_argument("master")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args(arguments)
    try:
        said = said_by_command(asked.settings, asked.properties_file, given(asked.master))
        found = resolve(asked.master, said, jars.fetch(jars.folder()))
    except TidemillError as problem:
        sys.stderr.write(f"tidemill: {problem}\n")
        return problem.exit_code
    del found["spark.master"]  # said by its own option
    if asked.shown:
        sys.stdout.writelines(f"{key}={value}\0" for key, value in sorted(shown(found).items()))
    else:
        sys.stdout.write(as_properties(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
