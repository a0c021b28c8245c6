"""What an operator should know."""

from __future__ import annotations

from hub.engine.inspection import error_row
from hub.engine.operations.base import Row
from hub.engine.operations.connections import ConnectionOperations
from hub.engine.operations.flows import FlowOperations, run_row
from hub.sdk.errors import HubError
from hub.store.deliveries import sinks_with_work
from hub.store.migrate import schema_version
from hub.store.runs import unfinished_runs


class HealthOperations(ConnectionOperations, FlowOperations):
    """Whether everything that is configured works."""

    def doctor(self) -> Row:
        """What an operator should know: each check with ok, a code and its parameters."""
        checks = [
            *self._store_checks(),
            *(_check("connector", row["name"], row["error"]) for row in self.connectors()),
            *(_check("connection", row["name"], row["error"]) for row in self.connections()),
            *(_check("flow", row["flow"], row["error"]) for row in self.flows()),
        ]
        return {"ok": all(one["ok"] for one in checks), "checks": checks, **self._backlog()}

    def _store_checks(self) -> list[Row]:
        hub = self._hub
        url = hub.store.engine.url.render_as_string(hide_password=True)
        version = _check("store", f"{url} ({schema_version(hub.store)})", None)
        try:
            hub.vault()
        except HubError as error:
            return [version, _check("master_key", "master.key", error_row(error))]
        return [version, _check("master_key", "master.key", None)]

    def _backlog(self) -> Row:
        with self._hub.store.reading() as connection:
            running = [run_row(one) for one in unfinished_runs(connection)]
            return {"unfinished_runs": running, "sinks_with_work": sinks_with_work(connection)}


def _check(kind: str, name: str, error: Row | None) -> Row:
    return {"check": kind, "name": name, "ok": error is None, "error": error}
