"""Two sources: a generic REST shop and a U8, each behind a fault proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.fault_cases.stage import Stage
from connectors.u8.fake import FakeU8, Sizes
from hub.sdk.testing import FakeServer, FaultProxy, Request, Response

ROWS = 450
_PAGE = 100


class Shop(FakeServer):
    """450 rows in pages of 100: by number with a total, without one, or by cursor."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = [{"id": f"S{n:04d}", "name": f"轴承 {n}"} for n in range(ROWS)]
        self.drifted = False
        self._drift: tuple[str, int] | None = None
        for path in ("/items", "/countless"):
            self.route("GET", path, self._page)
        self.route("GET", "/marked", self._marked)

    def drift(self, kind: str, after_page: int) -> None:
        """After that page was served, a row appears in front or the first one vanishes."""
        self._drift = (kind, after_page)

    def _page(self, request: Request) -> Response:
        page, size = int(request.query["page"]), int(request.query["size"])
        rows = self.rows[(page - 1) * size : page * size]
        body: dict[str, Any] = {"code": 0, "rows": rows}
        if request.path == "/items":
            body["total"] = len(self.rows)
        if self._drift is not None and self._drift[1] == page:
            self._move(self._drift[0])
        return Response(json=body)

    def _move(self, kind: str) -> None:
        self._drift, self.drifted = None, True
        if kind == "insert":
            self.rows = [{"id": "S-NEW", "name": "新"}, *self.rows]
        else:
            self.rows = self.rows[1:]

    def _marked(self, request: Request) -> Response:
        start = int(request.query.get("cursor", "c0")[1:])
        end = start + int(request.query["size"])
        onward = f"c{end}" if end < len(self.rows) else None
        return Response(json={"code": 0, "rows": self.rows[start:end], "next": onward})


@dataclass(frozen=True, slots=True)
class Origin:
    """A source under trial: orders go to `proxy` (the wire) or to `fake` (the vendor's words)."""

    fake: Any
    proxy: FaultProxy
    path: str
    list_at: str
    rows: Callable[[], dict[str, str]]

    @property
    def tries(self) -> int:
        return self.proxy.count(self.path)

    @property
    def misbehaved(self) -> bool:
        return self.fake.misbehaved + self.proxy.misbehaved > 0

    def behave(self) -> None:
        """From now on everything is as it should be."""
        self.fake.behave()
        self.proxy.behave()


@contextmanager
def shop(stage: Stage, stream: str = "items") -> Iterator[Origin]:
    """The shop, connected as `source`, with a flow `read`."""
    pages: dict[str, Any] = {"kind": "number", "size_param": "size", "size": _PAGE}
    kinds = {
        "items": {**pages, "total": "total"},
        "countless": pages,
        "marked": {"kind": "cursor", "next": "next", "size_param": "size", "size": _PAGE},
    }
    with Shop() as fake, FaultProxy(fake.url) as proxy:
        declared = {"key": ["id"], "request": {"get": f"/{stream}"}, "data": "rows"}
        stage.connect(
            "source",
            "rest",
            {"base_url": proxy.url},
            envelope={"ok": {"path": "code", "in": [0]}, "errors": [{"else": "reject"}]},
            streams={"items": {**declared, "page": kinds[stream]}},
        )
        _flow(stage, "items", "id")
        yield Origin(
            fake, proxy, f"/{stream}", "rows", lambda: {row["id"]: row["name"] for row in fake.rows}
        )


@contextmanager
def u8(stage: Stage) -> Iterator[Origin]:
    """The customers of a U8, connected as `source`, with a flow `read`."""
    sizes = Sizes(materials=5, stock=5, customers=ROWS, orders=2)
    with FakeU8(sizes=sizes) as fake, FaultProxy(fake.url) as proxy:
        config = {**fake.config(), "base_url": proxy.url}
        stage.connect("source", "u8", config, secrets=["app_secret"])
        _flow(stage, "customer", "code")
        path = "/api/customer/batch_get"
        yield Origin(
            fake,
            proxy,
            path,
            "customer",
            lambda: {
                code: row["name"].strip() for code, row in fake.ledgers["1"].customers.items()
            },
        )


def _flow(stage: Stage, stream: str, key: str) -> None:
    fields = {"code": f"{key} | trim | required", "name": "name | trim | required"}
    stage.flow("read", f"source.{stream}", "crm.customer", key=["code"], fields=fields)
