"""A loopback U8 OpenAPI: `python -m connectors.u8.fake --port 0 --records 2000`.

Error numbers other than 0 and 20002 are inventions: the vendor's catalogue is not public, and the
connector must not depend on it.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from connectors.u8.fake_data import Ledger, Row, Sizes, make_ledger, stock_key
from connectors.u8.fake_writes import Writes
from hub.sdk.clock import Clock, SystemClock
from hub.sdk.testing import FakeServer, Request, Response, serve
from hub.sdk.testing.alterations import put, replace_body
from hub.sdk.testing.faults import Alteration
from hub.sdk.testing.server import Handler

TOKEN_LIFE = 7200.0
PAGE_CAP = 500
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_ACCOUNTS = {"from_account": "fake_developer", "app_key": "opa_fake"}
_SECRET = "fake-secret"  # noqa: S105 (what the fake accepts)
_TO_ACCOUNT = "test_enterprise"


@dataclass(frozen=True, slots=True)
class Resource:
    """One list: its payload name, where its rows are, and what its parameters compare with."""

    name: str
    rows: Callable[[Ledger], list[Row]]
    filters: Mapping[str, tuple[str, str]]


def _between(name: str, field: str) -> dict[str, tuple[str, str]]:
    return {f"{name}_begin": (field, ">="), f"{name}_end": (field, "<=")}


def _headers(ledger: Ledger) -> list[Row]:
    return [{k: v for k, v in order.items() if k != "entry"} for order in ledger.orders.values()]


RESOURCES = {
    "inventory": Resource(
        "inventory",
        lambda ledger: list(ledger.materials.values()),
        {**_between("code", "code"), **_between("modifydate", "ModifyDate"), "name": ("name", "~")},
    ),
    "currentstock": Resource(
        "currentstock",
        lambda ledger: list(ledger.stock.values()),
        {**_between("whcode", "whcode"), **_between("invcode", "invcode"), "batch": ("batch", "=")},
    ),
    "customer": Resource(
        "customer",
        lambda ledger: list(ledger.customers.values()),
        {**_between("code", "code"), "name": ("name", "~")},
    ),
    "warehouse": Resource(
        "warehouse",
        lambda ledger: list(ledger.warehouses.values()),
        {},
    ),
    "saleorderlist": Resource(
        "saleorderlist",
        _headers,
        {**_between("code", "code"), **_between("date", "date"), "custcode": ("custcode", "=")},
    ),
}
_STATES = {"Opening": "开立", "Approved": "审核", "Changing": "变更"}


class FakeU8(FakeServer):
    """The relay with two ledgers: data source 1 has `sizes` records, data source 2 a few others."""

    def __init__(
        self,
        *,
        port: int = 0,
        sizes: Sizes | None = None,
        seed: int = 1,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(port)
        self.clock = clock or SystemClock()
        self.ledgers = {
            "1": make_ledger(seed, sizes or Sizes()),
            "2": make_ledger(seed + 1, Sizes(5, 8, 3, 2)),
        }
        self.one_token = False  # a new token ends the older ones
        self.writes = Writes(self)
        self._tokens: dict[str, float] = {}
        self._logins = 0
        self._offline_until = float("-inf")
        self._drifts: list[tuple[str, str, int]] = []
        self._views: dict[tuple[Any, ...], list[Row]] = {}
        self._register()

    def _register(self) -> None:
        self.route("GET", "/system/token", self._login)
        for name in RESOURCES:
            self.route("GET", f"/api/{name}/batch_get", self.business(self._list(name)))
        self.route("GET", "/api/saleorder/get", self.business(self._get("saleorder")))
        self.route("GET", "/api/customer/get", self.business(self._get("customer")))
        self.route("GET", "/api/orderstatus/get", self.business(_order_status))
        self.writes.register()
        for command in (self.expire_tokens, self.offline, self.drift, self.change, self.remove):
            self.commands[command.__name__] = command
        self.commands["queue"] = self.writes.queue
        self.alterations |= {
            "throttle": lambda: replace_body(_refusal("50010", "调用频率超限，请稍后再试")),
            "expired_token": lambda: replace_body(_refusal("30003", "token已过期")),
            "not_authorised": lambda: replace_body(_refusal("30010", "应用未授权")),
            "agent_offline": lambda: replace_body(_refusal("40001", "U8客户端未登录")),
            "wrong_total": _wrong_total,
            "wrong_page": lambda: put("page_index", "1"),
            "empty_page": lambda: _empty_page,
        }

    def config(self) -> dict[str, Any]:
        """Settings of a connection to the first ledger."""
        return {
            "base_url": self.url,
            **_ACCOUNTS,
            "to_account": _TO_ACCOUNT,
            "app_secret": _SECRET,
            "ds_sequence": 1,
        }

    def state(self) -> dict[str, Any]:
        """Counts per ledger, logins, and how often each business id made a voucher."""
        ledgers = {
            number: {
                "materials": len(ledger.materials),
                "stock": len(ledger.stock),
                "customers": len(ledger.customers),
                "orders": len(ledger.orders),
            }
            for number, ledger in self.ledgers.items()
        }
        return {"ledgers": ledgers, "logins": self._logins, "vouchers": dict(self.writes.vouchers)}

    # --- what a test or demo may ask for ------------------------------------------------------

    def expire_tokens(self) -> None:
        """Refuse every token issued so far."""
        with self.lock:
            self._tokens.clear()

    def offline(self, seconds: float) -> None:
        """The agent at the customer's site is away."""
        with self.lock:
            self._offline_until = self.clock.monotonic() + seconds

    def drift(self, resource: str, kind: str = "insert", after_page: int = 1) -> None:
        """After that page was served, a row appears or vanishes in front of it."""
        if resource not in RESOURCES or kind not in ("insert", "delete"):
            raise ValueError(f"no drift {kind!r} of {resource!r}")
        with self.lock:
            self._drifts.append((resource, kind, after_page))

    def change(self, resource: str, count: int = 1, ledger: str = "1") -> list[str]:
        """Somebody edits the first `count` records now; their keys are returned."""
        now = self.clock.now().astimezone(_SHANGHAI).strftime("%Y-%m-%d %H:%M:%S.000")
        with self.lock:
            books = self.ledgers[ledger]
            if resource == "currentstock":
                for row in list(books.stock.values())[:count]:
                    row["qty"] = _more(row["qty"])
                keys = ["/".join(key) for key in list(books.stock)[:count]]
            elif resource == "saleorderlist":
                for order in list(books.orders.values())[:count]:
                    order.update(verifier=order.get("verifier", "接口用户"), fhstatus="2")
                keys = list(books.orders)[:count]
            else:
                table = {"inventory": books.materials, "customer": books.customers}[resource]
                for row in list(table.values())[:count]:
                    row.update(name=f"{row['name']}*", ModifyDate=now)
                keys = list(table)[:count]
            self.refresh()
        return keys

    def remove(self, resource: str, count: int = 1, ledger: str = "1") -> None:
        """The first `count` records are deleted."""
        with self.lock:
            for _ in range(count):
                _delete_first(self.ledgers[ledger], resource)
            self.refresh()

    def refresh(self) -> None:
        """Forget prepared answers: the data changed."""
        self._views.clear()

    # --- tokens -------------------------------------------------------------------------------

    def _login(self, request: Request) -> Response:
        if any(request.query.get(name) != value for name, value in _ACCOUNTS.items()):
            return refused("10001", "from_account或app_key不存在")
        if request.query.get("app_secret") != _SECRET:
            return refused("10002", "app_secret错误")
        if self.one_token:
            self._tokens.clear()
        token = uuid.uuid4().hex
        self._tokens[token] = self.clock.monotonic() + TOKEN_LIFE
        self._logins += 1
        content = {"id": token, "expires_in": int(TOKEN_LIFE), "appkey": _ACCOUNTS["app_key"]}
        return Response(json={"errcode": "0", "errmsg": "", "token": content})

    def check_token(self, request: Request) -> Response | None:
        """The refusal when the token is missing, unknown or too old."""
        until = self._tokens.get(request.query.get("token", ""))
        if until is None:
            return refused("30001", "token无效")
        if self.clock.monotonic() >= until:
            return refused("30003", "token已过期")
        return None

    def business(self, handler: Handler) -> Handler:
        """`handler` behind the checks of every business call."""

        def checked(request: Request) -> Response:
            refusal = self._refusal(request)
            return refusal if refusal is not None else handler(request)

        return checked

    def _refusal(self, request: Request) -> Response | None:
        query = request.query
        if any(query.get(name) != value for name, value in _ACCOUNTS.items()):
            return refused("10001", "from_account或app_key不存在")
        if (refusal := self.check_token(request)) is not None:
            return refusal
        if query.get("to_account") != _TO_ACCOUNT:
            return refused("10005", "to_account不存在或应用未授权")
        if query.get("ds_sequence", "1") not in self.ledgers:
            return refused("10006", f"数据源{query['ds_sequence']}不存在")
        if self.clock.monotonic() < self._offline_until:
            return refused("40001", "U8客户端未登录或不在线")
        return None

    def ledger(self, request: Request) -> Ledger:
        """The ledger a call is about; without a number it is the first one."""
        return self.ledgers[request.query.get("ds_sequence", "1")]

    # --- reading ------------------------------------------------------------------------------

    def _list(self, name: str) -> Handler:
        return lambda request: self._page(RESOURCES[name], request)

    def _page(self, resource: Resource, request: Request) -> Response:
        index = _number(request.query.get("page_index"), 1)
        size = min(_number(request.query.get("rows_per_page"), 20), PAGE_CAP)
        rows = self._view(resource, request)
        part = rows[(index - 1) * size : index * size]
        self._apply_drifts(resource.name, index, request)
        if not part:
            return refused("20002", "没有查询到数据")
        return Response(
            json={
                "errcode": "0",
                "errmsg": "",
                "page_index": str(index),
                "rows_per_page": str(size),
                "row_count": str(len(rows)),
                "page_count": str(-(-len(rows) // size)),
                resource.name: part,
            }
        )

    def _view(self, resource: Resource, request: Request) -> list[Row]:
        """The filtered rows, prepared once per question."""
        asked = {n: v for n, v in request.query.items() if n in resource.filters and v != ""}
        state = _STATES.get(request.query.get("state", ""))
        key = (request.query.get("ds_sequence", "1"), resource.name, state, *sorted(asked.items()))
        if key not in self._views:
            tests = [(*resource.filters[name], value) for name, value in asked.items()]
            self._views[key] = [
                row
                for row in resource.rows(self.ledger(request))
                if all(_passes(row, *test) for test in tests) and state in (None, row.get("state"))
            ]
        return self._views[key]

    def _apply_drifts(self, resource: str, page: int, request: Request) -> None:
        for drift in [d for d in self._drifts if d[0] == resource and d[2] == page]:
            self._drifts.remove(drift)
            move = _insert_first if drift[1] == "insert" else _delete_first
            move(self.ledger(request), resource)
            self.refresh()

    def _get(self, name: str) -> Handler:
        def answer(request: Request) -> Response:
            ledger = self.ledger(request)
            table = ledger.orders if name == "saleorder" else ledger.customers
            row = table.get(request.query.get("id", ""))
            if row is None:
                return refused("20002", "没有查询到数据")
            return Response(json={"errcode": "0", "errmsg": "", name: row})

        return answer


def refused(code: str, message: str) -> Response:
    """How U8 says no: HTTP 200 with an error number in the body."""
    return Response(json=_refusal(code, message))


def _refusal(code: str, message: str) -> Row:
    return {"errcode": code, "errmsg": message}


def _order_status(request: Request) -> Response:
    status = {"version": "V16.0", "status": "1", "expiration_time": "2030-12-31 00:00:00"}
    return Response(json={"errcode": "0", "errmsg": "", "orderstatus": status})


def _wrong_total(by: int = 1) -> Alteration:
    def change(body: Any, request: Request) -> Any:
        if "row_count" not in body:
            return body
        return {**body, "row_count": str(int(body["row_count"]) + by)}

    return change


def _empty_page(body: Any, request: Request) -> Any:
    name = request.path.split("/")[2]
    return {**body, name: []} if name in body else body


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and int(text) > 0 else default


def _passes(row: Row, field: str, comparison: str, wanted: str) -> bool:
    if field not in row:
        return False  # null compares with nothing, as in the database behind it
    value = str(row[field])
    if comparison == "~":
        return wanted in value
    if comparison == "=":
        return value == wanted
    # Times are compared by day: U8's filters are dates, both ends included.
    value = value[: len(wanted)] if field == "ModifyDate" else value
    return value >= wanted if comparison == ">=" else value <= wanted


def _more(quantity: Any) -> Any:
    more = Decimal(str(quantity)) + 1
    return f"{more:.6f}" if isinstance(quantity, str) else more


def _insert_first(ledger: Ledger, resource: str) -> None:
    number = uuid.uuid4().hex[:6].upper()
    if resource == "currentstock":
        first = {**next(iter(ledger.stock.values())), "batch": f"NEW{number}"}
        ledger.stock = {stock_key(first): first, **ledger.stock}
        return
    name = {"inventory": "materials", "customer": "customers"}.get(resource, "orders")
    table: dict[str, Row] = getattr(ledger, name)
    first = {**next(iter(table.values())), "code": f"0{number}"}
    setattr(ledger, name, {first["code"]: first, **table})


def _delete_first(ledger: Ledger, resource: str) -> None:
    names = {"inventory": "materials", "customer": "customers", "currentstock": "stock"}
    table: dict[Any, Row] = getattr(ledger, names.get(resource, "orders"))
    if table:
        del table[next(iter(table))]


def fake(port: int = 0, records: int | None = None) -> FakeU8:
    """A fake with about `records` rows of each kind in the first ledger."""
    if records is None:
        return FakeU8(port=port)
    return FakeU8(port=port, sizes=Sizes(records, records, records, max(records // 10, 1)))


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m connectors.u8.fake", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=200, help="rows of each kind")
    for kind in ("materials", "stock", "customers", "orders"):
        parser.add_argument(f"--{kind}", type=int, help=f"{kind} (default: from --records)")
    given = parser.parse_args()
    every = given.records
    default = {
        "materials": every,
        "stock": every,
        "customers": every,
        "orders": max(every // 10, 1),
    }
    sizes = {n: d if getattr(given, n) is None else getattr(given, n) for n, d in default.items()}
    serve(FakeU8(port=given.port, sizes=Sizes(**sizes), seed=given.seed))


if __name__ == "__main__":
    main()
