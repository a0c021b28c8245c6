"""A hub process that sends webhooks, for tests that kill it.

`python -m tests.engine.webhook_worker FOLDER [KEYS]` changes as many records once it works,
prints `ready`, and goes on until its standard input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hub.engine.hub import open_hub
from tests.engine.webhook_rig import change


def main() -> None:
    folder, keys = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with open_hub(folder, jobs=True) as hub:
        for number in range(keys):
            change(hub, f"C-{number}")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
