"""Clients of stores, one a bucket, and the same settings as deltalake and Hadoop name them.

Three libraries speak to a store: obstore for the ledger's small files, deltalake for tables, Hadoop for Spark. They know
different chains of providers, so what the environment, a profile or ``conf/stores.yml`` say is found here, once, and told to
all three. Where those say nothing of keys, each asks for the machine's role by itself.
"""

from __future__ import annotations

import configparser
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import ConfigError, EnvironmentProblem
from tidemill.model import Store

if TYPE_CHECKING:
    from obstore.store import S3Store

RETRIES = 4
CONNECT_SECONDS, RETRY_SECONDS = 5, 30
"""A store that does not answer is given up after about half a minute."""

_stores: dict[str, Store] = {}
_clients: dict[str, Client] = {}
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Access:
    """How a bucket is reached, found once: keys are empty where the machine's role is to be asked for."""

    bucket: str
    endpoint: str
    region: str
    path_style: bool
    timeout: int
    """Seconds."""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    origin: str = ""
    """Where the keys come from, for messages."""


@dataclass(frozen=True, slots=True)
class Client:
    """The clients of a bucket: ``once`` tries a request once, for those that must not be repeated unseen."""

    access: Access
    store: S3Store
    once: S3Store
    kept: threading.Event = field(default_factory=threading.Event)
    """Set once it was seen that the store keeps the conditions of writes."""


def use(stores: Mapping[str, Store]) -> None:
    """From now on in this process, these buckets are reached so; others keep what was said of them."""
    with _making:
        for bucket, store in stores.items():
            if _stores.get(bucket) != store:
                _stores[bucket] = store
                _clients.pop(bucket, None)


def client(bucket: str) -> Client:
    """The clients of a bucket, made once. Raises :class:`ConfigError` where the settings or the profile do not do."""
    found = _clients.get(bucket)
    if found is None:
        with _making:
            found = _clients.get(bucket) or _client(access(bucket, _stores.get(bucket, Store())))
            _clients[bucket] = found
    return found


def access(bucket: str, store: Store) -> Access:
    """What the settings of a bucket come to in this environment. Raises :class:`ConfigError` for an unfit profile."""
    env = os.environ
    name = store.profile or env.get("AWS_PROFILE")
    profile = _profile(name or "default", named=name is not None)
    endpoint = (
        store.endpoint
        or env.get("AWS_ENDPOINT_URL_S3")
        or env.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
    )
    region = store.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or profile.get("region")
    path_style = bool(endpoint) if store.path_style is None else store.path_style
    key, secret, token, origin = _keys(store, name, profile)
    timeout = max(1, round(store.timeout.total_seconds()))
    return Access(
        bucket, endpoint or "", region or "us-east-1", path_style, timeout, key, secret, token, origin
    )


def _keys(store: Store, name: str | None, profile: Mapping[str, str]) -> tuple[str, str, str, str]:
    env = os.environ
    if store.access_key is not None and store.secret_key is not None:
        token = store.session_token.get_secret_value() if store.session_token else ""
        return (
            store.access_key.get_secret_value(),
            store.secret_key.get_secret_value(),
            token,
            "conf/stores.yml",
        )
    if not store.profile and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        token = env.get("AWS_SESSION_TOKEN", "")
        return env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], token, "the environment"
    if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
        token = profile.get("aws_session_token", "")
        what = f"the profile {name or 'default'}"
        return profile["aws_access_key_id"], profile["aws_secret_access_key"], token, what
    if name is not None:
        raise ConfigError(
            f"the profile {name} of AWS has no keys of its own",
            next_step="profiles with a role, a process or single sign-on are not followed: put their keys into the "
            "environment, with: eval $(aws configure export-credentials --format env)",
            profile=name,
        )
    return "", "", "", "this machine's role (neither the environment nor a profile has keys)"


