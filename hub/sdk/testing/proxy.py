"""A fault proxy as a process of its own: `python -m hub.sdk.testing.proxy --upstream URL`.

It prints its address on the first line and runs until SIGTERM, SIGINT or the end of piped stdin.
What it does wrong is ordered at `/_proxy/`; the orders are those of `control.py`.
"""

from __future__ import annotations

import argparse
import sys

from hub.sdk.testing.relay import FaultProxy
from hub.sdk.testing.standalone import serve

__all__ = ["FaultProxy", "main"]


def main(argv: list[str]) -> None:
    """Run a proxy until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m hub.sdk.testing.proxy", description=__doc__)
    parser.add_argument("--upstream", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--port", type=_port, default=0, help="default: a free one")
    parser.add_argument("--seed", type=int, default=0, help="what `chance` is drawn from")
    given = parser.parse_args(argv)
    try:
        proxy = FaultProxy(given.upstream, given.port, seed=given.seed)
        serve(proxy)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    main(sys.argv[1:])
