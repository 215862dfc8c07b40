"""How the store is reached that holds a bucket."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, model_validator

from tidemill.model.base import Duration, Frozen


class Store(Frozen):
    """An S3-compatible store, for one bucket. What is left out comes from the provider chain of AWS: ``AWS_ENDPOINT_URL``,
    ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` and its like, then the profile ``AWS_PROFILE``, then the machine's role.

    ``path_style``: whether the bucket is named in the path; by default where there is an ``endpoint``. ``timeout``: how long
    a small request may take; it is repeated a few times. The keys are never shown, and no part of any fingerprint.
    """

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s/]+$")
    region: str | None = None
    profile: str | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    path_style: bool | None = None
    timeout: Duration = timedelta(seconds=20)

    @model_validator(mode="after")
    def _keys_come_together(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            msg = "access_key and secret_key come together"
            raise ValueError(msg)
        if self.session_token is not None and self.access_key is None:
            msg = "session_token comes with access_key and secret_key"
            raise ValueError(msg)
        if self.profile is not None and self.access_key is not None:
            msg = "name either a profile or keys"
            raise ValueError(msg)
        return self
