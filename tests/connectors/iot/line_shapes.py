"""Bodies made to be slow or large to read; run as a program it tells what one of them costs.

python line_shapes.py NAME BYTES  →  {"seconds": …, "mb": …}  (CPU, memory beside the body)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

SHAPES: dict[str, Callable[[int], bytes]] = {
    "one huge name": lambda size: b"x" * size,
    "one huge field list": lambda size: b"m " + b"a=1," * (size // 4) + b"a=1",
    "different fields": lambda size: (
        b"m " + b",".join(b"f%d=1" % number for number in range(size // 10))
    ),
    "a huge number": lambda size: b"m f=" + b"9" * size,
    "a huge time": lambda size: b"m f=1 " + b"9" * size,
    "a huge string": lambda size: b'm f="' + b"x" * size + b'"',
    "commas": lambda size: b"," * size,
    "commas after a name": lambda size: b"m" + b"," * size + b" f=1",
    "tags": lambda size: (
        b"m" + b"".join(b",t%d=1" % number for number in range(size // 10)) + b" f=1"
    ),
    "equal tags": lambda size: b"m" + b",a=1" * (size // 4) + b" f=1",
    "lines with many tags": lambda size: (
        (b"m" + b"".join(b",t%d=1" % number for number in range(6000)) + b" f=1\n")
        * (size // 50_000)
    ),
    "backslashes": lambda size: b"\\" * size,
    "backslashes by line": lambda size: b"\\\n" * (size // 2),
    "backslashes in a string": lambda size: b'm f="' + b"\\" * size,
    "escaped quotes": lambda size: b'm f="' + b'\\"' * (size // 2),
    "escapes": lambda size: b"m," + b"\\=" * (size // 2),
    "quotes": lambda size: b'"' * size,
    "quoted quotes": lambda size: b"m f=" + b'"' * size,
    "open quotes": lambda size: b'm f="x\n' * (size // 7),
    "one open quote": lambda size: b'm f="x\n' + b"m g=y\n" * (size // 6),
    "strings of lines": lambda size: b"m " + b'a="\n",' * (size // 6),
    "spaces": lambda size: b" " * size,
    "spaces in a line": lambda size: b"m" + b" " * size + b"f=1",
    "spaces at the end": lambda size: b"m f=1 " + b" " * size + b"x",
    "blank lines": lambda size: b"\n" * size,
    "comments": lambda size: b"#\n" * (size // 2),
    "bad lines": lambda size: b"m\n" * (size // 2),
    "zeros": lambda size: b"\0" * size,
    "no UTF-8": lambda size: b"\xff" * size,
}

FULL: dict[str, Callable[[int], bytes]] = {
    "short lines": lambda size: b"m f=1\n" * (size // 6),
    "tag sets": lambda size: b"".join(
        b"m,sn=%d,k=v f=1\n" % number for number in range(size // 20)
    ),
    "fields": lambda size: (
        (b"m " + b",".join(b"f%d=1" % number for number in range(5000)) + b"\n") * (size // 40_000)
    ),
    "short texts": lambda size: b'm f="x"\n' * (size // 8),
}
"""Nothing wrong with these, but as many readings as a message may hold."""


def cost(path: str) -> dict[str, float]:
    from connectors.iot.line_protocol import decode

    decode(b"m f=1", {}, 0)
    body = Path(path).read_bytes()
    memory = _memory_mb("VmRSS")
    began = time.process_time()
    decode(body, {}, 0)
    return {"seconds": time.process_time() - began, "mb": _memory_mb("VmHWM") - memory}


def _memory_mb(kind: str) -> float:
    """Of this program since its own start; what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{kind}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(cost(sys.argv[1])))
