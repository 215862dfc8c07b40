"""Where the schemas of Avro values stand, by the id that each value begins with."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from tidemill.model.base import Frozen


class Registry(Frozen):
    """A schema registry: files, or a server that speaks the REST protocol of Confluent's.

    ``path``: a folder of files named ``<id>.avsc``, or one JSON file, ``{"<id>": schema}``. ``url``: asked for
    ``/schemas/ids/<id>``, as ``user`` with ``password`` where they are given. An id means the same schema for ever.
    """

    path: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    user: str | None = None
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Registry:
        if (self.path is None) == (self.url is None):
            msg = "name exactly one of: path, url"
            raise ValueError(msg)
        if (self.user is None) != (self.password is None) or (self.user is not None and self.url is None):
            msg = "user and password go together, and with a url"
            raise ValueError(msg)
        return self

    @property
    def place(self) -> str:
        """Where it is, as a person reads it; no secret."""
        return self.path or self.url or ""
