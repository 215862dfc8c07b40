"""What a store says when it does not do what it was asked: as an error that names the bucket and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tidemill.errors import StoreError
from tidemill.storage import clients


class Unknown(StoreError):
    """The reply to a write was lost: it may have been done."""

    code = "STORE_REPLY_LOST"


@contextmanager
def of_deltalake(path: str) -> Iterator[None]:
    """What deltalake says of a table on a store that cannot be read or written becomes :class:`StoreError`."""
    try:
        yield
    except Exception as error:
        if not path.startswith("s3://") or not _OF_A_STORE.search(str(error)):
            raise
        bucket, _, key = path.removeprefix("s3://").partition("/")
        raise explained(error, bucket, key) from error


_OF_A_STORE = re.compile(r"Generic S3 error|error sending request|status code")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")


def passing(error: Exception) -> bool:
    """Whether the request may have been done, or may yet be: no reply, or one that says that the store is not well."""
    found = _STATUS.search(str(error))
    return found is None or found[1][0] == "5" or found[1] in {"408", "409", "429"}


def _plain(text: str) -> str:
    """A message on one line, without the colours and boxes that deltalake draws."""
    return " ".join(
        re.sub(r"\x1b\[[\d;]*m|[\u2500-\u257f\u21b3]", " ", text.partition("\n\nDebug")[0]).split()
    )


def explained(error: Exception, bucket: str, key: str) -> StoreError:
    """What ``error``, of a request for ``key``, means."""
    access = clients.client(bucket).access
    text, where = _plain(str(error)), f"s3://{bucket} at {access.endpoint or access.region}"
    status, code = _STATUS.search(text), _CODE.search(text)
    said = code[1] if code else f"status {status[1]}" if status else text[:300]
    if "169.254.169.254" in text:
        what = f"{where}: there are no keys: conf/stores.yml, the environment and profiles have none, this machine no role"
        step = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write conf/stores.yml"
    elif "NoSuchBucket" in text or isinstance(error, FileNotFoundError):
        what, step = (
            f"{where}: there is no such bucket",
            "create it, or correct the path, the endpoint or the region",
        )
    elif status is None:
        what, step = f"{where}: the store does not answer: {said}", "check the endpoint and the network"
    elif status[1] in {"400", "401", "403"}:
        what = f"{where}: the store refuses the request ({said}); the keys are from {access.origin}"
        step = "correct the keys, or let them read, write and list this bucket"
    else:
        what, step = f"{where}: the store fails ({said}) on {key}", "try again; nothing was half written"
    return StoreError(what, next_step=step, path=f"s3://{bucket}/{key}", bucket=bucket)
