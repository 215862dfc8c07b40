"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import bench
import tidemill


def test_examples_in_docstrings_run() -> None:
    names = [
        each.name
        for package in (tidemill, bench)
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not each.name.endswith("__main__") and ".templates" not in each.name
    ]
    failed, tried = [], 0
    for name in names:
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            runner.run(test, out=said.append)
        tried += runner.tries
        failed += said
    assert not failed, "\n".join(failed)
    assert tried > 100
