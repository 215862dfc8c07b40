"""Asks a schema registry: files, or a server that speaks Confluent's REST protocol."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tidemill.errors import SourceError
from tidemill.ledger.schemas import Writer
from tidemill.model import Registry

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between the attempts to reach a server: five in all, and no end of 5 s each."""

_TIMEOUT = 5.0
_NO_SUCH_ID = 40403
_GREATEST = 2**31 - 1
"""Ids are Java's ints. A server that is asked for a greater one says that it has no such page, as no registry does."""


def listed(registry: Registry) -> tuple[int, ...]:
    """The ids of a registry of files; of a server none, which is asked for one id at a time.

    Raises :class:`SourceError` when the files are not there.
    """
    return () if registry.path is None else tuple(sorted(_files(registry.path)))


def find(registry: Registry, ids: Iterable[int]) -> dict[int, Writer]:
    """The schemas of those ids that the registry knows; of a server none above 2,147,483,647, which it cannot have.

    A server that does not answer is asked for about half a minute. Raises :class:`SourceError` when it does not, refuses
    the user, or is no schema registry; never takes that for an id that is not there.
    """
    if registry.path is not None:
        files = _files(registry.path)
        return {i: Writer(files[i]) for i in ids if i in files}
    answers = {i: _ask(registry, i) for i in ids if i <= _GREATEST}
    return {i: found for i, found in answers.items() if found is not None}


def _files(path: str) -> dict[int, str]:
    place = Path(path)
    try:
        if place.is_dir():
            named = {each.stem: each for each in place.glob("*.avsc")}
            return {int(i): each.read_text(encoding="utf-8") for i, each in named.items() if i.isdecimal()}
        body = json.loads(place.read_text(encoding="utf-8"))
        return {int(i): each if isinstance(each, str) else json.dumps(each) for i, each in body.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise SourceError(
            f"the schema registry {path} cannot be read: {error}",
            next_step='make it a folder of files named <id>.avsc, or a JSON file {"<id>": schema}',
            registry=path,
        ) from None


def _ask(registry: Registry, number: int) -> Writer | None:
    for pause in (*_PAUSES, None):
        try:
            return _answer(_get(registry, number))
        except HTTPError as error:
            if error.code == 404 and _error_code(error) == _NO_SUCH_ID:
                return None
            if error.code < 500 or pause is None:
                raise _refused(registry, f"it answers {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            if pause is None:
                raise _refused(registry, f"no answer: {getattr(error, 'reason', None) or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _refused(registry, "its answer is no schema: is this a schema registry?") from None
        time.sleep(pause)
    raise AssertionError


def _get(registry: Registry, number: int) -> Any:
    assert registry.url is not None  # noqa: S101  the model saw to it
    request = Request(f"{registry.url.rstrip('/')}/schemas/ids/{number}")  # noqa: S310  the model wants http(s)
    request.add_header("Accept", "application/vnd.schemaregistry.v1+json, application/json")
    if registry.user is not None and registry.password is not None:
        login = f"{registry.user}:{registry.password.get_secret_value()}".encode()
        # Not for whoever it redirects to: a plain header would go along, to any host.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login).decode()}")
    with build_opener(_Redirects()).open(request, timeout=_TIMEOUT) as answer:
        return json.load(answer)


class _Redirects(HTTPRedirectHandler):
    """Takes a login along to the same server, and to the same host where that asks for TLS."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        login = req.unredirected_hdrs.get("Authorization")
        if following is not None and login is not None and _is_same(req.full_url, newurl):
            following.add_unredirected_header("Authorization", login)
        return following


def _is_same(asked: str, told: str) -> bool:
    before, now = urlsplit(asked), urlsplit(told)
    return before.hostname == now.hostname and (
        now.scheme == "https" if before.scheme != now.scheme else before.port == now.port
    )


def _answer(body: Any) -> Writer:
    kind = body.get("schemaType") or "AVRO"
    if kind != "AVRO":
        return Writer("", unfit=f"it is of the type {kind}, and not Avro")
    if body.get("references"):
        return Writer("", unfit="it refers to other schemas, which is not supported")
    return Writer(str(body["schema"]))


def _error_code(error: HTTPError) -> int | None:
    try:
        return int(json.load(error)["error_code"])
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _refused(registry: Registry, what: str) -> SourceError:
    return SourceError(
        f"the schema registry at {registry.place}: {what}",
        next_step="see that it runs, and that source.kafka.registry holds its address and what it asks for; nothing of "
        "this batch was published",
        registry=registry.place,
    )
