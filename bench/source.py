"""A local system with pages of order lines, as its own process: `python -m bench.source`.

Pages are made and encoded before the first request, so serving one costs next to nothing. It
prints its port on one line when ready and ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE_SIZE = 1000

_CITIES = ["杭州", "苏州", "无锡", "宁波", "常州", "嘉兴", "上海", "南京", "合肥", "温州"]
_WORDS = [
    "华盛",
    "鼎力",
    "恒通",
    "明远",
    "瑞丰",
    "天工",
    "东升",
    "正泰",
    "宏达",
    "安信",
    "博远",
    "金石",
]
_TRADES = ["精密机械", "自动化设备", "电子科技", "新材料", "汽车零部件", "模具", "仪器仪表", "包装"]
_SPECS = ["M8×40", "Φ20H7", "DN50", "1.5kW-380V", "304不锈钢", "6061-T6", "A3/Q235", "200×300×2.0"]
_UNITS = ["个", "台", "套", "千克", "米", "箱"]
_SIZES = ["1-50人", "51-200人", "201-500人", "501-1000人", "1001-5000人", "5000人以上"]
_STATUSES = ["已审核", "未审核", "已关闭"]
_DISTRICTS = ["萧山区", "工业园区", "新吴区", "北仑区"]
_FIRST_DAY = datetime(2024, 1, 1, 8)  # noqa: DTZ001 (local text, as such systems send it)


def record(number: int, pick: random.Random) -> dict[str, Any]:
    """One order line as an ERP sends it: 19 fields, numbers as numbers and as text."""
    created = _FIRST_DAY + timedelta(seconds=pick.randrange(60_000_000))
    modified = created + timedelta(seconds=pick.randrange(3_000_000))
    city, word = pick.choice(_CITIES), pick.choice(_WORDS)
    name = f"{city}{word}{pick.choice(_TRADES)}有限公司"
    mobile = f"1{pick.choice('3589')}{pick.randrange(10**9):09d}"
    return {
        "code": f"SO{number:08d}",
        "name": name + (" " if number % 20 == 0 else ""),
        "short_name": word if number % 7 else None,
        "spec": pick.choice(_SPECS),
        "unit": pick.choice(_UNITS),
        "amount": pick.randrange(1, 100_000_000) / 100,
        "price": f"{pick.randrange(1, 10_000_000) / 10_000:.4f}",
        "tax_rate": pick.choice(("13", "9.00", "6.0")),
        "quantity": pick.randrange(1, 5000),
        "order_date": created.strftime("%Y-%m-%d"),
        "created": created.strftime("%Y-%m-%d %H:%M:%S"),
        "modified": modified.strftime("%Y-%m-%d %H:%M:%S"),
        "closed": pick.choice("01"),
        "urgent": pick.choice("01"),
        "company_size": pick.choice(_SIZES),
        "status": pick.choice(_STATUSES),
        "phone": mobile if number % 10 else f"{mobile[:3]}-{mobile[3:7]}-{mobile[7:]}",
        "city": city,
        "district": pick.choice(_DISTRICTS) if number % 3 else None,
    }


def pages(count: int) -> list[bytes]:
    """`count` records in encoded pages; the same for every call."""
    pick = random.Random(20_260_101)
    bodies = []
    for start in range(0, count, PAGE_SIZE):
        items = [record(n, pick) for n in range(start, min(start + PAGE_SIZE, count))]
        bodies.append(_body(count, items))
    return bodies


def _body(total: int, items: list[dict[str, Any]]) -> bytes:
    document = {"code": 0, "total": total, "items": items}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def handler_for(bodies: list[bytes], empty: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            page = int(query["page"][0])
            body = bodies[page - 1] if 1 <= page <= len(bodies) else empty
            self.send_response(200)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a line per request would be work of its own."""

    return Handler


def serve(count: int) -> None:
    """Serve on a free loopback port until standard input closes."""
    bodies = pages(count)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(bodies, _body(count, [])))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    serve(parser.parse_args().records)
