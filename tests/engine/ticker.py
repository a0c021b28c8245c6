"""A process that ticks by a given clock: `python -m tests.engine.ticker FOLDER MOMENT...`.

Waits on each line of standard input, ticks at the next moment, prints what it started.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from hub.engine.hub import open_hub
from hub.engine.schedule import tick
from hub.sdk.testing import FakeClock


def main() -> None:
    moments = [datetime.fromisoformat(text) for text in sys.argv[2:]]
    clock = FakeClock(moments[0])
    with open_hub(Path(sys.argv[1]), clock=clock) as hub:
        hub.durable.connect()
        for moment in moments:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
            clock.advance((moment - clock.now()).total_seconds())
            tick(hub)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
