"""What an operator should know."""

from __future__ import annotations

from hub.engine.durable import QUEUES
from hub.engine.inbox import Inbox, backlog_trouble, hook_trouble, inboxes
from hub.engine.inspection import error_row
from hub.engine.operations.base import Row
from hub.engine.operations.connections import ConnectionOperations
from hub.engine.operations.flows import FlowOperations, run_row
from hub.engine.operations.subscriptions import SubscriptionOperations
from hub.engine.telemetry_sources import telemetry_sources
from hub.engine.telemetry_status import projection_trouble
from hub.engine.watchdog import Look, backlog, look, troubles
from hub.sdk.errors import HubError
from hub.store.backlog import sinks_with_work
from hub.store.migrate import schema_version
from hub.store.runs import unfinished_runs


class HealthOperations(ConnectionOperations, FlowOperations, SubscriptionOperations):
    """Whether everything that is configured works."""

    def doctor(self) -> Row:
        """What an operator should know: each check with ok, a code and its parameters."""
        seen = look(self._hub)
        checks = [
            *self._store_checks(),
            *_job_checks(seen),
            *(_check("connector", row["name"], row["error"]) for row in self.connectors()),
            *(_check("connection", row["name"], row["error"]) for row in self.connections()),
            *self._breaker_checks(),
            *self._webhook_checks(),
            *self._telemetry_checks(),
            *(_check("flow", row["flow"], row["error"]) for row in self.flows()),
            *(_check("subscription", row["id"], row["error"]) for row in self.subscriptions()),
        ]
        return {"ok": all(one["ok"] for one in checks), "checks": checks, **self._backlog(seen)}

    def _store_checks(self) -> list[Row]:
        hub = self._hub
        url = hub.store.engine.url.render_as_string(hide_password=True)
        version = _check("store", f"{url} ({schema_version(hub.store)})", None)
        try:
            hub.vault()
        except HubError as error:
            return [version, _check("master_key", "master.key", error_row(error))]
        return [version, _check("master_key", "master.key", None)]

    def _breaker_checks(self) -> list[Row]:
        """One line for each connection that is left alone at present."""
        found = [(row["name"], row["breaker"]) for row in self.connections() if row["breaker"]]
        return [
            _check("breaker", name, error_row(HubError("connection.left_alone", name=name, **row)))
            for name, row in found
        ]

    def _webhook_checks(self) -> list[Row]:
        """For each connection that receives a webhook: whether it can, and how far flows are."""
        found = []
        with self._hub.store.reading() as opened:
            places = inboxes(self._hub, opened)
            for name in sorted(self._hub.deployment.connections):
                try:
                    connection = self._hub.connection(name)
                except HubError:
                    continue  # told as a connection
                if connection.manifest.hook is None:
                    continue
                error = hook_trouble(connection) or backlog_trouble(
                    opened, name, places.get(name, Inbox()), self._hub.now_ms()
                )
                found.append(_check("webhook", name, None if error is None else error_row(error)))
        return found

    def _telemetry_checks(self) -> list[Row]:
        """The declared sources, and whether the projector keeps up. Nothing where nothing came."""
        hub = self._hub
        try:
            sources = ", ".join(sorted(telemetry_sources(hub.deployment)))
            error = projection_trouble(hub)
        except HubError as trouble:
            return [_check("telemetry", "mappings/telemetry", error_row(trouble))]
        return [_check("telemetry", sources, None if error is None else error_row(error))]

    def _backlog(self, seen: Look) -> Row:
        with self._hub.store.reading() as connection:
            running = [run_row(one) for one in unfinished_runs(connection)]
            sinks = sinks_with_work(connection)
        queues = [one._asdict() for one in backlog(seen)]
        return {"unfinished_runs": running, "sinks_with_work": sinks, "queues": queues}


def _job_checks(seen: Look) -> list[Row]:
    """One line per job that does not get on, or one that says that all do."""
    found = [
        _check("jobs", str(error.params.get("job", "")), error_row(error))
        for error in troubles(seen)
    ]
    return found or [_check("jobs", ", ".join(QUEUES), None)]


def _check(kind: str, name: str, error: Row | None) -> Row:
    return {"check": kind, "name": name, "ok": error is None, "error": error}
