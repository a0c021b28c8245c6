"""The body of a webhook event: decoding it, and the records in it."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from hub.sdk.body import MISSING, decode, dig
from hub.sdk.envelope import holds
from hub.sdk.errors import ContractBroken
from hub.sdk.manifest_hooks import Event
from hub.sdk.records import Row

MAX_ROWS = 10_000
"""Records in one event."""

_FORM = "application/x-www-form-urlencoded"
_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "gbk", "gb2312", "gb18030", "big5", "iso-8859-1"}
_MAX_FIELDS = 1000
_LONGEST_TYPE = 120


@dataclass(frozen=True, slots=True)
class EventRows:
    """The records of one event, and the items that are none, each with the reason."""

    rows: list[Row]
    problems: list[tuple[Any, ContractBroken]]


def decode_event(body: bytes, media_type: str, where: str) -> Any:
    """The decoded JSON, or the fields of a form. Raises ContractBroken."""
    kind, charset = _kind_and_charset(media_type)
    if charset not in _CHARSETS:
        raise ContractBroken("hook.charset", where=where, charset=charset)
    charset = "utf-8" if charset in ("utf8", "us-ascii", "ascii") else charset
    if kind == _FORM:
        return _form(body, charset, where)
    return decode(body, charset, where)


def storable_type(media_type: str) -> str:
    """A media type that decodes the body alike, and that every database takes."""
    if media_type.isascii() and media_type.isprintable() and len(media_type) <= _LONGEST_TYPE:
        return media_type
    kind, charset = _kind_and_charset(media_type)
    return f"{_FORM if kind == _FORM else 'application/json'}; charset={charset}"


def rows_of(event: Event, body: Any) -> EventRows:
    """The records of `event` in a decoded body: none when the body is of another kind."""
    if event.match is not None and not holds(event.match, body):
        return EventRows([], [])
    found = dig(body, event.data)
    if isinstance(found, dict):
        return EventRows([found], [])
    if not isinstance(found, list):
        shown = "nothing" if found is MISSING else type(found).__name__
        return EventRows([], [(body, ContractBroken("hook.no_data", path=event.data, found=shown))])
    if len(found) > MAX_ROWS:
        error = ContractBroken("hook.too_many_rows", rows=len(found), limit=MAX_ROWS)
        return EventRows([], [({"rows": len(found)}, error)])
    wrong = [
        (item, ContractBroken("hook.not_an_object", path=event.data, found=type(item).__name__))
        for item in found
        if not isinstance(item, dict)
    ]
    return EventRows([item for item in found if isinstance(item, dict)], wrong)


def _kind_and_charset(media_type: str) -> tuple[str, str]:
    if ";" not in media_type:
        return media_type.strip().lower(), "utf-8"
    message = Message()
    message["content-type"] = " ".join(media_type.split())
    declared = message.get_param("charset")
    charset = message.get_content_charset("no text") if declared else "utf-8"
    return message.get_content_type(), charset.lower()


def _form(body: bytes, charset: str, where: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding=charset,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except UnicodeError as error:
        raise ContractBroken(
            "http.undecodable", where=where, charset=charset, offset="?"
        ) from error
    except ValueError as error:
        raise ContractBroken("hook.form", where=where, limit=_MAX_FIELDS) from error
    return dict(pairs)
