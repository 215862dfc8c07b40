"""What runs is what the fingerprint speaks of, in one long-lived process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config import fingerprint, parse_pipeline
from tidemill.transforms.apply import load_function

pytestmark = pytest.mark.spark


def _write(root: Path, value: int) -> None:
    (root / "shop").mkdir(exist_ok=True)
    (root / "shop/__init__.py").write_text("")
    (root / "shop/prices.py").write_text(f"FACTOR = {value}\n")
    (root / "shop/orders.py").write_text(
        "from shop.prices import FACTOR\n\n\ndef orders(frame):\n    return FACTOR\n"
    )


def _fingerprint(root: Path) -> str:
    return fingerprint(
        parse_pipeline(
            {
                "name": "orders",
                "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP"}},
                "event_time": {"column": "at"},
                "interval": "day",
                "transform": "shop.orders:orders",
                "sink": {"delta": {"path": "out"}},
            },
            root,
        ),
        str(root),
    )


def test_a_module_that_changed_is_loaded_anew_with_what_it_imports(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    before = _fingerprint(tmp_path)
    assert load_function("shop.orders:orders", str(tmp_path))(None) == 1
    _write(tmp_path, 2)
    assert _fingerprint(tmp_path) != before
    assert load_function("shop.orders:orders", str(tmp_path))(None) == 2


def test_two_projects_with_modules_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, value)
    for name, value in (("one", 1), ("two", 2), ("one", 1)):
        assert load_function("shop.orders:orders", str(tmp_path / name))(None) == value


def test_an_unchanged_module_is_loaded_once(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    first = load_function("shop.orders:orders", str(tmp_path))
    assert load_function("shop.orders:orders", str(tmp_path)) is first
