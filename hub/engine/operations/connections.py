"""Connectors, connections and their secrets."""

from __future__ import annotations

from hub.engine.inspection import connector_rows, error_row, json_ready
from hub.engine.operations.base import Opened, Row, iso
from hub.sdk.connection import connector_of
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import suggestion
from hub.store.audit import append_audit
from hub.store.breakers import Standing, open_standings
from hub.store.rows import from_ms


class ConnectionOperations(Opened):
    """Accounts of outside systems."""

    def connectors(self) -> list[Row]:
        """Every connector found, the broken ones with their error."""
        return connector_rows(self._hub.discovery)

    def connections(self) -> list[Row]:
        """The accounts of `connections.yaml` and whether each is usable."""
        with self._hub.store.reading() as opened:
            standing = {one.connection_id: one for one in open_standings(opened)}
        return [
            {**self._connection_row(name), "breaker": breaker_row(standing.get(name))}
            for name in sorted(self._hub.deployment.connections)
        ]

    def check_connection(self, name: str) -> Row:
        """What works and what does not: settings, reachable, login, first page of every stream."""
        try:
            session = self._hub.trial(name)
        except HubError as error:
            if name not in self._hub.deployment.connections:
                raise
            return {
                "connection": name,
                "ok": False,
                "steps": [{"step": "config", "ok": False, **_step_error(error)}],
            }
        with session:
            results = session.check()
        if all(found.ok for found in results):
            self._hub.breaker.forgive(name)
        steps = [
            {"step": found.step, "ok": found.ok}
            | (
                _step_error(found.error)
                if found.error is not None
                else {"code": found.code, "params": json_ready(dict(found.params))}
            )
            for found in results
        ]
        return {"connection": name, "ok": all(step["ok"] for step in steps), "steps": steps}

    def set_secret(self, connection: str, field: str, value: str, *, actor: str) -> Row:
        """Keep a secret of a connection, encrypted; jobs use it from their next call on."""
        hub = self._hub
        entry = hub.deployment.connections.get(connection)
        if entry is None:
            hint = suggestion(connection, hub.deployment.connections)
            raise ConfigError("connection.unknown", name=connection, hint=hint)
        config = hub.discovery.get(connector_of(connection, entry)).manifest.config
        secret_fields = [name for name, one in config.items() if one.type == "secret"]
        if field not in secret_fields:
            hint = suggestion(field, secret_fields)
            where = f"connections.yaml: {connection}"
            raise ConfigError("connection.no_secret_field", where=where, key=field, hint=hint)
        if not value:
            raise ConfigError("connection.secret_empty", connection=connection, key=field)
        with hub.store.transaction() as opened:
            hub.vault().put(opened, connection, field, value, hub.now_ms())
            append_audit(opened, actor, "secret.set", f"{connection}/{field}", {}, hub.now_ms())
        hub.renew_session(connection)
        return {"connection": connection, "field": field, "stored": True}

    def _connection_row(self, name: str) -> Row:
        entry = self._hub.deployment.connections[name]
        row: Row = {"name": name, "connector": entry.get("connector"), "ok": True, "error": None}
        try:
            found = self._hub.connection(name)
        except HubError as error:
            return row | {"ok": False, "base_url": None, "error": error_row(error)}
        return row | {"base_url": found.base_url}


def breaker_row(standing: Standing | None) -> Row | None:
    """Why and until when a connection is left alone; None when calls are made."""
    if standing is None:
        return None
    return {
        "state": "open",
        "until": iso(from_ms(standing.no_call_until)),
        "since": iso(from_ms(standing.opened_at)),
        "failures": standing.failures,
        "reason": standing.reason_text,
    }


def _step_error(error: HubError) -> Row:
    return {"code": error.code, "params": json_ready(error.params)}
