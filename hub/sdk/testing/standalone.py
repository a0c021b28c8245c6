"""Running a fake or a fault proxy as its own process."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from types import FrameType

from hub.sdk.testing.misbehaving import Misbehaving


def serve(server: Misbehaving) -> None:
    """Print the URL on the first line, then run until SIGTERM, SIGINT or the end of piped stdin."""
    done = threading.Event()

    def finish(number: int, frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, finish)
    threading.Thread(target=_watch_stdin, args=(done,), daemon=True).start()
    with server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        done.wait()


def _watch_stdin(done: threading.Event) -> None:
    # A background job gets /dev/null, which is at its end from the start: only a pipe counts.
    if stat.S_ISCHR(os.fstat(0).st_mode):
        return
    while os.read(0, 4096):
        pass
    done.set()
