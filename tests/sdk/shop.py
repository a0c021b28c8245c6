"""A vendor that pages its rows in every way, and the declarations that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.sdk.records import Page
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Request, Response

NUMBER = {"kind": "number", "size_param": "size", "size": 3, "total": "total"}
COUNTLESS = {"kind": "number", "size_param": "size", "size": 3}
PAGED = {"kind": "number", "size_param": "size", "size": 3, "pages": "pages", "echo": "page"}
OFFSET = {"kind": "offset", "size": 3, "total": "total"}
OFFSET_COUNTLESS = {"kind": "offset", "size": 3}
CURSOR = {"kind": "cursor", "next": "next", "size_param": "limit", "size": 3}
MORE = {"kind": "cursor", "next": "next", "more": "more", "size_param": "limit", "size": 3}
LINK = {"kind": "link", "size_param": "limit", "size": 3, "total_header": "X-Total"}
BODY_LINK = {"kind": "link", "next": "next_url", "size_param": "limit", "size": 3, "total": "total"}
LAST_ROW = {
    "kind": "cursor",
    "param": "above",
    "next": "rows.-1.id",
    "size_param": "limit",
    "size": 3,
}
HEADER_TOTAL = {"kind": "number", "size_param": "size", "size": 3, "total_header": "X-Total"}
NONE = {"kind": "none", "total": "total"}
KINDS: dict[str, dict[str, Any]] = {
    "number": NUMBER,
    "number without total": COUNTLESS,
    "number with pages": PAGED,
    "offset": OFFSET,
    "offset without total": OFFSET_COUNTLESS,
    "cursor": CURSOR,
    "cursor with more": MORE,
    "cursor of the last row": LAST_ROW,
    "link": LINK,
    "link in the body": BODY_LINK,
    "number with the total in a header": HEADER_TOTAL,
    "none": NONE,
}


class Shop:
    """A vendor that pages its rows in every way; a page may hold fewer rows than asked for."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.rows: list[dict[str, Any]] = [{"id": n} for n in range(7)]
        self.cap = 1000
        fake.route("GET", "/items", self.items)

    def items(self, request: Request) -> Response:
        ask = request.query
        rows = self._between(ask.get("from"), ask.get("to"))
        size = min(int(ask.get("size") or ask.get("limit") or 1000), self.cap)
        start = int(ask["offset"]) if "offset" in ask else (int(ask.get("page", 1)) - 1) * size
        start = int(ask["cursor"].removeprefix("c")) if "cursor" in ask else start
        start = int(ask["after"]) if "after" in ask else start
        start = next(
            (n + 1 for n, row in enumerate(rows) if str(row.get("id")) == ask.get("above")), start
        )
        end = start + size
        more = end < len(rows)
        body = {
            "code": 0,
            "rows": rows[start:end],
            "total": str(len(rows)),
            "pages": -(-len(rows) // size),
            "page": ask.get("page"),
            "next": f"c{end}" if more else "",
            "more": more,
        }
        headers = {"X-Total": str(len(rows))}
        link = f"/items?after={end}&limit={size}"
        body["next_url"] = self.fake.url + link if more else None
        if more:
            headers["Link"] = f'<{link}>; rel="next", </items>; rel="first"'
        return Response(json=body, headers=headers)

    def _between(self, start: str | None, end: str | None) -> list[dict[str, Any]]:
        if start is None or end is None:
            return self.rows
        return [row for row in self.rows if start <= row["at"] < end]


def stream(page: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    items = {"key": ["id"], "request": {"get": "/items"}, "data": "rows", "page": page, **more}
    return {"items": items}


def read_all(session: Session, cursor: Any = None, since: Any = None) -> list[Page]:
    return list(session.stream("items").read(cursor, since))


def ids(pages: list[Page]) -> list[int]:
    return [row["id"] for page in pages for row in page.rows]
