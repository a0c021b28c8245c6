"""A process that calls a fake within shared limits: `python -m tests.engine.caller STORE URL …`.

Prints `ready`, calls from `--threads` threads until its input closes, and prints its calls.
"""

from __future__ import annotations

import argparse
import sys
import threading

import httpx

from hub.engine.gate import StoreGate
from hub.sdk.clock import SystemClock
from hub.store.database import open_store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("url")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--concurrent", type=int, default=100)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    store, done, made = open_store(options.store), threading.Event(), []
    gate = StoreGate(store, SystemClock())

    def work() -> None:
        with httpx.Client(base_url=options.url, timeout=30) as client:
            while not done.is_set():
                with gate.slot("shop", options.concurrent):
                    gate.wait("shop", options.rate)
                    client.get("/items")
                    made.append(1)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join(timeout=10)
    gate.close()
    store.close()
    sys.stdout.write(f"{len(made)}\n")


if __name__ == "__main__":
    main()
