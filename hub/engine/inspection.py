"""Looking at a deployment without opening its store: connectors, flows, mappings, dry runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hub.engine.abilities import require_abilities
from hub.engine.deployment import Deployment, open_deployment
from hub.engine.dry_runs import DryRun
from hub.engine.entries import split_keyless
from hub.engine.event_pages import EventReader
from hub.engine.flows import Catalogue, Flow
from hub.engine.two_way.explaining import Explainer, Known
from hub.engine.two_way.pairs import direction_of
from hub.mapping import TestFailure
from hub.sdk.auth import TokenCache
from hub.sdk.clock import SystemClock
from hub.sdk.connection import Secrets, connector_of, manifest_of, resolve_connection
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.limits import LocalGate
from hub.sdk.loading import suggestion, validate
from hub.sdk.manifest import Manifest
from hub.sdk.manifest_hooks import Hook
from hub.sdk.records import join_key
from hub.sdk.registry import Connector, Discovery, discover
from hub.sdk.session import Session
from hub.store import ledger
from hub.store.database import Store, open_store
from hub.store.migrate import HEAD, schema_version
from hub.store.runs import paused_flows
from hub.store.secrets import Vault, has_secret, load_master_key

Row = dict[str, Any]


class Inspection:
    """A deployment (or any folder with mappings) as its files describe it."""

    def __init__(self, folder: Path) -> None:
        self.deployment: Deployment = open_deployment(folder, required=False)
        self.discovery: Discovery = discover(folder / "connectors")
        self.catalogue = Catalogue(self.deployment.mapping_folders)

    def paused_flows(self) -> set[str]:
        """Flows that their schedule leaves alone, as far as there is a store."""
        with _glance(self.deployment) as store:
            if store is None:
                return set()
            with store.reading() as connection:
                return paused_flows(connection)

    def lint_flow(self, name: str) -> Row:
        """What is wrong with one flow: `problems` stop it, `warnings` say what is not there yet."""
        problems: list[Row] = []
        warnings: list[Row] = []
        try:
            flow = self.catalogue.flow(name)
        except HubError as error:
            return {"flow": name, "ok": False, "problems": [error_row(error)], "warnings": []}
        problems += [
            {"code": "mapping.test_failed", "message": one.message("en"), "params": _failure(one)}
            for one in flow.mapping.run_tests()
        ]
        problems += [error_row(error) for error in self._dead_links(flow)]
        problems += [error_row(error) for error in self._bad_pair(flow)]
        for connection, kind, item in _ends(flow):
            if connection not in self.deployment.connections:
                hint = suggestion(connection, self.deployment.connections)
                missing = ConfigError("connection.unknown", name=connection, hint=hint)
                warnings.append(error_row(missing))
                continue
            try:
                self._check_end(connection, kind, item)
                if kind == "sinks":
                    require_abilities(flow, self._manifest(connection).sinks[item])
            except HubError as error:
                problems.append(error_row(error))
        return {"flow": name, "ok": not problems, "problems": problems, "warnings": warnings}

    def _dead_links(self, flow: Flow) -> list[ConfigError]:
        """References to something that no flow writes: such records would be held for ever."""
        connection = flow.target.connection
        return [
            ConfigError(
                "flow.link_target", file=flow.path, name=name, connection=connection or "hub"
            )
            for name in sorted(flow.mapping.link_entities)
            if not self.catalogue.feeding(connection, name)
        ]

    def _bad_pair(self, flow: Flow) -> list[HubError]:
        """The first thing in which a flow and its other direction do not fit together."""
        try:
            direction_of(self.catalogue, flow, self._manifest)
        except HubError as error:
            told = ("connection.unknown", "connection.unknown_stream", "connection.unknown_sink")
            return [] if error.code in told else [error]
        return []

    def explain(self, name: str, field: str | None = None) -> Row:
        """Where each target field of a flow comes from."""
        flow = self.catalogue.flow(name)
        lineage = flow.mapping.lineage()
        if field is not None and field not in lineage:
            hint = suggestion(field, lineage)
            raise ConfigError("flow.unknown_field", flow=name, field=field, hint=hint)
        group = flow.mapping.group
        return {
            "flow": name,
            "file": str(flow.path),
            "from": flow.source.ref,
            "to": flow.target.ref,
            "key": list(flow.mapping.key),
            "group_by": list(group.by) if group is not None else None,
            "version": flow.mapping.version[:12],
            "fields": [
                {
                    "field": one.field,
                    "sources": list(one.sources),
                    "steps": list(one.steps),
                    "lookups": list(one.lookups),
                }
                for one in lineage.values()
                if field in (None, one.field)
            ],
        }

    @contextmanager
    def session(self, name: str) -> Iterator[Session]:
        """A connection in use; secrets kept in the store are read, nothing is written."""
        entries = self.deployment.connections
        if name not in entries:
            raise ConfigError("connection.unknown", name=name, hint=suggestion(name, entries))
        connector = self._connector(name)
        found = resolve_connection(name, entries[name], connector, self._stored_secrets())
        clock = SystemClock()
        with Session(found, gate=LocalGate(clock), clock=clock, tokens=TokenCache(clock)) as opened:
            yield opened

    def dry_run(self, name: str, pages: int | None, samples: int = 3) -> Row:
        """Read and map up to `pages` pages of a flow; nothing is written anywhere."""
        flow = self.catalogue.flow(name)
        report = DryRun(flow, samples)
        if flow.source.event is not None:
            self._look_at_events(flow, report, pages)
            return report.close()
        with self.session(flow.source.connection) as opened, _glance(self.deployment) as store:
            reader = opened.stream(flow.source.stream_name)
            for page in islice(reader.read(None), pages):
                report.total = page.total if report.total is None else report.total
                report.complete = page.cursor is None
                keyed, keyless = split_keyless(page.rows, reader.key)
                rows = [row for _, row in keyed]
                report.add(rows, keyless, self._references(flow, rows, store))
                if flow.two_way is not None and store is not None:
                    report.decisions += self._decisions(flow, keyed, store, samples)
        return report.close()

    def _decisions(
        self, flow: Flow, rows: list[tuple[str, Row]], store: Store, most: int
    ) -> list[Row]:
        """What a two-way flow would decide about these rows; looks at both sides."""
        direction = direction_of(self.catalogue, flow, self._manifest)
        if direction is None:
            return []
        with self.session(direction.target.connection) as opened:
            sink = opened.sink(str(flow.target.sink))
            known, now = Known(self.catalogue, store), SystemClock().now()
            return Explainer(known, direction, sink, now).decisions(rows, most)

    def _look_at_events(self, flow: Flow, report: DryRun, pages: int | None) -> None:
        """Map what a run would read from the inbox."""
        name = flow.source.connection
        with self.session(name) as opened, _glance(self.deployment) as store:
            if store is None:
                return
            reader = EventReader(store, opened.connection, flow)
            after = reader.position()
            for _ in range(pages if pages is not None else sys.maxsize):
                page = reader.next_page(after)
                after, report.complete = page.upto, not page.full
                rows = [row for _, row in page.rows]
                links = self._references(flow, rows, store)
                report.add(rows, page.rejected, links, page.skipped)
                if report.complete:
                    break

    def _references(
        self, flow: Flow, rows: list[Row], store: Store | None
    ) -> dict[tuple[str, str], str]:
        """Target ids the rows point at, as far as the store knows them."""
        found: dict[tuple[str, str], str] = {}
        if store is None or not flow.mapping.has_links:
            return found
        wanted = {one for row in rows for one in flow.mapping.references(row)}
        with store.reading() as connection:
            for entity, value in wanted:
                flows = self.catalogue.feeding(flow.target.connection, entity)
                key = join_key([value])
                target = ledger.target_ids(connection, flows, [key]).get(key)
                if target is not None:
                    found[entity, value] = target
        return found

    def _check_end(self, connection: str, kind: str, item: str) -> None:
        """Raises unless the configured connection has the stream, sink or event a flow names."""
        entry = self.deployment.connections[connection]
        manifest = self._connector(connection).manifest
        if kind == "hook":
            self._check_event(connection, item, entry.get("hook") or manifest.hook)
            return
        declared = getattr(manifest, kind)
        known = {**declared, **(entry.get(kind) or {})}
        if item not in known:
            code = "connection.unknown_stream" if kind == "streams" else "connection.unknown_sink"
            hint = suggestion(item, known)
            raise ConfigError(code, connection=connection, name=item, hint=hint)

    def _check_event(self, connection: str, name: str, hook: Any) -> None:
        if hook is None:
            raise ConfigError("hook.none", connection=connection)
        checked = validate(Hook, hook, f"connections.yaml: {connection}: hook")
        if name not in checked.events:
            hint = suggestion(name, checked.events)
            raise ConfigError("hook.unknown_event", connection=connection, name=name, hint=hint)

    def _manifest(self, name: str) -> Manifest:
        """What a connection can do: as its connector says, or the entry of an open one."""
        entries = self.deployment.connections
        if name not in entries:
            raise ConfigError("connection.unknown", name=name, hint=suggestion(name, entries))
        return manifest_of(name, entries[name], self._connector(name))

    def _connector(self, connection: str) -> Connector:
        return self.discovery.get(connector_of(connection, self.deployment.connections[connection]))

    def _stored_secrets(self) -> Secrets:
        def stored(connection_name: str, field: str) -> str | None:
            with _glance(self.deployment) as store:
                if store is None:
                    return None
                with store.reading() as connection:
                    if not has_secret(connection, connection_name, field):
                        return None
                    key = load_master_key(self.deployment.private_folder / "master.key")
                    return Vault(key).get(connection, connection_name, field)

        return stored


@contextmanager
def _glance(deployment: Deployment) -> Iterator[Store | None]:
    """The store for queries beside whoever owns it; None when there is none of this schema yet."""
    url = sa.make_url(deployment.store_url)
    if url.get_backend_name() != "sqlite":
        store = open_store(deployment.store_url)
    elif url.database and Path(url.database).is_file():
        engine = sa.create_engine(url)
        sa.event.listen(engine, "connect", _queries_only)
        store = Store(engine)
    else:
        yield None
        return
    try:
        yield store if schema_version(store) == HEAD else None
    finally:
        store.close()


def _queries_only(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA query_only=ON")


# --- rows -------------------------------------------------------------------------------------


def connector_rows(discovery: Discovery) -> list[Row]:
    """Every connector found, the broken ones with their error."""
    rows = [
        {
            "name": one.name,
            "version": one.manifest.version,
            "title": {"zh": one.manifest.title.zh, "en": one.manifest.title.en},
            "streams": sorted(one.manifest.streams),
            "sinks": sorted(one.manifest.sinks),
            "folder": str(one.folder),
            "ok": True,
            "error": None,
        }
        for one in discovery.connectors.values()
    ]
    rows += [
        {
            "name": name,
            "version": None,
            "title": None,
            "streams": [],
            "sinks": [],
            "folder": None,
            "ok": False,
            "error": error_row(error),
        }
        for name, error in discovery.broken.items()
    ]
    return sorted(rows, key=lambda row: str(row["name"]))


def flow_rows(deployment: Deployment, catalogue: Catalogue) -> list[Row]:
    """Every flow found; `ready` says whether its connections are configured."""
    flows, broken = catalogue.all()
    rows: list[Row] = [
        {
            "flow": flow.id,
            "from": flow.source.ref,
            "to": flow.target.ref,
            "schedule": flow.schedule.cron if flow.schedule else None,
            "zone": flow.schedule.zone if flow.schedule else None,
            "file": str(flow.path),
            "ok": True,
            "ready": all(name in deployment.connections for name, _, _ in _ends(flow)),
            "error": None,
        }
        for flow in flows
    ]
    blank = dict.fromkeys(("from", "to", "schedule", "zone", "file"))
    rows += [
        {"flow": name, **blank, "ok": False, "ready": False, "error": error_row(error)}
        for name, error in broken.items()
    ]
    return sorted(rows, key=lambda row: str(row["flow"]))


def error_row(error: HubError) -> Row:
    """An error with what a face needs to say it in another language."""
    return {"code": error.code, "message": str(error), "params": json_ready(error.params)}


def json_ready(values: Mapping[str, Any]) -> Row:
    """`values` as plain JSON: what JSON has no form for becomes text."""
    return {str(name): _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return json_ready(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    with suppress(AttributeError):
        return str(value.isoformat()).replace("+00:00", "Z")
    return str(value)


def _failure(failure: TestFailure) -> Row:
    return {
        "example": failure.example,
        "field": failure.field,
        "expected": repr(failure.expected),
        "found": repr(failure.found),
    }


def _ends(flow: Flow) -> list[tuple[str, str, str]]:
    """(connection, part of the manifest, name) of everything outside that the flow touches."""
    kind, name = (
        ("streams", flow.source.stream) if flow.source.stream else ("hook", flow.source.event)
    )
    ends = [(flow.source.connection, kind, str(name))]
    if flow.target.connection is not None and flow.target.sink is not None:
        ends.append((flow.target.connection, "sinks", flow.target.sink))
    return ends
