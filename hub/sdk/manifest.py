"""The connector manifest (`connector.yaml`): read and checked without importing connector code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hub.sdk.loading import Strict, load_yaml, validate
from hub.sdk.manifest_auth import (
    ApiKeyAuth,
    Auth,
    BasicAuth,
    BearerAuth,
    HmacAuth,
    Login,
    NoAuth,
    OAuth2Auth,
    SendToken,
    TokenAuth,
)
from hub.sdk.manifest_hooks import Hook
from hub.sdk.manifest_pages import (
    CursorPager,
    LinkPager,
    NoPager,
    NumberPager,
    OffsetPager,
    Pager,
    WindowPager,
)
from hub.sdk.manifest_values import (
    Bytes,
    Condition,
    HookName,
    Path_,
    PerSecond,
    Request,
    Seconds,
    seconds_of,
)
from hub.sdk.records import Safety

__all__ = [
    "CONTRACT",
    "ApiKeyAuth",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "Bytes",
    "Common",
    "Condition",
    "ConfigField",
    "CursorPager",
    "Detail",
    "Envelope",
    "ErrorClass",
    "ErrorRule",
    "Find",
    "HmacAuth",
    "Hook",
    "HookName",
    "Incremental",
    "Limits",
    "LinkPager",
    "Login",
    "Manifest",
    "NoAuth",
    "NoPager",
    "NumberPager",
    "OAuth2Auth",
    "OffsetPager",
    "Pager",
    "Path_",
    "PerSecond",
    "Poll",
    "Receipts",
    "Request",
    "Seconds",
    "SendToken",
    "Show",
    "Sink",
    "Stream",
    "Telemetry",
    "Title",
    "TokenAuth",
    "Verify",
    "WindowPager",
    "read_manifest",
    "seconds_of",
]

CONTRACT = 1
"""The SDK contract this hub speaks; a manifest that asks for another is refused."""

ErrorClass = Literal["throttle", "reauth", "reject", "retry", "permanent", "duplicate"]
"""The recovery a failed answer asks for.

`throttle`: refused before anything was done, try later. `retry`: trouble on their side; a read is
tried again, a write's outcome is unknown. `reauth`: log in again. `reject`: this record is at
fault. `permanent`: an operator must change a setting. `duplicate`: the record is already there.
"""


class Title(Strict):
    zh: str
    en: str


class ConfigField(Strict):
    """One setting of a connection. `secret` values never appear in logs or listings."""

    type: Literal["str", "url", "secret", "int", "bool"] = "str"
    default: Any = None
    optional: bool = False
    help: str | None = None


# --- what success looks like ------------------------------------------------------------------


class ErrorRule(Strict):
    """Which recovery a failed answer asks for. Rules are tried in order; `else` matches always.

    `match` holds path → regular expression (all must be found), `status` HTTP status codes.
    """

    status: list[int] | None = None
    match: dict[Path_, str] | None = None
    as_: ErrorClass | None = Field(default=None, alias="as")
    else_: ErrorClass | None = Field(default=None, alias="else")

    @field_validator("match")
    @classmethod
    def _patterns(cls, match: dict[str, str] | None) -> dict[str, str] | None:
        for path, pattern in (match or {}).items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"the pattern for {path!r} does not compile: {error}") from error
        return match

    @model_validator(mode="after")
    def _complete(self) -> Self:
        conditional = self.status is not None or self.match is not None
        if conditional == (self.as_ is None) or conditional == (self.else_ is not None):
            raise ValueError("give {status and/or match, as: CLASS} or {else: CLASS}")
        return self


class Envelope(Strict):
    """What success looks like *in the body*; HTTP 200 alone proves nothing."""

    ok: Condition
    empty: Condition | None = None
    code: Path_ | None = None
    message: Path_ | None = None
    errors: list[ErrorRule] = []


# --- streams ----------------------------------------------------------------------------------


class Incremental(Strict):
    """Reading only what changed: `param` carries the watermark (start of the last complete read
    minus `overlap`), `until_param` the present."""

    param: str
    until_param: str | None = None
    format: str = "%Y-%m-%dT%H:%M:%S%z"
    zone: str = "UTC"
    overlap: Seconds = 0.0


class Detail(Strict):
    """A second call per row whose answer replaces the row (`{field}` names fields of the row)."""

    request: Request
    data: Path_


class Stream(Strict):
    """A kind of record the connector reads. `key` fields together identify one row.

    `defaults` stand in for fields that the vendor leaves out of rows where they are null.
    `deleted` tells the rows that say a record is gone; `masked` names fields that people should not
    read in a dead letter.
    """

    key: list[str] = Field(min_length=1)
    defaults: dict[str, str] = {}
    request: Request
    data: Path_
    page: Pager = NoPager()
    incremental: Incremental | None = None
    detail: Detail | None = None
    deleted: Condition | None = None
    masked: list[str] = []
    title: Title | None = None


# --- sinks ------------------------------------------------------------------------------------


class Receipts(Strict):
    """Where a batch answer holds one result per record; a missing result is an unknown outcome."""

    items: Path_
    key: Path_
    ok: Condition
    id: Path_ | None = None
    code: Path_ | None = None
    reason: Path_ | None = None
    errors: list[ErrorRule] = []


class Find(Strict):
    """Looking a record up by our key: of the rows at `data`, the one whose `match` equals it."""

    request: Request
    data: Path_
    match: Path_
    id: Path_


class Show(Strict):
    """Looking one record up by the target's id: the row at `data`, none when it is gone."""

    request: Request
    data: Path_


