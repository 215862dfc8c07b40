"""``conf/stores.yml``: how stores are reached, by bucket; and what a path on a store looks like."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from pydantic import ValidationError

from tidemill.config import text
from tidemill.errors import ConfigError
from tidemill.model import Store

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def load_stores(root: Path) -> dict[str, Store]:
    """The stores of a project, by bucket; none where there is no such file. Raises :class:`ConfigError` with file and line."""
    path = root / "conf" / "stores.yml"
    if not path.is_file():
        return {}
    document = text.load(path)
    if not isinstance(document.value or {}, dict):
        raise document.error(
            (), "a mapping of buckets is wanted", "write BUCKET: {endpoint: ..., region: ...}"
        )
    found = {}
    for bucket, values in (text.resolved(document) or {}).items():
        if not _BUCKET.fullmatch(bucket):
            raise document.error(
                (bucket,),
                f"{bucket!r} is no bucket's name",
                "3 to 63 small letters, digits, dots and hyphens",
            )
        try:
            found[bucket] = Store.model_validate(values or {})
        except ValidationError as error:
            # Not its own text, which may hold a key.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            hint = f"the keys are {', '.join(Store.model_fields)}"
            if first["type"] == "extra_forbidden":
                name = str(first["loc"][-1])
                near = difflib.get_close_matches(name, Store.model_fields, n=1)
                message, hint = f"unknown key {name!r}", f"did you mean {near[0]!r}?" if near else hint
            raise document.error((bucket, *first["loc"]), message, hint) from None
    return found


def store_path(path: str) -> str:
    """A path on a store as it is kept: ``s3://``, without a slash at its end. Raises :class:`ConfigError`."""
    bucket, _, key = path.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket) or not key.strip("/"):
        raise ConfigError(
            f"{path}: no bucket and a path in it",
            next_step="write s3://BUCKET/PATH; a bucket's name has 3 to 63 letters",
        )
    return f"s3://{bucket}/{key.strip('/')}"
