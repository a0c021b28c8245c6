"""Messages made to be slow or large; run as a program it measures what a decoder takes of one.

python heavy.py FORMAT NAME  →  {"seconds": …, "megabytes": …, "refused": …, "readings": …}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LARGE = 25_000_000
NOW = 1_795_593_600_000


def _numbers(value: str, count: int) -> bytes:
    return b"{" + ",".join(f'"k{at}":{value}' for at in range(count)).encode() + b"}"


def _rows(row: str, count: int) -> bytes:
    return b"[" + ",".join([row] * count).encode() + b"]"


def _devices(count: int) -> bytes:
    return b"{" + ",".join(f'"d{at}":[{{"t":1}}]' for at in range(count)).encode() + b"}"


BODIES: Mapping[str, Callable[[], bytes]] = {
    "brackets": lambda: b"[" * LARGE,
    "braces": lambda: b'{"a":' * (LARGE // 5),
    "closed brackets": lambda: b'{"a":' + b"[" * 12_000_000 + b"]" * 12_000_000 + b"}",
    "a million keys": lambda: _numbers("1", 1_000_000),
    "many keys": lambda: _numbers("1", 390_000),
    "many texts": lambda: _numbers('"RUN"', 390_000),
    "many booleans": lambda: _numbers("true", 390_000),
    "many objects": lambda: _numbers("{}", 195_000),
    "many NaN": lambda: _numbers("NaN", 280_000),
    "many infinities": lambda: _numbers("1e999", 250_000),
    "equal keys": lambda: b"{" + b'"a":1,' * 390_000 + b'"a":2}',
    "long names": lambda: (
        b"{" + ",".join(f'"{at:0>255}":1' for at in range(95_000)).encode() + b"}"
    ),
    "bad names": lambda: _rows('{"":1}', 195_000),
    "empty rows": lambda: _rows("{}", 195_000),
    "rows": lambda: _rows('{"a":1}', 195_000),
    "timed rows": lambda: _rows('{"device":"pump","ts":1795593600000,"values":{"a":1}}', 9_999),
    "wide rows": lambda: _rows(
        '{"device":"pump","values":{' + ",".join(f'"m{at}":1' for at in range(37)) + "}}", 9_999
    ),
    "devices": lambda: _devices(130_000),
    "a long text": lambda: b'{"a":"' + b"x" * LARGE + b'"}',
    "a long number": lambda: b'{"a":' + b"1" * LARGE + b"}",
    "a long numeric text": lambda: b'{"a":"' + b"1" * LARGE + b'"}',
    "a long name": lambda: b'{"' + b"x" * LARGE + b'":1}',
    "an open text": lambda: b'{"a":"' + b'\\"' * (LARGE // 2) + b"NaN",
    "quotes": lambda: b'"' * LARGE,
    "minus signs": lambda: b"-" * LARGE + b"NaN",
    "line ends": lambda: b"\n" * LARGE,
    "blanks": lambda: b" " * LARGE,
    "zeros": lambda: bytes(LARGE),
}

MAPPING = json.dumps({"device": "d", "all_of": "$"})
ROWS = json.dumps({"each": "$", "device": "d", "metrics": {"a": "a"}, "all_of": "$"})
DETAILS: Mapping[str, Mapping[str, str]] = {
    "iot.mapped": {"mapping": MAPPING},
    "iot.mapped rows": {"mapping": ROWS},
    "iot.readings lines": {"media": "ndjson"},
    "iot.cloud_events": {
        "mode": "binary",
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
    },
}
FORMATS = (
    "iot.thingsboard",
    "iot.thingsboard_gateway",
    "iot.thingsboard_attributes",
    "iot.thingsboard_gateway_attributes",
    "iot.gateway_connect",
    "iot.readings",
    "iot.readings lines",
    "iot.cloud_events",
    "iot.mapped",
    "iot.mapped rows",
)


def details_of(name: str) -> dict[str, str]:
    """What a decoder is told beside the body."""
    own = {"sender": "pump", "speaks_for": "itself", "ce-type": "t"}
    return {**own, **DETAILS.get(name, {})}


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    from connectors.iot.decoders import DECODERS

    results = {}
    body = BODIES[sys.argv[1]]()
    for name in FORMATS:
        decode, details = DECODERS[name.partition(" ")[0]], details_of(name)
        decode(b"{}", details, NOW)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        memory, began = _status("VmRSS"), time.thread_time()
        decoded = decode(body, details, NOW)
        results[name] = {
            "seconds": time.thread_time() - began,
            "megabytes": _status("VmHWM") - memory,
            "readings": len(decoded.samples) + len(decoded.texts),
            "refused": len(decoded.refused),
        }
        del decoded
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
