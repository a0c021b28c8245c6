"""What the faces of the hub can do: plain JSON-able dicts, the same from every face."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from hub.engine.inspection import connector_rows, error_row, flow_rows, json_ready
from hub.engine.planning import start_run
from hub.sdk.connection import connector_of
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import suggestion
from hub.store import dead_letters, records
from hub.store.deliveries import sinks_with_work
from hub.store.migrate import schema_version
from hub.store.rows import from_ms
from hub.store.runs import Run, list_runs, load_run, unfinished_run, unfinished_runs

if TYPE_CHECKING:
    from hub.engine.hub import Hub

Row = dict[str, Any]

MAX_LIMIT = 1000


class Operations(Protocol):
    """The hub as its faces see it: in this process, or in the `hub serve` that owns the store.

    Every call raises HubError with a code and parameters that a face can put into words.
    """

    def connectors(self) -> list[Row]: ...
    def connections(self) -> list[Row]: ...
    def check_connection(self, name: str) -> Row: ...
    def set_secret(self, connection: str, field: str, value: str) -> Row: ...
    def flows(self) -> list[Row]: ...
    def prepare(self, flow: str) -> Row | None: ...
    def start_run(self, flow: str, *, full: bool = False) -> Row: ...
    def run(self, run_id: int) -> Row: ...
    def runs(self, flow: str | None, limit: int) -> list[Row]: ...
    def count_records(self, entity: str) -> Row: ...
    def records(self, entity: str, since: int, limit: int) -> Row: ...
    def dead_letters(self, flow: str | None, state: str | None, limit: int) -> list[Row]: ...
    def dead_letter(self, letter_id: str) -> Row: ...
    def doctor(self) -> Row: ...


class LocalOperations:
    """The operations on a hub opened in this process."""

    def __init__(self, hub: Hub) -> None:
        self._opened = hub

    @property
    def _hub(self) -> Hub:
        """The hub with the files as they are now."""
        self._opened.refresh()
        return self._opened

    def start_jobs(self) -> None:
        """Work in this process from now on, beginning with what an earlier life left undone."""
        self._hub.start_jobs()

    # --- connectors and connections -----------------------------------------------------------

    def connectors(self) -> list[Row]:
        """Every connector found, the broken ones with their error."""
        return connector_rows(self._hub.discovery)

    def connections(self) -> list[Row]:
        """The accounts of `connections.yaml` and whether each is usable."""
        return [self._connection_row(name) for name in sorted(self._hub.deployment.connections)]

    def check_connection(self, name: str) -> Row:
        """What works and what does not: settings, reachable, login, first page of every stream."""
        try:
            session = self._hub.session(name)
        except HubError as error:
            if name not in self._hub.deployment.connections:
                raise
            return {
                "connection": name,
                "ok": False,
                "steps": [{"step": "config", "ok": False, **_step_error(error)}],
            }
        steps = [
            {"step": found.step, "ok": found.ok}
            | (
                _step_error(found.error)
                if found.error is not None
                else {"code": found.code, "params": json_ready(dict(found.params))}
            )
            for found in session.check()
        ]
        return {"connection": name, "ok": all(step["ok"] for step in steps), "steps": steps}

    def set_secret(self, connection: str, field: str, value: str) -> Row:
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

    # --- flows and runs -----------------------------------------------------------------------

    def flows(self) -> list[Row]:
        """Every flow found, the broken ones with their error."""
        return flow_rows(self._hub.deployment, self._hub.catalogue)

    def flow(self, name: str) -> Row:
        """One flow. Raises its own error when it is broken, ConfigError when unknown."""
        self._hub.catalogue.flow(name)
        return next(row for row in self.flows() if row["flow"] == name)

    def prepare(self, flow: str) -> Row | None:
        """Raises for what would stop a run of the flow; the run that is still on its way."""
        hub = self._hub
        loaded = hub.catalogue.flow(flow)
        hub.session(loaded.source.connection).stream(loaded.source.stream)
        if loaded.target.connection is not None and loaded.target.sink is not None:
            hub.session(loaded.target.connection).sink(loaded.target.sink)
        return self.unfinished(flow)

    def unfinished(self, flow: str) -> Row | None:
        """The flow's run that is still on its way."""
        with self._hub.store.reading() as connection:
            found = unfinished_run(connection, flow)
        return None if found is None else run_row(found)

    def start_run(self, flow: str, *, full: bool = False) -> Row:
        """Queue a run, or go on with the one that is on its way or only paused.

        Settings that are missing are said here, before anything is written.
        """
        self.prepare(flow)
        return run_row(start_run(self._hub, flow, full=full))

    def run(self, run_id: int) -> Row:
        """One run. Raises ConfigError when there is none of this number."""
        with self._opened.store.reading() as connection:
            found = load_run(connection, run_id)
        if found is None:
            raise ConfigError("run.unknown", run=run_id)
        return run_row(found)

    def runs(self, flow: str | None, limit: int) -> list[Row]:
        """The newest runs, newest first."""
        with self._opened.store.reading() as connection:
            return [run_row(one) for one in list_runs(connection, flow, capped(limit))]

    # --- records and dead letters -------------------------------------------------------------

    def count_records(self, entity: str) -> Row:
        """How many live records the entity has."""
        with self._hub.store.reading() as connection:
            count = records.count_records(connection, entity)
            if count == 0:
                self._know(connection, entity)
        return {"entity": entity, "count": count}

    def records(self, entity: str, since: int, limit: int) -> Row:
        """Records in the order of their changes; ask again with `since` = `next` for more."""
        with self._hub.store.reading() as connection:
            rows = records.records_since(connection, entity, since, capped(limit))
            if not rows:
                self._know(connection, entity)
        return {
            "entity": entity,
            "records": rows,
            "next": rows[-1]["change_no"] if rows else since,
            "more": len(rows) == capped(limit),
        }

    def dead_letters(self, flow: str | None, state: str | None, limit: int) -> list[Row]:
        """Records and deliveries a person must look at, newest first."""
        with self._hub.store.reading() as connection:
            found = dead_letters.list_dead_letters(connection, flow, state, capped(limit))
        return [letter_row(one) for one in found]

    def dead_letter(self, letter_id: str) -> Row:
        """One dead letter with its payload. Raises ConfigError when there is none."""
        with self._hub.store.reading() as connection:
            found = dead_letters.load_dead_letter(connection, letter_id)
        if found is None:
            raise ConfigError("dead_letter.unknown", letter=letter_id)
        return letter_row(found)

    def _know(self, connection: sa.Connection, entity: str) -> None:
        """An entity without records must at least be one that a flow writes."""
        flows, broken = self._hub.catalogue.all()
        declared = {flow.target.entity for flow in flows if flow.target.entity}
        known = declared | set(records.entities(connection))
        if entity not in known and not broken:
            raise ConfigError("entity.unknown", entity=entity, hint=suggestion(entity, known))

    # --- health -------------------------------------------------------------------------------

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


