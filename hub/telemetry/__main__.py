"""`python -m hub.telemetry`: the projector's process. It is started by the server or a worker."""

from __future__ import annotations

import os
import sys

from hub.telemetry.process import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread that watches the parent may hold standard input
