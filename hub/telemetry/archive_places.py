"""Where the archive is: a folder, or a bucket of S3 or of what speaks like it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

from hub.sdk.errors import ConfigError, HubError, TransientError

PARTIAL = ".partial"


class Place(Protocol):
    """Files by name (`2026/06/2026-06-01.0001.parquet`).

    Calls raise TransientError when the place is out of reach or full, ConfigError when the hub may
    not use it; nothing is published then.
    """

    url: str

    def put(self, name: str, source: Path) -> None:
        """Copy a local file there under a temporary name."""

    def get_partial(self, name: str, target: Path) -> None:
        """Read back what `put` wrote."""

    def publish(self, name: str) -> None:
        """Give what `put` wrote its name; an older file of that name is replaced."""

    def get(self, name: str, target: Path) -> None:
        """Copy a file to a local one."""

    def names(self) -> list[str]:
        """All published files."""


def open_place(setting: str, endpoint: str | None, base: Path) -> Place:
    """A path (relative to `base`) or `s3://bucket/prefix`. Raises ConfigError."""
    parts = urlsplit(setting)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ConfigError("telemetry.archive_setting", value=setting)
        return Bucket(parts.netloc, parts.path.strip("/"), endpoint)
    if parts.scheme and len(parts.scheme) > 1:
        raise ConfigError("telemetry.archive_setting", value=setting)
    return Folder(base / setting)


class Folder:
    """A local or mounted folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = str(folder)

    def put(self, name: str, source: Path) -> None:
        with self._trouble():
            target = self._folder / (name + PARTIAL)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as read, target.open("wb") as write:
                while block := read.read(1 << 20):
                    write.write(block)
                write.flush()
                os.fsync(write.fileno())

    def get_partial(self, name: str, target: Path) -> None:
        self.get(name + PARTIAL, target)

    def publish(self, name: str) -> None:
        with self._trouble():
            path = self._folder / name
            (self._folder / (name + PARTIAL)).replace(path)
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def get(self, name: str, target: Path) -> None:
        with self._trouble():
            shutil.copyfile(self._folder / name, target)

    def names(self) -> list[str]:
        with self._trouble():
            found = self._folder.glob("*/*/*.parquet")
            return sorted(path.relative_to(self._folder).as_posix() for path in found)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise TransientError("telemetry.archive_away", place=self.url, reason=reason) from error


class Bucket:
    """A bucket; account and region come from the usual AWS settings of the environment."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = _s3_client(endpoint)

    def put(self, name: str, source: Path) -> None:
        self._call(lambda s3: s3.upload_file(str(source), self._bucket, self._key(name + PARTIAL)))

    def get_partial(self, name: str, target: Path) -> None:
        self.get(name + PARTIAL, target)

    def publish(self, name: str) -> None:
        # S3 has no renaming: what was read back is copied there, then the temporary file goes.
        partial = {"Bucket": self._bucket, "Key": self._key(name + PARTIAL)}
        self._call(lambda s3: s3.copy(partial, self._bucket, self._key(name)))
        self._call(lambda s3: s3.delete_object(**partial))

    def get(self, name: str, target: Path) -> None:
        self._call(lambda s3: s3.download_file(self._bucket, self._key(name), str(target)))

    def names(self) -> list[str]:
        found: list[str] = []

        def collect(s3: Any) -> None:
            found.clear()
            pages = s3.get_paginator("list_objects_v2")
            prefix = self._key("")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                found.extend(one["Key"].removeprefix(prefix) for one in page.get("Contents", ()))

        self._call(collect)
        return sorted(name for name in found if name.endswith(".parquet"))

    def _key(self, name: str) -> str:
        return str(PurePosixPath(self._prefix) / name) if name else f"{self._prefix}/".lstrip("/")

    def _call(self, action: Callable[[Any], object]) -> None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            action(self._client)
        except (BotoCoreError, Boto3Error, ClientError, OSError) as error:
            # An upload that fails hides what the server answered.
            cause = error.__context__ if isinstance(error, Boto3Error) else error
            if isinstance(cause, ClientError):
                raise self._refusal(cause.response) from error
            reason = type(cause or error).__name__
            raise TransientError("telemetry.archive_away", place=self.url, reason=reason) from error

    def _refusal(self, answer: Mapping[str, Any]) -> HubError:
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reason = str(answer.get("Error", {}).get("Code", "?"))
        if status >= 500 or status == 429:
            return TransientError("telemetry.archive_away", place=self.url, reason=reason)
        return ConfigError("telemetry.archive_refused", place=self.url, reason=reason)


def _s3_client(endpoint: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigError("telemetry.archive_library", library="boto3") from error
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": "path"} if endpoint else {},
    )
    return boto3.client("s3", endpoint_url=endpoint, config=config)
