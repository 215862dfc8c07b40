"""The fingerprint changes when the rows may, and only then; what cannot be told counts as a change."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tidemill.config import fingerprint, installed, parse_pipeline
from tidemill.config.fingerprint import normal_sql
from tidemill.errors import ConfigError

VALUES: dict[str, Any] = {
    "name": "clicks",
    "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP, id STRING"}},
    "event_time": {"column": "at", "watermark": "10m"},
    "interval": "day",
    "transform": "work.clicks:clean",
    "sink": {"delta": {"path": "out"}},
}

CLICKS = """\
\"\"\"Cleans clicks.\"\"\"
import json
from work.shared import normalise
from work import rates
import work.tables as tables

LIMIT = 10
UNUSED = 1
RATES = {"a": 1}
RATES["b"] = 2
RATES.update(c=3)
if LIMIT > 5:
    def chosen(x):
        return x
else:
    chosen = None

def helper(x):
    return x + 1

def clean(events):
    \"\"\"Clean.\"\"\"
    # first of all
    rows = normalise(events.limit(LIMIT), RATES)
    return chosen(helper(rates.apply(tables.look(rows))))

def other(events):
    return events

if __name__ == "__main__":
    print(clean(None))
"""
SHARED = "def normalise(x, rates):\n    return inner(x)\n\ndef inner(x):\n    return x\n\ndef alone():\n    return 0\n"
RATES = "FACTOR = 2\n\ndef apply(x):\n    return x * FACTOR\n"
TABLES = "def look(x):\n    from work.late import late\n    return late(x)\n"
LATE = "def late(x):\n    return x\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    for name, text in {
        "__init__": "",
        "clicks": CLICKS,
        "shared": SHARED,
        "rates": RATES,
        "tables": TABLES,
        "late": LATE,
    }.items():
        (tmp_path / "work" / f"{name}.py").write_text(text)
    return tmp_path


def of(root: Path, **changes: Any) -> str:
    return fingerprint(parse_pipeline({**VALUES, **changes}, root), str(root))


def edited(root: Path, module: str, old: str, new: str) -> bool:
    """Whether an edit of the code changes the fingerprint."""
    before = of(root)
    path = root / "work" / f"{module}.py"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return of(root) != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("clicks", "# first of all", "# first"),
        ("clicks", '"""Clean."""', '"""Clean them,\n    all of them."""'),
        ("clicks", '"""Cleans clicks."""', "# no docstring"),
        ("clicks", "return x + 1", "return (\n        x\n        + 1\n    )"),
        ("clicks", "UNUSED = 1", "UNUSED = 2"),
        ("clicks", "def other(events):\n    return events", "def other(events):\n    return None"),
        ("clicks", "print(clean(None))", "print('done')"),
        ("shared", "def alone():\n    return 0", "def alone():\n    return 1"),
    ],
)
def test_what_does_not_change_rows_does_not_change_the_fingerprint(
    root: Path, module: str, old: str, new: str
):
    assert not edited(root, module, old, new)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("clicks", "events.limit(LIMIT)", "events"),  # the body
        ("clicks", "return x + 1", "return x + 2"),  # a helper
        ("clicks", "LIMIT = 10", "LIMIT = 11"),  # a constant
        ("clicks", "RATES = {", "RATES = {'z': 0, "),  # a constant that later lines add to
        ("clicks", 'RATES["b"] = 2', 'RATES["b"] = 3'),
        ("clicks", "RATES.update(c=3)", "RATES.update(c=4)"),
        (
            "clicks",
            "    def chosen(x):\n        return x",
            "    def chosen(x):\n        return None",
        ),  # in a block
        ("clicks", "def clean(events):", "@functools.cache\ndef clean(events):"),  # a decorator
        ("shared", "return inner(x)", "return x"),  # an imported function
        ("shared", "def inner(x):\n    return x", "def inner(x):\n    return None"),  # and its helper
        ("rates", "FACTOR = 2", "FACTOR = 3"),  # a module used as an object
        ("tables", "return late(x)", "return late(late(x))"),  # an aliased module
        ("late", "return x", "return None"),  # an import inside a function
    ],
)
def test_what_may_change_rows_changes_the_fingerprint(root: Path, module: str, old: str, new: str):
    assert edited(root, module, old, new)


def test_a_star_import_counts_as_the_whole_of_both_modules(root: Path):
    path = root / "work" / "clicks.py"
    path.write_text("from work.shared import *\n\ndef clean(e):\n    return normalise(e, 1)\n\nX = 1\n")

    assert edited(root, "shared", "return 0", "return 1")
    assert edited(root, "clicks", "X = 1", "X = 2")


def test_relative_imports_are_followed(root: Path):
    (root / "work" / "clicks.py").write_text(
        "from .shared import normalise as n\n\ndef clean(e):\n    return n(e, 1)\n"
    )

    assert edited(root, "shared", "def inner(x):\n    return x", "def inner(x):\n    return 1")
    assert not edited(root, "shared", "return 0", "return 5")


def test_two_imports_that_bind_one_name_are_both_followed(root: Path):
    (root / "work" / "clicks.py").write_text(
        "import work.rates\nimport work.late\n\ndef clean(e):\n    return work.rates.apply(work.late.late(e))\n"
    )

    assert edited(root, "rates", "FACTOR = 2", "FACTOR = 3")
    assert edited(root, "late", "return x", "return None")


def test_functions_that_call_each_other_come_to_an_end(root: Path):
    (root / "work" / "clicks.py").write_text(
        "from work.shared import normalise\n\ndef clean(e):\n    return back(e)\n\ndef back(e):\n    return clean(e)\n"
    )

    assert edited(root, "clicks", "return clean(e)", "return clean(clean(e))")


@pytest.mark.parametrize(
    "change",
    [
        {"trigger": {"available_now": True}},
        {"chunk": 7},
        {"gate": {"max_removed": "50%"}},
        {"description": "clicks, cleaned"},
        {"start": "2013-01-01"},
        {"sink": {"delta": {"path": "elsewhere", "state": "state"}}},
        {"source": {"files": {**VALUES["source"]["files"], "path": "elsewhere"}}},
        {"source": {"files": {**VALUES["source"]["files"], "max_files_per_batch": 3}}},
    ],
    ids=str,
)
def test_how_and_where_a_pipeline_runs_does_not_count(root: Path, change: dict[str, Any]):
    assert of(root, **change) == of(root)


@pytest.mark.parametrize(
    "change",
    [
        {"lookback": "1h"},
        {"lookahead": "1h"},
        {"interval": "hour"},
        {"interval": {"grain": "day", "column": "window_start"}},
        {"event_time": {"column": "id", "watermark": "10m"}},
        {"source": {"files": {**VALUES["source"]["files"], "schema": "at TIMESTAMP"}}},
        {"source": {"files": {**VALUES["source"]["files"], "options": {"multiLine": "true"}}}},
        {"sink": {"delta": {"path": "out", "mode": "upsert", "key": ["id"], "order_by": ["at"]}}},
        {"transform": "work.clicks:other"},
        {"transform": ["work.clicks:clean", "work.clicks:other"]},
        {"transform": {"sql": "SELECT * FROM events"}},
    ],
    ids=str,
)
def test_what_a_pipeline_is_counts(root: Path, change: dict[str, Any]):
    assert of(root, **change) != of(root)


def sql(root: Path, query: str) -> str:
    return of(root, transform={"sql": query})


def test_the_layout_of_a_query_does_not_count(root: Path):
    query = "SELECT id,\n       upper(id) AS u  -- loud\nFROM events /* all\nof them */ WHERE id = 'x'"

    assert sql(root, query) == sql(root, "SELECT id, upper(id) AS u FROM events WHERE id = 'x'")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'a  b'", "SELECT 'a b'"),  # blanks in a text
        ('SELECT "a\n"', 'SELECT "a "'),
        ("SELECT `a  b`", "SELECT `a b`"),
        ("SELECT 'it''s --  x'", "SELECT 'it''s -- x'"),
        ("SELECT 1 -- x\n, 2", "SELECT 1 -- x , 2"),  # a comment ends with its line
        ("SELECT 'a\\'  -- x'", "SELECT 'a\\' -- x'"),  # an escaped quote
        ("SELECT r'a\\' , '  '", "SELECT r'a\\' , ' '"),  # a raw text
        ("SELECT /* a /* b */ c */ 1", "SELECT /* a /* b */ d */ 1"),  # over-reported
        ("SELECT /*+ BROADCAST(t) */ 1", "SELECT 1"),  # a hint is no comment
        ("SELECT 1", "SELECT 2"),
    ],
)
def test_the_content_of_a_query_counts(root: Path, one: str, other: str):
    assert sql(root, one) != sql(root, other)


def test_a_query_in_normal_form():
    assert normal_sql("  SELECT 'a  b',  -- two blanks\n  x\n") == "SELECT 'a  b', x"


def test_a_missing_module_and_a_missing_function_are_refused(root: Path):
    with pytest.raises(ConfigError) as module:
        of(root, transform="work.clickz:clean")
    with pytest.raises(ConfigError) as function:
        of(root, transform="work.clicks:cleen")

    assert "work/clickz.py" in module.value.next_step
    assert "clean" in function.value.next_step


def test_a_module_that_does_not_parse_is_refused_with_its_line(root: Path):
    (root / "work" / "clicks.py").write_text("def clean(e):\n    return (\n")

    with pytest.raises(ConfigError) as refused:
        of(root)

    assert refused.value.params["file"] == str(root / "work" / "clicks.py")
    assert refused.value.params["line"] == 2


def test_nothing_is_imported(root: Path):
    (root / "work" / "clicks.py").write_text(
        "import work.shared\nraise SystemExit\n\ndef clean(e):\n    return e\n"
    )

    assert len(of(root)) == 16


def test_installed_functions_count_by_name(root: Path):
    assert of(root, transform="json:dumps") != of(root, transform="json:loads")


def test_a_domain_counts_by_the_files_and_the_version_of_the_packages_that_it_is_made_of(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    site = tmp_path_factory.mktemp("site-packages")
    package, record = site / "bank_core", site / "bank_core-1.0.dist-info" / "RECORD"
    (package / "rules").mkdir(parents=True)
    record.parent.mkdir()
    record.write_text("bank_core/__init__.py,sha256=x,1\n")
    (package / "__init__.py").write_text("from bank_core.rules.fees import FEE\nBANK = FEE\n")
    (package / "rules" / "__init__.py").touch()
    (package / "rules" / "fees.py").write_text("FEE = 1\n")
    (root / "work" / "bank.py").write_text("import json\nfrom bank_core import BANK as BASE\nHERE = BASE\n")
    monkeypatch.syspath_prepend(site)

    def now() -> list[str]:
        installed._version.cache_clear()
        return [of(root, transform=[{"decide": each}]) for each in ("bank_core:BANK", "work.bank:HERE")]

    found = [now()]
    assert now() == found[0]
    (package / "rules" / "fees.py").write_text("FEE = 2\n")
    found.append(now())
    record.parent.rename(site / "bank_core-1.1.dist-info")
    found.append(now())
    for one, other, last in zip(*found, strict=True):
        assert len({one, other, last}) == 3


# ---- functions given as objects


def notebook(source: str, name: str = "f", **names: Any) -> Callable[..., Any]:
    """A function as a notebook cell defines it: there is no source file."""
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(dedent(source), scope)  # noqa: S102  that is what a notebook does
    return scope[name]


def given(root: Path, call: Callable[..., Any]) -> str:
    return of(root, transform=call)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(d): return d.limit(1)", "def f(d): return d.limit(2)"),
        ("def f(d): return d.limit(1)", "def f(d): return d.head(1)"),
        ("N = 1\ndef f(d): return d.limit(N)", "N = 2\ndef f(d): return d.limit(N)"),
        ("N = {'a': [1]}\ndef f(d): return d.map(N)", "N = {'a': [2]}\ndef f(d): return d.map(N)"),
        ("N = {1, 2}\ndef f(d): return d.isin(N)", "N = {1, 3}\ndef f(d): return d.isin(N)"),
        ("def g(x): return x\ndef f(d): return g(d)", "def g(x): return 1\ndef f(d): return g(d)"),
        (
            "def g(x): return x\ndef f(d): return [g(x) for x in d]",
            "def g(x): return 1\ndef f(d): return [g(x) for x in d]",
        ),
        (
            "def g(x): return x\nf = lambda d: (lambda y: g(y))(d)",
            "def g(x): return 1\nf = lambda d: (lambda y: g(y))(d)",
        ),
        ("N = 1\ndef f(d, n=N): return d.limit(n)", "N = 2\ndef f(d, n=N): return d.limit(n)"),
        ("N = 1\ndef f(d, *, n=N): return d.limit(n)", "N = 2\ndef f(d, *, n=N): return d.limit(n)"),
        (
            "def make(n):\n    def f(d): return d.limit(n)\n    return f\nf = make(1)",
            "def make(n):\n    def f(d): return d.limit(n)\n    return f\nf = make(2)",
        ),
        ("f = lambda d: d.a()", "f = lambda d: d.b()"),
    ],
)
def test_what_a_notebook_function_reaches_counts(root: Path, one: str, other: str):
    assert given(root, notebook(one)) == given(root, notebook(one))
    assert given(root, notebook(one)) != given(root, notebook(other))


def test_what_a_notebook_function_does_not_reach_does_not_count(root: Path):
    one = notebook("N = 1\ndef f(d): return d.limit(5)")
    other = notebook("N = 2\ndef f(d): return d.limit(5)")

    assert given(root, one) == given(root, other)


def test_arguments_bound_by_partial_count(root: Path):
    f = notebook("def f(d, n): return d.limit(n)")

    assert given(root, functools.partial(f, n=1)) != given(root, functools.partial(f, n=2))


class Limit:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, d: Any) -> Any:
        return d.limit(self.n)

    def half(self, d: Any) -> Any:
        return d.limit(self.n // 2)


def test_what_a_callable_object_holds_counts(root: Path):
    assert given(root, Limit(1)) == given(root, Limit(1))
    assert given(root, Limit(1)) != given(root, Limit(2))
    assert given(root, Limit(1).half) != given(root, Limit(2).half)


def test_the_comments_of_a_function_with_source_do_not_count(root: Path):
    def one() -> Callable[..., Any]:
        def f(d: Any) -> Any:
            """A docstring."""
            return d.limit(1)  # a comment

        return f

    def two() -> Callable[..., Any]:
        def f(d: Any) -> Any:
            return d.limit(1)

        return f

    assert given(root, one()) == given(root, two())


def test_a_project_module_that_a_notebook_uses_counts(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(root)
    rates = importlib.import_module("work.rates")
    shared = importlib.import_module("work.shared")
    try:
        f = notebook("def f(d): return normalise(rates.apply(d), 1)", rates=rates, normalise=shared.normalise)
        first = given(root, f)
        assert given(root, f) == first
        (root / "work" / "rates.py").write_text(RATES.replace("2", "33"))
        second = given(root, f)
        (root / "work" / "shared.py").write_text(SHARED.replace("return inner(x)", "return x"))
        assert len({first, second, given(root, f)}) == 3
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "work"]:
            del sys.modules[name]
