"""A live input's place is looked at where tidemill can look, and left to Spark elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.errors import SourceError
from tidemill.model import DeltaSource, FilesSource
from tidemill.sources.live import _check_there


def test_what_is_not_there_is_said_here_and_left_to_spark_on_another_file_system(tmp_path: Path) -> None:
    for path in ("hdfs://host/in", "file:///nowhere/at/all"):
        _check_there(FilesSource(path=path, format="json", schema="id INT"))
        _check_there(DeltaSource(path=path))

    with pytest.raises(SourceError, match=r"the source folder .*/nowhere is not there"):
        _check_there(FilesSource(path=f"{tmp_path}/nowhere", format="json", schema="id INT"))
    with pytest.raises(SourceError, match=r"the source table .*/nowhere is not there"):
        _check_there(DeltaSource(path=f"{tmp_path}/nowhere"))