def run_row(run: Run) -> Row:
    """A run as every face shows it. Times are ISO 8601 in UTC."""
    counts = dict(run.counts)
    shown = {
        "read": counts["rows_read"],
        "mapped": counts["mapped"],
        "written": counts["written"],
        "unchanged": counts["unchanged"],
        "rejected": counts["rejected"] + counts["refused"],
        "held": counts["held"],
        "skipped": counts["skipped"],
        "pending": max(0, counts["pending"]),
        "repeated": counts["repeated"],
        "coalesced": counts["coalesced"],
        "removed": counts["removed"],
        "grouped": counts["grouped"],
    }
    error = None
    if run.error_code is not None:
        error = {"code": run.error_code, "message": run.error_text or ""}
    return {
        "id": run.id,
        "flow": run.flow_id,
        "kind": run.kind,
        "state": run.state,
        "attempt": run.attempt,
        "pages": run.page_no,
        "counts": shown,
        "total": run.source_total,
        "since": _iso(from_ms(run.since_at)),
        "queued_at": _iso(from_ms(run.queued_at)),
        "started_at": _iso(from_ms(run.started_at)),
        "finished_at": _iso(from_ms(run.finished_at)),
        "resumable": run.resumable,
        "error": error,
        "findings": run.findings,
    }


def letter_row(letter: Row) -> Row:
    """A dead letter as every face shows it."""
    shown = {name: value for name, value in letter.items() if not name.endswith("_at")}
    for name in ("created_at", "updated_at"):
        shown[name] = _iso(from_ms(letter[name]))
    return shown


def capped(limit: int) -> int:
    """A limit within what one answer may hold."""
    return max(1, min(limit, MAX_LIMIT))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _step_error(error: HubError) -> Row:
    return {"code": error.code, "params": json_ready(error.params)}


def _check(kind: str, name: str, error: Row | None) -> Row:
    return {"check": kind, "name": name, "ok": error is None, "error": error}
