"""A hub process for tests that kill it: `python -m tests.engine.replay_worker FOLDER FLOW`.

Asks for a replay of all letters unless one runs, prints `ready`, and the replay when it has ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hub.engine.hub import open_hub
from hub.engine.operations import LocalOperations


def main() -> None:
    folder, flow = Path(sys.argv[1]), sys.argv[2]
    with open_hub(folder, jobs=True) as hub:
        ops = LocalOperations(hub)
        found = ops.replays(1)
        if found:
            replay = ops.replay(found[0]["id"])
        else:
            replay = ops.replay_letters({"flow": flow}, None, dry_run=False, actor="lin")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while replay["state"] == "running" or replay["letters"].get("replaying"):
            time.sleep(0.05)
            replay = ops.replay(replay["id"])
        sys.stdout.write(json.dumps(replay) + "\n")


if __name__ == "__main__":
    main()
