"""Comparing a flow's source with its target."""

from __future__ import annotations

from hub.engine.operations.base import Opened, Row, capped


class VerifyOperations(Opened):
    """Starting comparisons and looking at the newest one of a flow."""

    def start_verify(self, flow: str, *, repair: bool = False) -> Row:
        """Begin a comparison; one of this flow that is under way goes on instead."""
        hub = self._hub
        loaded = hub.catalogue.flow(flow)
        return hub.verifications.start(hub, loaded, repair=repair).report()

    def verification(self, flow: str) -> Row:
        """How far the newest comparison is and what it found. Raises ConfigError without one."""
        self._hub.catalogue.flow(flow)
        return self._opened.verifications.of(flow).report()

    def differences(self, flow: str, after: int, limit: int) -> list[Row]:
        """What the newest comparison found, in the order of keys, behind number `after`."""
        return self._opened.verifications.of(flow).differences(after, capped(limit))
