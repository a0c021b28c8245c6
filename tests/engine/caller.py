"""A process that calls a fake CRM as the hub would: `python -m tests.engine.caller FOLDER N`.

Prints `ready`, searches from N threads until its input closes, and prints how often it got an
answer. Limits, pauses and the breaker are those of the connection `crm`, shared through the store.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from hub.engine.hub import open_hub
from hub.sdk.errors import AuthError, OutcomeUnknown, TransientError


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    done = threading.Event()
    answered: list[int] = []
    with open_hub(folder) as hub:
        sink = hub.session("crm").sink("sale_order")

        def work() -> None:
            while not done.is_set():
                try:
                    sink.find("X")
                    answered.append(1)
                except (TransientError, OutcomeUnknown, AuthError):
                    time.sleep(0.05)

        threads = [threading.Thread(target=work) for _ in range(number)]
        for thread in threads:
            thread.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
        done.set()
        for thread in threads:
            thread.join()
    sys.stdout.write(f"{len(answered)}\n")


if __name__ == "__main__":
    main()
