"""When a live run looks for new input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError
from pydantic import field_validator, model_validator

from tidemill.model.base import Duration, Frozen

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Trigger(Frozen):
    """Exactly one of: every so often; once through all there is; at the moments of a cron line (UTC)."""

    processing_time: Duration | None = None
    available_now: bool = False
    cron: str | None = None

    @field_validator("cron")
    @classmethod
    def _cron_parses(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                CronSim(value, _EPOCH)
            except CronSimError as error:
                msg = f"{value!r} is not a cron line: {error}"
                raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Trigger:
        chosen = (self.processing_time is not None) + self.available_now + (self.cron is not None)
        if chosen != 1:
            msg = "name exactly one of: processing_time, available_now, cron"
            raise ValueError(msg)
        return self

    @property
    def label(self) -> str:
        """How plans and status name it."""
        if self.available_now:
            return "available now"
        return f"cron {self.cron}" if self.cron else f"every {_seconds(self.processing_time)}"


def _seconds(value: timedelta | None) -> str:
    return f"{value.total_seconds():g} s" if value is not None else "?"
