"""`hub serve` whose queue of messages is soon full: `python -m …small_hub --dir D --port P`."""

from __future__ import annotations

import functools

import hub.telemetry.port
from hub.api.server import main
from hub.store.group_commit import Limits
from hub.telemetry.ingest import Ingest

MESSAGES = 60

if __name__ == "__main__":
    small = functools.partial(Ingest, limits=Limits(MESSAGES, 1_000_000))
    hub.telemetry.port.Ingest = small  # type: ignore[assignment,misc]
    main()
