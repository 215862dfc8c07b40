"""The machine that a benchmark ran on, as far as it explains a number. It has no name."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tidemill.execution.java import usable_java
from tidemill.execution.settings import cores


@dataclass(frozen=True, slots=True)
class Machine:
    """What a result was measured on."""

    cores: int
    memory_gib: int
    python: str
    java: str
    spark: str


def this_machine() -> Machine:
    """The machine of this process."""
    return Machine(
        cores=cores("local[*]"),
        memory_gib=_memory_gib(),
        python=platform.python_version(),
        java=str(usable_java()[1]),
        spark=version("pyspark"),
    )


def _memory_gib() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 1024**2)
    return 0