class Verify(Strict):
    """How the objects of a sink can be compared with what was written.

    `stream` lists them; `key` is the path of our key in its rows, `id` that of the target's id.
    `fields` names the path of a field of ours that stands elsewhere in a row, `ignore` those that
    cannot be read back. Rows for which `live` does not hold count as removed.
    """

    stream: str
    key: Path_
    id: Path_ | None = None
    fields: dict[str, Path_] = {}
    ignore: list[str] = []
    live: Condition | None = None


class Poll(Strict):
    """A queued write: while the answer has a value at `url`, wait and ask there for the result.

    Not finished after `tries` questions, the outcome is unknown.
    """

    url: Path_
    wait: Path_ | None = None
    every: Seconds = 3.0
    tries: int = Field(default=20, ge=1, le=1000)


class Sink(Strict):
    """A kind of record the connector writes.

    `batch` > 1 sends `{wrap: [records]}` and needs `receipts`; otherwise one call per record and
    `id` is the path of the target's id in the answer. In paths and bodies `{key}`,
    `{idempotency_key}` and `{target_id}` are filled; `@record`, `@records` stand for the data,
    which is also the body when none is declared. `key` is the field of the record that holds our
    key; it is added when the data lacks it. `update` replaces `request` for a known target id (in
    a batch sink for a record that goes alone). `show` gives the row of a `{target_id}`, in the
    form in which the stream of `verify` lists it; two-way flows need it.
    `masked` names fields that people should not read in a dead letter.
    """

    safety: Safety
    key: str
    request: Request
    batch: int = Field(default=1, ge=1, le=5000)
    receipts: Receipts | None = None
    id: Path_ | None = None
    update: Request | None = None
    poll: Poll | None = None
    delete: Request | None = None
    deactivate: Request | None = None
    find: Find | HookName | None = None
    show: Show | None = None
    verify: Verify | None = None
    visibility_lag: Seconds = 0.0
    idempotency_header: str = "Idempotency-Key"
    masked: list[str] = []
    title: Title | None = None

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.batch > 1 and self.receipts is None:
            raise ValueError("a batch sink needs `receipts`: one result per record")
        if self.safety is Safety.LOOK_UP and self.batch > 1:
            raise ValueError("a look_up sink writes one record per call")
        if self.safety is Safety.IDEMPOTENCY_KEY and self.batch > 1:
            raise ValueError("an idempotency_key sink writes one record per call")
        return self


class Limits(Strict):
    """What the account allows; shared by every flow and worker that uses it."""

    rate: PerSecond | None = None
    concurrent: int = Field(default=4, ge=1)
    deadline: Seconds = 60.0
    connect: Seconds = 10.0
    max_bytes: Bytes = 50_000_000
    tries: int = Field(default=5, ge=1, le=20)


class Common(Strict):
    """Parameters and headers of every business call (not of the login)."""

    params: dict[str, Any] = {}
    headers: dict[str, str] = {}


class Telemetry(Strict):
    """Plug-in code for telemetry, as `module.name` inside of the connector's package.

    `faces` is a `hub.sdk.telemetry.MakeFaces`, `decoders` a `Decoders` mapping.
    """

    faces: str = Field(pattern=r"^[a-z_][a-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$")
    decoders: str = Field(pattern=r"^[a-z_][a-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$")


def _config_field(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


class Manifest(Strict):
    """One connector as its `connector.yaml` declares it."""

    connector: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    contract: Literal[1]
    title: Title
    config: dict[str, Annotated[ConfigField, BeforeValidator(_config_field)]]
    base_url: str = "{base_url}"
    account: list[str] = ["base_url"]
    auth: Auth = NoAuth()
    limits: Limits = Limits()
    common: Common = Common()
    charset: str = "utf-8"
    media_types: list[str] = ["application/json"]
    envelope: Envelope | None
    streams: dict[str, Stream] = {}
    sinks: dict[str, Sink] = {}
    hook: Hook | None = None
    telemetry: Telemetry | None = None
    open: bool = False
    quality: dict[str, str | dict[str, str]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.envelope is None and not self.open:
            raise ValueError("`envelope` is mandatory: say what success looks like in the body")
        missing = [name for name in self.account if name not in self.config]
        if missing:
            raise ValueError(f"account names {missing[0]!r}, which is not in config")
        secrets = [name for name, field in self.config.items() if field.type == "secret"]
        for name in [] if self.hook is None else self.hook.secret_fields:
            if name not in secrets:
                raise ValueError(f"hook names {name!r}, which is not a secret in config")
        for name, sink in self.sinks.items():
            if sink.verify is not None and sink.verify.stream not in self.streams:
                stream = sink.verify.stream
                raise ValueError(f"sinks.{name}.verify names stream {stream!r}, which is not there")
        return self


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of the connector in `folder`. Raises ConfigError."""
    path = folder / "connector.yaml"
    return validate(Manifest, load_yaml(path), path)
