"""The ways of paging a manifest may declare."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Path_, Seconds, seconds_of


class NoPager(Strict):
    kind: Literal["none"] = "none"
    total: Path_ | None = None


class NumberPager(Strict):
    """`page=1,2,…`. `pages` is the page count, `echo` the page number in the answer.

    The total stands in the body (`total`) or in a header (`total_header`).
    """

    kind: Literal["number"]
    param: str = "page"
    start: int = 1
    size_param: str | None = None
    size: int = Field(default=100, gt=0)
    total: Path_ | None = None
    total_header: str | None = None
    pages: Path_ | None = None
    echo: Path_ | None = None


class OffsetPager(Strict):
    """`offset=0,100,…` counted in rows."""

    kind: Literal["offset"]
    param: str = "offset"
    size_param: str | None = "limit"
    size: int = Field(default=100, gt=0)
    total: Path_ | None = None
    total_header: str | None = None


class CursorPager(Strict):
    """The answer names the next page. `more` (a boolean) may say whether there is one."""

    kind: Literal["cursor"]
    param: str = "cursor"
    next: Path_
    more: Path_ | None = None
    size_param: str | None = None
    size: int = Field(default=100, gt=0)
    total: Path_ | None = None
    allow_empty: bool = False


class LinkPager(Strict):
    """The answer gives the address of the next page: RFC 8288 `Link: <…>; rel="next"`, or a field
    of the body (`next`). Only approved hosts are followed."""

    kind: Literal["link"]
    rel: str = "next"
    next: Path_ | None = None
    size_param: str | None = None
    size: int = Field(default=100, gt=0)
    total: Path_ | None = None
    total_header: str | None = None


class WindowPager(Strict):
    """Time windows of `step` from `start` (or the watermark) to now; each is read to its end.

    `start` is an ISO date or time, or a span before now (`30d`). Both ends of a window are sent,
    written by `format` (strftime, `unix` or `unix_ms`) in `zone`.
    """

    kind: Literal["window"]
    from_param: str
    to_param: str
    step: Seconds
    start: str
    format: str = "%Y-%m-%dT%H:%M:%S%z"
    zone: str = "UTC"
    inner: NoPager | NumberPager | OffsetPager | CursorPager = Field(
        default=NoPager(), discriminator="kind"
    )

    @field_validator("start")
    @classmethod
    def _a_start(cls, text: str) -> str:
        try:
            if seconds_of(text) is None:
                datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("write an ISO date or time, or a span such as 30d") from None
        return text


Pager = Annotated[
    NoPager | NumberPager | OffsetPager | CursorPager | LinkPager | WindowPager,
    Field(discriminator="kind"),
]
