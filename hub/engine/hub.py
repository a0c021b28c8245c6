"""The hub: an opened deployment with its store, its connectors and its durable jobs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.engine.breaker import StoreBreaker
from hub.engine.changes import fingerprint
from hub.engine.delivery import drain_sink
from hub.engine.deployment import Deployment, open_deployment
from hub.engine.durable import Durable
from hub.engine.flows import Catalogue
from hub.engine.gate import gate_for
from hub.engine.intake import Intake
from hub.engine.renewal import wake_waiting
from hub.engine.replay import replay_letters
from hub.engine.sweep import Sweeper, sweep
from hub.engine.sync import run_flow
from hub.engine.telemetry_stores import TelemetryStores
from hub.engine.unhold import release_held
from hub.engine.verify import Verifications
from hub.engine.webhooks.endpoints import Endpoints
from hub.engine.webhooks.job import send_webhooks
from hub.sdk.auth import TokenCache
from hub.sdk.clock import Clock, SystemClock
from hub.sdk.connection import Connection, connector_of, resolve_connection
from hub.sdk.errors import ConfigError
from hub.sdk.http import quiet_http_logs
from hub.sdk.loading import suggestion
from hub.sdk.registry import Discovery, discover
from hub.sdk.session import Session
from hub.store.database import Patience, Store, open_store
from hub.store.migrate import migrate, require_schema
from hub.store.secrets import Vault, has_secret, load_master_key


class Hub:
    """Everything a job or a face of the hub needs. Use `open_hub`."""

    def __init__(self, deployment: Deployment, store: Store, clock: Clock) -> None:
        self.deployment = deployment
        self.store = store
        self.clock = clock
        self.discovery: Discovery = discover(deployment.folder / "connectors")
        self.catalogue = Catalogue(deployment.mapping_folders)
        self.gate = gate_for(store, clock)
        self.breaker = StoreBreaker(store, clock)
        self.tokens = TokenCache(clock)
        self.endpoints = Endpoints(deployment.settings.webhooks, deployment.folder)
        self.telemetry = TelemetryStores(deployment)
        self.accepting: Callable[[], dict[str, Any]] | None = None
        """What this process accepts of telemetry, for the operating view; None: nothing."""
        self.stopping = False
        self._files = fingerprint(deployment)
        self._sessions: dict[str, Session] = {}
        self._retired: list[Session] = []
        self._lock = threading.Lock()
        self._sweeper = Sweeper(self)
        self.verifications = Verifications()
        self.intake = Intake(self)
        self.durable = Durable(
            store,
            {
                "run_flow": lambda run_id: run_flow(self, run_id),
                "drain_sink": lambda sink_ref, wake=0: drain_sink(self, sink_ref, wake),
                "send_webhooks": lambda subscription_id: send_webhooks(self, subscription_id),
                "replay_letters": lambda replay_id, turn: replay_letters(self, replay_id, turn),
                "release_held": lambda flow_id: release_held(self, flow_id),
            },
            grace=deployment.settings.engine.grace,
            jobs_at_once=deployment.settings.engine.jobs,
        )

    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    def connection(self, name: str) -> Connection:
        """The configured account, secrets resolved. Raises ConfigError."""
        entries = self.deployment.connections
        if name not in entries:
            raise ConfigError("connection.unknown", name=name, hint=suggestion(name, entries))
        entry = entries[name]
        connector = self.discovery.get(connector_of(name, entry))
        return resolve_connection(name, entry, connector, self._stored_secret)

    def session(self, name: str) -> Session:
        """An open session of the connection, shared by all jobs of this process."""
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Session(
                    self.connection(name),
                    gate=self.gate,
                    clock=self.clock,
                    tokens=self.tokens,
                    breaker=self.breaker,
                )
            return self._sessions[name]

    def opened_session(self, name: str) -> Session | None:
        """The session of the connection when one is open; touches no file and no database."""
        return self._sessions.get(name)

    def trial(self, name: str) -> Session:
        """A session of its own whose calls are made even while the connection is left alone."""
        connection = self.connection(name)
        return Session(connection, gate=self.gate, clock=self.clock, tokens=self.tokens)

    def renew_session(self, name: str) -> None:
        """From its next job on, the connection uses its present secrets and logs in anew."""
        with self._lock:
            old = self._sessions.pop(name, None)
            if old is not None:
                self._retired.append(old)  # a job may be using it
                self.tokens.forget(old.connection.account)
        self.breaker.forgive(name)
        wake_waiting(self, name)

    def renew_if_changed(self, name: str) -> bool:
        """After refused credentials: another process may have been given new ones.

        True when it was; the connection's next job uses them.
        """
        with self._lock:
            old = self._sessions.get(name)
        if old is None or dict(old.connection.config) == dict(self.connection(name).config):
            return False
        self.renew_session(name)
        return True

    def refresh(self) -> None:
        """Take over edited connections, connectors, flows and lookup tables.

        Jobs under way keep what they began with. Raises ConfigError, and changes nothing, while
        `connections.yaml` is broken.
        """
        found = fingerprint(self.deployment)
        if found == self._files:
            return
        self.deployment = open_deployment(self.deployment.folder)
        self.discovery = discover(self.deployment.folder / "connectors")
        self.catalogue = Catalogue(self.deployment.mapping_folders)
        self._files = found
        for name in list(self._sessions):
            self.renew_session(name)

    def vault(self) -> Vault:
        """The secrets kept in the store."""
        return Vault(load_master_key(self.deployment.private_folder / "master.key"))

    def start_jobs(self, kind: str = "worker") -> None:
        """Run durable jobs in this process, and queue whatever an earlier life left undone."""
        _calm_collector()
        if self.store.embedded:
            self.breaker.forget_probes()
        self.durable.start(kind)
        sweep(self)
        self._sweeper.start()

    def close(self) -> None:
        """Stop jobs, close connections, give up the store."""
        self.stopping = True
        self.intake.close()
        self.verifications.close()
        self._sweeper.stop()
        self.durable.stop()
        for session in [*self._sessions.values(), *self._retired]:
            session.close()
        self.gate.close()
        self.telemetry.close()
        self.store.close()

    def _stored_secret(self, connection_name: str, field: str) -> str | None:
        with self.store.reading() as connection:
            if not has_secret(connection, connection_name, field):
                return None
            return self.vault().get(connection, connection_name, field)


def _calm_collector() -> None:
    """A page is thousands of short-lived dicts: the default collector would walk them in vain."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextmanager
def open_hub(
    folder: Path,
    *,
    jobs: bool = False,
    clock: Clock | None = None,
    patience: Patience | None = None,
) -> Iterator[Hub]:
    """The hub of the deployment in `folder`; with `jobs` this process also works.

    Raises ConfigError naming what is wrong: no deployment, store in use or out of reach.
    """
    quiet_http_logs()
    deployment = open_deployment(folder)
    store = open_store(
        deployment.store_url, standstill=deployment.settings.engine.grace, patience=patience
    )
    try:
        migrate(store)
        require_schema(store)
        hub = Hub(deployment, store, clock or SystemClock())
    except BaseException:
        store.close()
        raise
    try:
        if jobs:
            hub.start_jobs()
        yield hub
    finally:
        hub.close()
