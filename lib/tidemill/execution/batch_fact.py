"""What a live batch's commit says of it: from Spark's checkpoint and from what was observed while it ran. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pyspark.sql.streaming.query import StreamingQuery

from tidemill.errors import StateError
from tidemill.execution import seeds
from tidemill.execution.late import late
from tidemill.execution.named import same_places
from tidemill.execution.ready import Ready
from tidemill.execution.streamplan import Inspector
from tidemill.execution.touched import told
from tidemill.execution.unreadable import given_up_between
from tidemill.ledger import inputs
from tidemill.ledger.facts import LiveBatch
from tidemill.quality.watch import OUTPUT, Seen
from tidemill.sources.live import observed


class Facts:
    """The facts of one query's batches."""

    def __init__(self, ready: Ready, query: StreamingQuery) -> None:
        self._ready, self._known = ready, ready.known
        self._query = str(query.id)
        self._inspector = Inspector(query)

    def seen(self) -> Seen:
        """What each observation of the batch saw that has just run, by its name."""
        return self._inspector.observed()

    def ends(self, batch: int) -> Mapping[str, Any]:
        """Where each input's part of a batch ends, as Spark has decided before it ran."""
        now = inputs.read_offsets(self._known.checkpoint, batch)
        return self._named(now.ends if now else ())

    def of(self, batch: int, seen: Seen) -> LiveBatch:
        """The fact of the batch that has just run. Raises :class:`StateError` where its offsets are not there."""
        known, pipeline, nature = self._known, self._known.pipeline, self._ready.nature
        now = inputs.read_offsets(known.checkpoint, batch)
        if now is None:
            raise StateError(f"{known.checkpoint}/offsets/{batch} is not there", file=known.checkpoint)
        before = inputs.read_offsets(known.checkpoint, batch - 1)
        start, end = self._named(before.ends if before else ()), self._named(now.ends)
        moving = [name for name, each in pipeline.inputs.items() if not each.static]
        counts = [seen.get(observed(name), {}) for name in moving]
        left_out = [known.watched.left_out(name, seen) for name in moving]
        buckets = sorted({bucket for each in counts for bucket in each.get("buckets") or ()})
        dropped = sum(each.dropped for each in left_out)
        output = known.watched.left_out(OUTPUT, seen)
        # A file that could not be read counts as one record, and a bad one.
        given_up = self._given_up(start, end)
        late_before = before.watermark if before else 0
        fact = LiveBatch(
            pipeline=pipeline.name,
            run=known.setting.run,
            fingerprint=known.code,
            query=self._query,
            batch=batch,
            source_start=start,
            source_end=end,
            stateful=nature.stateful,
            watermark=self._inspector.finished() if nature.stateful else None,
            input_rows=sum(each.get("rows") or 0 for each in counts) + given_up,
            quarantined=sum(each.get("bad") or 0 for each in counts) - dropped + given_up,
            dropped=dropped,
            output_quarantined=output.quarantined,
            output_dropped=output.dropped,
            late=late(pipeline, nature, self._inspector, buckets, late_before),
            verdicts=known.watched.verdicts(seen),
            planted=seeds.told(known.seed) if nature.fold and not pipeline.recorded else None,
            **told(pipeline, buckets, (bucket for each in left_out for bucket in each.buckets)),
        )
        return known.setting.survey.owing(pipeline, fact) if known.setting.survey else fact

    def _given_up(self, start: Mapping[str, Any], end: Mapping[str, Any]) -> int:
        return sum(
            given_up_between(files, self._known.checkpoint, start[name], end[name])
            for name, files in self._ready.given_up.items()
        )

    def _named(self, ends: tuple[Any, ...]) -> Mapping[str, Any]:
        return {
            name: {"place": i, "offset": ends[i] if i < len(ends) else None}
            for name, i in self._places.items()
        }

    @cached_property
    def _places(self) -> Mapping[str, int]:
        # Spark has its sources by the first batch, not when the query starts.
        return same_places(self._known.pipeline, self._known.coverage, self._inspector.sources())
