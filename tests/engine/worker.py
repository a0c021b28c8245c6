"""A hub process for tests that kill it: `python -m tests.engine.worker FOLDER FLOW`.

Prints `ready` when the run is queued and the run as JSON when it has ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hub.engine.hub import open_hub
from hub.engine.planning import start_run
from hub.store.runs import load_run


def main() -> None:
    folder, flow = Path(sys.argv[1]), sys.argv[2]
    with open_hub(folder, jobs=True) as hub:
        run = start_run(hub, flow)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not run.finished:
            time.sleep(0.05)
            with hub.store.reading() as connection:
                found = load_run(connection, run.id)
            if found is not None:
                run = found
        result = {"id": run.id, "state": run.state, "error": run.error_text, **run.counts}
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
