"""`hub serve` whose only connector with telemetry has the tiny face."""

from __future__ import annotations

import sys

from hub.api import front, server
from hub.sdk.telemetry import Faces
from tests.telemetry.ingest.rig import TinyFace

if __name__ == "__main__":
    made: list[Faces] = []

    def tiny(_hub: object, _connector: object, port: object, _sources: object) -> Faces:
        """Once, for whichever connector comes first."""
        made.append(Faces(http=[] if made else [TinyFace(port)]))  # type: ignore[arg-type]
        return made[-1]

    front._faces = tiny  # type: ignore[assignment]
    server.main(sys.argv[1:])