def _profile(name: str, *, named: bool) -> dict[str, str]:
    """What the files of AWS say of a profile."""
    found: dict[str, str] = {}
    home = Path.home() / ".aws"
    config = Path(os.environ.get("AWS_CONFIG_FILE", home / "config"))
    credentials = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"))
    there = False
    for path, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be read: {str(error).splitlines()[0]}",
                next_step="correct the file",
                file=str(path),
            ) from None
        if parser.has_section(section):
            there = True
            found |= dict(parser.items(section))
    if named and not there:
        raise ConfigError(
            f"there is no profile {name} in {credentials} or {config}",
            next_step="correct AWS_PROFILE or the profile in conf/stores.yml",
            profile=name,
        )
    return found


def _client(access: Access) -> Client:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise EnvironmentProblem(
            f"s3://{access.bucket}: the package obstore is missing, by which stores are reached",
            next_step="pip install 'tidemill[s3]'",
        ) from None

    def made(retries: int) -> S3Store:
        settings: dict[str, Any] = {
            "region": access.region,
            "virtual_hosted_style_request": not access.path_style,
        }
        if access.endpoint:
            settings["endpoint"] = access.endpoint
        if access.access_key:
            settings |= {"access_key_id": access.access_key, "secret_access_key": access.secret_key}
        if access.session_token:
            settings["session_token"] = access.session_token
        options = {
            "allow_http": access.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=access.timeout),
        }
        retry = {"max_retries": retries, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
        return S3Store(access.bucket, client_options=options, retry_config=retry, **settings)  # type: ignore[arg-type]

    return Client(access, made(RETRIES), made(0))


def delta_options(path: str) -> dict[str, str] | None:
    """The ``storage_options`` of deltalake for a path; None for a local one."""
    if not path.startswith("s3://"):
        return None
    access = client(path.removeprefix("s3://").partition("/")[0]).access
    found = {
        # A version of the log is written once, whoever writes it.
        "aws_conditional_put": "etag",
        "aws_region": access.region,
        "aws_virtual_hosted_style_request": str(not access.path_style).lower(),
        "max_retries": str(RETRIES),
        "retry_timeout": f"{RETRY_SECONDS}s",
        # Of files, not of a small object.
        "timeout": f"{max(60, access.timeout)}s",
        "connect_timeout": f"{CONNECT_SECONDS}s",
    }
    if access.endpoint:
        found |= {
            "aws_endpoint": access.endpoint,
            "aws_allow_http": str(access.endpoint.startswith("http://")).lower(),
        }
    if access.access_key:
        found |= {"aws_access_key_id": access.access_key, "aws_secret_access_key": access.secret_key}
    if access.session_token:
        found["aws_session_token"] = access.session_token
    return found


def hadoop_settings(bucket: str) -> dict[str, str]:
    """What Hadoop's file system for S3 is told of a bucket, for ``s3://`` and ``s3a://`` alike."""
    access = client(bucket).access
    of = f"fs.s3a.bucket.{bucket}."
    found = {
        "fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "fs.AbstractFileSystem.s3.impl": "org.apache.hadoop.fs.s3a.S3A",
        f"{of}endpoint.region": access.region,
        f"{of}path.style.access": str(access.path_style).lower(),
        f"{of}attempts.maximum": str(RETRIES),
        f"{of}retry.limit": str(RETRIES),
        f"{of}retry.throttle.limit": str(RETRIES),
        # Folders are no objects: whether there is one, or a file of its name, need not be asked again and again.
        f"{of}performance.flags": "create, mkdir, delete",
        # The client by which state stores' files would go up takes a reply of 100, which says to go on, for the last.
        f"{of}optimized.copy.from.local.enabled": "false",
        f"{of}connection.establish.timeout": f"{CONNECT_SECONDS}s",
        f"{of}connection.timeout": f"{access.timeout}s",
    }
    if access.endpoint:
        found[f"{of}endpoint"] = access.endpoint
        found[f"{of}connection.ssl.enabled"] = str(access.endpoint.startswith("https://")).lower()
    if access.access_key:
        kind = "TemporaryAWSCredentialsProvider" if access.session_token else "SimpleAWSCredentialsProvider"
        found |= {
            f"{of}aws.credentials.provider": f"org.apache.hadoop.fs.s3a.{kind}",
            f"{of}access.key": access.access_key,
            f"{of}secret.key": access.secret_key,
        }
    if access.session_token:
        found[f"{of}session.token"] = access.session_token
    return found
