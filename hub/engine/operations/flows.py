"""Flows and their runs."""

from __future__ import annotations

from hub.engine.abilities import require_abilities
from hub.engine.inspection import flow_rows
from hub.engine.operations.base import LARGEST_NUMBER, Opened, Row, capped, iso
from hub.engine.planning import start_run
from hub.engine.two_way.pairs import direction_in
from hub.sdk.errors import ConfigError
from hub.sdk.hooks import event_of
from hub.store.rows import from_ms
from hub.store.runs import (
    Run,
    list_runs,
    load_run,
    paused_flows,
    set_flow_state,
    unfinished_run,
)


class FlowOperations(Opened):
    """Looking at flows, starting runs."""

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
        source = hub.session(loaded.source.connection)
        if loaded.source.event is not None:
            event_of(source.connection, loaded.source.event)
        else:
            source.stream(loaded.source.stream_name)
        if loaded.target.connection is not None and loaded.target.sink is not None:
            writer = hub.session(loaded.target.connection).sink(loaded.target.sink)
            require_abilities(loaded, writer.sink)
            direction_in(hub, loaded)
        return self.unfinished(flow)

    def unfinished(self, flow: str) -> Row | None:
        """The flow's run that is still on its way."""
        with self._hub.store.reading() as connection:
            found = unfinished_run(connection, flow)
        return None if found is None else run_row(found)

    def start_run(
        self, flow: str, *, full: bool = False, allow_deletes: float | None = None
    ) -> Row:
        """Queue a run, or go on with the one that is on its way or only paused.

        Settings that are missing are said here, before anything is written.
        """
        self.prepare(flow)
        return run_row(start_run(self._hub, flow, full=full, allow_deletes=allow_deletes))

    def pause_flow(self, flow: str, *, paused: bool) -> Row:
        """Let the schedule leave the flow alone, or start it again; a person may always run it.

        What a pause misses is not made up for.
        """
        hub = self._hub
        hub.catalogue.flow(flow)
        with hub.store.transaction() as connection:
            set_flow_state(connection, flow, paused=int(paused))
        return {"flow": flow, "paused": paused}

    def paused(self, flow: str) -> bool:
        """Whether the schedule leaves the flow alone."""
        with self._hub.store.reading() as connection:
            return flow in paused_flows(connection)

    def run(self, run_id: int) -> Row:
        """One run. Raises ConfigError when there is none of this number."""
        with self._opened.store.reading() as connection:
            found = load_run(connection, run_id) if abs(run_id) <= LARGEST_NUMBER else None
        if found is None:
            raise ConfigError("run.unknown", run=run_id)
        return run_row(found)

    def runs(self, flow: str | None, limit: int) -> list[Row]:
        """The newest runs, newest first."""
        with self._opened.store.reading() as connection:
            return [run_row(one) for one in list_runs(connection, flow, capped(limit))]


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
        "merged": counts["folded"] - counts["grouped"],
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
        "since": iso(from_ms(run.since_at)),
        "queued_at": iso(from_ms(run.queued_at)),
        "started_at": iso(from_ms(run.started_at)),
        "finished_at": iso(from_ms(run.finished_at)),
        "resumable": run.resumable,
        "error": error,
        "findings": run.findings,
    }
