"""The writing side of the fake: trade ids, vouchers that are queued, results that are polled."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.u8.fake_data import Ledger, Row
from hub.sdk.testing import Request, Response
from hub.sdk.testing.server import Handler

if TYPE_CHECKING:
    from connectors.u8.fake import FakeU8


@dataclass(slots=True)
class _Job:
    """One add call. `left` polls until it is done; None: it never says so."""

    id: str
    trade: str
    left: int | None


class Writes:
    """`add` and `verify` of orders and customers. One voucher per trade id or business id."""

    def __init__(self, server: FakeU8) -> None:
        self._server = server
        self._jobs: dict[str, _Job] = {}
        self._trades: set[str] = set()
        self._polls: int | None = 0
        self.vouchers: Counter[str] = Counter()

    def register(self) -> None:
        """Add the routes to the server."""
        server = self._server
        server.route("GET", "/system/tradeid", self._trade_id)
        server.route("GET", "/result", self._result)
        for name in ("saleorder", "customer"):
            server.route("POST", f"/api/{name}/add", server.business(self._add(name)))
        for action in ("verify", "unverify"):
            path = f"/api/saleorder/{action}"
            server.route("POST", path, server.business(self._verify(action)))

    def queue(self, polls: int | None) -> None:
        """Answer later adds only after so many polls (0: at once, None: never)."""
        self._polls = polls

    def _trade_id(self, request: Request) -> Response:
        if (refusal := self._server.check_token(request)) is not None:
            return refusal
        trade = uuid.uuid4().hex
        self._trades.add(trade)
        return Response(json={"errcode": "0", "errmsg": "", "trade": {"id": trade}})

    def _add(self, name: str) -> Handler:
        def answer(request: Request) -> Response:
            trade, business = request.query.get("tradeid", ""), request.query.get("biz_id", "")
            if bool(trade) == bool(business):
                return _refused("60001", "tradeid与biz_id必须且只能传一个")
            if trade and trade not in self._trades:
                return _refused("60002", "tradeid无效")
            known = self._jobs.get(trade or business)
            if known is None:
                return self._create(name, trade or business, request)
            return self._told(known)

        return answer

    def _create(self, name: str, key: str, request: Request) -> Response:
        row: Row | None = (request.json() or {}).get(name)
        ledger = self._server.ledger(request)
        problem = _problem(name, row, ledger)
        if problem is not None or row is None:
            return _refused("70001", problem or "")
        table = ledger.orders if name == "saleorder" else ledger.customers
        code = str(row.get("code") or f"{len(table) + 1:010d}")
        if code in table:
            return _refused("70002", f"编码{code}重复")
        table[code] = {**row, "code": code}
        self._server.refresh()
        self.vouchers[key] += 1
        self._jobs[key] = _Job(code, uuid.uuid4().hex, self._polls)
        return self._told(self._jobs[key])

    def _told(self, job: _Job) -> Response:
        if job.left == 0:
            return Response(json={"errcode": "0", "errmsg": "", "id": job.id, "tradeid": job.trade})
        url = f"{self._server.url}/result?requestid={job.trade}"
        body = {"errcode": "0", "errmsg": "", "tradeid": job.trade, "url": url, "ping_after": 1}
        return Response(json=body)

    def _result(self, request: Request) -> Response:
        asked = request.query.get("requestid")
        job = next((job for job in self._jobs.values() if job.trade == asked), None)
        if job is None:
            return _refused("60003", "requestid不存在")
        if job.left:
            job.left -= 1
        return self._told(job)

    def _verify(self, action: str) -> Handler:
        def answer(request: Request) -> Response:
            code = str((request.json() or {}).get("saleorder", {}).get("voucher_code", ""))
            order = self._server.ledger(request).orders.get(code)
            if order is None:
                return _refused("70003", f"单据{code}不存在")
            if action == "verify":
                order.update(verifier="接口用户", state="审核")
            else:
                order.pop("verifier", None)
                order["state"] = "开立"
            self._server.refresh()
            return Response(json={"errcode": "0", "errmsg": "", "id": code})

        return answer


def _problem(name: str, row: Any, ledger: Ledger) -> str | None:
    if not isinstance(row, dict):
        return f"请求体缺少{name}"
    if name == "customer":
        return None if row.get("name") else "客户名称不能为空"
    if row.get("custcode") not in ledger.customers:
        return f"客户编码{row.get('custcode')}不存在"
    lines: list[Row] = row.get("entry") or []
    if not lines:
        return "表体不能为空"
    codes = [line.get("inventorycode") for line in lines]
    unknown = [code for code in codes if code not in ledger.materials]
    return f"存货编码{unknown[0]}不存在" if unknown else None


def _refused(code: str, message: str) -> Response:
    return Response(json={"errcode": code, "errmsg": message})
