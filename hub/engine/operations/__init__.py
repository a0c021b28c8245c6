"""What the faces of the hub can do: plain JSON-able dicts, the same from every face.

One module per subject; `Operations` is what a face may call, in this process (`LocalOperations`)
or in the `hub serve` that owns the store. Every call raises HubError with a code and parameters
that a face can put into words.
"""

from __future__ import annotations

from hub.engine.operations.devices import DeviceOperations
from hub.engine.operations.health import HealthOperations
from hub.engine.operations.inbox import InboxOperations
from hub.engine.operations.letters import LetterOperations
from hub.engine.operations.protocol import Operations
from hub.engine.operations.telemetry import TelemetryOperations
from hub.engine.operations.telemetry_queries import TelemetryQueryOperations
from hub.engine.operations.verifications import VerifyOperations
from hub.engine.operations.workers import WorkerOperations

__all__ = ["LocalOperations", "Operations"]


class LocalOperations(
    HealthOperations,
    InboxOperations,
    LetterOperations,
    WorkerOperations,
    VerifyOperations,
    DeviceOperations,
    TelemetryOperations,
    TelemetryQueryOperations,
):
    """The operations on a hub opened in this process."""

    def start_jobs(self) -> None:
        """Work in this process from now on, beginning with what an earlier life left undone."""
        self._hub.start_jobs("command")
