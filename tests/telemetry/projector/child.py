"""The projector's process with the decoder of the tests."""

from __future__ import annotations

import os

from hub.telemetry.process import main
from tests.telemetry.projector.plant import plain

if __name__ == "__main__":
    os._exit(main(lambda _settings: {"plain": plain}))
