"""The program somebody would write for this one job: httpx, json, sqlite3 and nothing kept beside.

It reads the same pages, computes the same 19 typed fields and upserts them into one table, one
transaction per page. No ledger, no resume, no dead letters: `python -m bench.handwritten`.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from bench.machine import peak_mb
from bench.outcome import FIELDS, Outcome, digest

SHANGHAI = ZoneInfo("Asia/Shanghai")
CENT, TEN_THOUSANDTH = Decimal("0.01"), Decimal("0.0001")
SIZES = {
    "1-50人": 1,
    "51-200人": 2,
    "201-500人": 3,
    "501-1000人": 4,
    "1001-5000人": 5,
    "5000人以上": 6,
}
FLAGS = {"0": 0, "1": 1}


def utc(text: str) -> str:
    """Shanghai local time as UTC text."""
    local = datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)
    return local.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def exact(value: Any, places: Decimal) -> str:
    return str(Decimal(value).quantize(places, ROUND_HALF_UP))


def phone(text: str) -> str:
    digits = text.replace("-", "").replace(" ", "")
    if len(digits) != 11 or not digits.isdigit():
        raise ValueError(f"not a mobile number: {text}")
    return "+86" + digits


def mapped(row: dict[str, Any]) -> tuple[Any, ...]:
    """The 19 columns of one record, in the order of FIELDS."""
    code, name = row["code"].strip(), row["name"].strip()
    if not code:
        raise ValueError("code is empty")
    quantity = int(row["quantity"])
    done = row["status"] == "已审核" and row["closed"] == "1"
    return (
        code,
        name,
        row["short_name"],
        row["spec"],
        row["unit"],
        exact(row["amount"], CENT),
        exact(row["price"], TEN_THOUSANDTH),
        exact(row["tax_rate"], CENT),
        quantity,
        date.fromisoformat(row["order_date"]).isoformat(),
        utc(row["created"]),
        utc(row["modified"]),
        FLAGS[row["closed"]],
        FLAGS[row["urgent"]],
        SIZES[row["company_size"].strip()],
        "done" if done else "open",
        phone(row["phone"]),
        row["district"] or row["city"],
        f"{name} {row['spec']} × {quantity}{row['unit']}",
    )


def open_table(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    columns = ", ".join(FIELDS[1:])
    database.execute(f"CREATE TABLE IF NOT EXISTS item (code TEXT PRIMARY KEY, {columns})")
    return database


def upsert_statement() -> str:
    values = ", ".join("?" * len(FIELDS))
    changes = ", ".join(f"{name}=excluded.{name}" for name in FIELDS[1:])
    columns = ", ".join(FIELDS)
    return (
        f"INSERT INTO item ({columns}) VALUES ({values}) "  # noqa: S608 (our own column names)
        f"ON CONFLICT(code) DO UPDATE SET {changes}"
    )


def sync(client: httpx.Client, database: sqlite3.Connection) -> int:
    """Read every page and upsert it; the number of records read."""
    upsert, read, page = upsert_statement(), 0, 1
    while True:
        answer = client.get("/items", params={"page": page, "size": 1000})
        answer.raise_for_status()
        body = json.loads(answer.content, parse_float=Decimal)
        if body["code"] != 0:
            raise RuntimeError(f"the source answered {body['code']}")
        rows = [mapped(row) for row in body["items"]]
        database.execute("BEGIN")
        database.executemany(upsert, rows)
        database.execute("COMMIT")
        read, page = read + len(rows), page + 1
        if not rows or read >= body["total"]:
            return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--db", type=Path, required=True)
    options = parser.parse_args()
    started = time.perf_counter()
    database = open_table(options.db)
    with httpx.Client(base_url=options.url, timeout=30) as client:
        startup_cpu, startup_wall = time.process_time(), time.perf_counter() - started
        cpu, wall = time.process_time(), time.perf_counter()
        records = sync(client, database)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = peak_mb()
    database.row_factory = sqlite3.Row
    stored = [dict(row) for row in database.execute("SELECT * FROM item")]
    database.close()
    Outcome(
        side="hand-written",
        records=records,
        cpu_seconds=cpu,
        wall_seconds=wall,
        startup_cpu_seconds=startup_cpu,
        startup_wall_seconds=startup_wall,
        peak_mb=peak,
        rows=len(stored),
        written=None,
        digest=digest(stored),
    ).report()


if __name__ == "__main__":
    main()
