"""Compiled mapping against a hand-written function that gives the identical record.

    python3 dev.py bench mapping [--rows N] [--rounds N] [--json]

Rounds are interleaved; each round times both over the same rows, and the median of the per-round
ratios is the result.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench import machine
from hub.mapping import Library, load_mapping

ROOT = Path(__file__).resolve().parent.parent
TARGET = 1.3
SPEC: dict[str, Any] = {
    "key": ["code"],
    "fields": {
        "code": "invcode | trim | required",
        "name": "invname",
        "warehouse": "whcode",
        "on_hand": {"from": "qty", "type": "decimal(18,4)"},
        "updated_at": {"from": "mdate", "type": "datetime", "zone": "Asia/Shanghai"},
        "size_code": {"from": "公司规模", "lookup": "company_size", "default": None},
        "summary": "{invname} {invstd} × {qty}",
        "status": {"expr": "'below' if availqty < safety else 'ok'"},
        "contact": {"first": ["contact", "linkman", "person"]},
        "active": {"from": "flag", "type": "bool"},
        "batches": {"from": "batches", "type": "int"},
        "phone": {"from": "mobile", "type": "phone"},
    },
}

_SHANGHAI = ZoneInfo("Asia/Shanghai")
_EIGHT_HOURS = timedelta(hours=8)
_UNIT = Decimal("0.0001")
_SIZES = {
    "1-50人": 1,
    "50人以下": 1,
    "51-200人": 2,
    "201-500人": 3,
    "501-1000人": 4,
    "1001-5000人": 5,
    "5000人以上": 6,
    "5001人以上": 6,
}
_FLAGS = {"1": True, "0": False, "是": True, "否": False, "true": True, "false": False}


def in_shanghai(moment: str) -> str:
    """Local time in Shanghai as UTC, right for every date."""
    local = datetime.fromisoformat(moment).replace(tzinfo=_SHANGHAI)
    return local.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def since_1992(moment: str) -> str:
    """The same with a fixed offset: quicker, and wrong by an hour in the summers before 1992."""
    return (datetime.fromisoformat(moment) - _EIGHT_HOURS).isoformat() + "Z"


def by_hand(
    row: dict[str, Any], to_utc: Callable[[str], str] = in_shanghai
) -> tuple[str, dict[str, Any]]:
    """What a careful programmer writes for exactly these twelve fields."""
    code = row.get("invcode")
    code = code.strip() if code is not None else ""
    if not code:
        raise ValueError("invcode is required")
    name = row.get("invname")
    qty = row.get("qty")
    on_hand = None
    if qty is not None:
        on_hand = Decimal(qty).quantize(_UNIT, ROUND_HALF_UP)
        if on_hand.adjusted() >= 14:
            raise ValueError(f"qty {qty} is too large")
    moment = row.get("mdate")
    if moment is not None:
        moment = to_utc(moment)
    size = row.get("公司规模")
    if size is not None:
        size = _SIZES.get(size.strip())
    available, safety = row.get("availqty"), row.get("safety")
    if available is None or safety is None:
        raise ValueError("availqty and safety are required")
    flag = row.get("flag")
    batches = row.get("batches")
    mobile = row.get("mobile")
    if mobile is not None:
        if not (len(mobile) == 11 and mobile.isdigit() and mobile[0] == "1"):
            raise ValueError(f"mobile {mobile} is no phone number")
        mobile = "+86" + mobile
    words = f"{name or ''} {row.get('invstd') or ''} × {'' if qty is None else qty}"
    return code.replace("\\", "\\\\").replace("|", "\\|"), {
        "code": code,
        "name": name,
        "warehouse": row.get("whcode"),
        "on_hand": on_hand,
        "updated_at": moment,
        "size_code": size,
        "summary": " ".join(words.split()),
        "status": "below" if Decimal(available) < Decimal(safety) else "ok",
        "contact": row.get("contact") or row.get("linkman") or row.get("person"),
        "active": None if flag is None else _FLAGS[flag],
        "batches": None if batches is None else int(batches),
        "phone": mobile,
    }


def fixed_offset(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The hand-written function without time zone rules, for comparison."""
    return by_hand(row, since_1992)


def rows(count: int) -> list[dict[str, Any]]:
    """Stock rows as U8 sends them: numbers as text, null fields left out."""
    chance = random.Random(7)
    return [_row(chance, i) for i in range(count)]


def _row(chance: random.Random, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "whcode": f"W{i % 30:02d}",
        "invcode": f" A{i:06d} ",
        "invname": f"不锈钢球阀{i % 977}",
        "qty": f"{chance.randrange(10**7) / 100:.2f}",
        "mdate": f"2026-{1 + i % 12:02d}-{1 + i % 28:02d} {i % 24:02d}:11:12",
        "公司规模": list(_SIZES)[i % 6],
        "availqty": f"{chance.randrange(10**6) / 100:.2f}",
        "safety": f"{chance.randrange(10**6) / 100:.2f}",
        "flag": "1" if i % 3 else "0",
        "batches": str(i % 50),
        "mobile": f"138{chance.randrange(10**8):08d}",
    }
    if i % 4:
        row["invstd"] = "DN50 PN16"
    row[("contact", "linkman", "person")[i % 3]] = "王建国"
    return row


def measure(count: int, rounds: int) -> dict[str, Any]:
    """Medians per record in microseconds and the ratio compiled / by hand."""
    mapping = load_mapping(SPEC, where="bench", library=Library([ROOT / "mappings"]))
    data = rows(count)
    for row in data:
        mapped = mapping.apply(row)
        if (mapped.key, mapped.data) != by_hand(row):
            raise SystemExit(f"different results for {row}: {mapped} and {by_hand(row)}")
    functions: list[Callable[[dict[str, Any]], Any]] = [mapping.apply, by_hand, fixed_offset]
    turns = []
    for turn in range(rounds):
        order = functions if turn % 2 else functions[::-1]
        times = {function: _time(function, data) for function in order}
        turns.append([times[function] for function in functions])
    compiled, hand, fixed = (statistics.median(column) for column in zip(*turns, strict=True))
    return {
        "bench": "mapping",
        "fields": len(SPEC["fields"]),
        "rows": count,
        "rounds": rounds,
        "compiled_us": round(compiled / count * 1e6, 3),
        "by_hand_us": round(hand / count * 1e6, 3),
        "fixed_offset_us": round(fixed / count * 1e6, 3),
        "ratio": round(statistics.median(a / b for a, b, _ in turns), 3),
        "ratio_fixed_offset": round(statistics.median(a / c for a, _, c in turns), 3),
        "target": TARGET,
    }


def _time(function: Callable[[dict[str, Any]], Any], data: list[dict[str, Any]]) -> float:
    start = time.process_time()
    for row in data:
        function(row)
    return time.process_time() - start


def main(argv: list[str] | None = None) -> int:
    """Prints the table or JSON; 0 when the target is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    before = machine.facts()
    result = measure(options.rows, options.rounds)
    machine.save("mapping", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    else:
        print(f"{result['fields']} fields, {result['rows']} rows, {result['rounds']} rounds")
        print(f"{'compiled mapping':20s}{result['compiled_us']:8.3f} µs/record")
        print(f"{'by hand':20s}{result['by_hand_us']:8.3f} µs/record")
        print(f"{'by hand, fixed +8 h':20s}{result['fixed_offset_us']:8.3f} µs/record")
        print(f"{'ratio (median)':20s}{result['ratio']:8.3f}   target ≤ {TARGET}")
    return 0 if result["ratio"] <= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
