"""One comparison of a flow, in a thread of its own, and the newest one of every flow."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from hub.engine.flows import Flow
from hub.engine.replay import lock_beside_runs
from hub.engine.verify import sides
from hub.engine.verify.judge import DIFFERENT, DUPLICATE, EXTRA, MISSING, Judge
from hub.engine.verify.shelf import Difference, Shelf, Side
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.sinks import SinkWriter
from hub.store import ledger
from hub.store.rows import chunks, from_ms
from hub.store.runs import set_flow_state, unfinished_run

if TYPE_CHECKING:
    from hub.engine.hub import Hub

MOST_FINDS = 1000
"""How many records are looked up one by one where the target cannot be listed."""

EXAMPLES = 5
_AT_ONCE = 500
_KINDS = (MISSING, EXTRA, DIFFERENT, DUPLICATE)
_REPAIRED = (MISSING, DIFFERENT)
_REPAIRABLE = ("never_sent", "stopped", "not_read", "drifted", "inactive")

log = logging.getLogger("hub.engine.verify")


class Verification:
    """Compares source and target of one flow; `report` says how far it is at any time."""

    def __init__(self, hub: Hub, flow: Flow, *, repair: bool, most_finds: int) -> None:
        sides.require_stream(flow)
        self._hub = hub
        self._flow = flow
        self._repair = repair
        self._most_finds = most_finds
        self._sink = _sink_of(hub, flow)
        self._how = _way(flow, self._sink)
        self._shelf = Shelf()
        self._read: Counter[Side] = Counter()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {kind: [] for kind in _KINDS}
        self._complete = True
        self._repaired: int | None = None
        self._state = "reading"
        self._error: HubError | None = None
        self._began = hub.now_ms()
        self._ended: int | None = None
        self._busy = False
        self._thread = threading.Thread(target=self._work, name="hub-verify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._state not in ("done", "failed")

    def close(self) -> None:
        """Wait for the thread, which ends with its page when the hub stops, and forget all."""
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._shelf.close()

    def differences(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Differences behind number `after`; none before the comparison is done."""
        return self._shelf.differences(after, limit) if self._state == "done" else []

    def report(self) -> dict[str, Any]:
        """How far it is, and what was found: plain JSON."""
        error = self._error
        ended = from_ms(self._ended)
        began = from_ms(self._began)
        return {
            "flow": self._flow.id,
            "from": self._flow.source.ref,
            "to": self._flow.target.ref,
            "state": self._state,
            "checked_by": self._how,
            "complete": self._complete,
            "run_on_its_way": self._busy,
            "read": {"source": self._read[Side.WANTED], "target": self._read[Side.THERE]},
            "counts": {
                name: self._counts[name]
                for name in ("equal", *_KINDS, "stopped", "other_flows", "unlinked")
            },
            "examples": self._examples,
            "repaired": self._repaired,
            "started_at": None if began is None else began.isoformat().replace("+00:00", "Z"),
            "finished_at": None if ended is None else ended.isoformat().replace("+00:00", "Z"),
            "error": None
            if error is None
            else {"code": error.code, "message": str(error), "params": _texts(error.params)},
        }

    # --- the work -------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._compare()
            self._state = "done"
        except HubError as error:
            self._error, self._state = error, "failed"
        except Exception as error:
            if not self._hub.stopping:  # closed sockets are no failure of the comparison
                log.exception("comparison of %s failed", self._flow.id)
            kind = type(error).__name__
            self._error = HubError("verify.internal", flow=self._flow.id, kind=kind)
            self._state = "failed"
        finally:
            self._ended = self._hub.now_ms()

    def _compare(self) -> None:
        hub, flow, shelf = self._hub, self._flow, self._shelf
        with hub.store.reading() as connection:
            self._busy = unfinished_run(connection, flow.id) is not None
        verify = None if self._sink is None else self._sink.sink.verify
        fields = sides.fields_of(flow, [] if verify is None else verify.ignore)
        # The ledger first: what is noted after the source was read would look like a difference.
        sides.load_ledger(hub, flow, shelf)
        sides.load_source(hub, flow, shelf, fields, self._told)
        if self._sink is None:
            sides.load_records(hub, flow, shelf, fields, self._told)
        elif verify is not None:
            sides.load_target(hub, flow, shelf, verify, fields, self._told)
        self._state = "comparing"
        if self._how == "find":
            self._look_up()
        else:
            judge = Judge(flow.id, flow.target.delete, fields)
            for found in judge.differences(shelf):
                self._note(found)
            self._counts.update(judge.counts)
        shelf.commit()
        if self._repair:
            self._repaired = self._forget()

    def _told(self, side: Side, rows: int) -> None:
        self._read[side] = rows

    def _note(self, found: Difference) -> None:
        self._shelf.note([found])
        self._counts[found.kind] += 1
        examples = self._examples[found.kind]
        if len(examples) < EXAMPLES:
            examples.append(found.key)

    def _look_up(self) -> None:
        """Ask the target for one record after the other, as many as are allowed."""
        assert self._sink is not None  # noqa: S101 (the way is `find`)
        for number, (key, source_key) in enumerate(self._shelf.wanted_keys()):
            sides.hub_alive(self._hub)
            if number == self._most_finds:
                self._complete = False
                return
            if self._sink.find(key) is None:
                self._note(Difference(MISSING, key, source_key, "not_found"))
            else:
                self._counts["equal"] += 1
            self._read[Side.THERE] += 1

    def _forget(self) -> int:
        """Let the next run write again what is missing or different, and read everything for it."""
        reasons = (*_REPAIRABLE, "not_found")
        found = list(self._shelf.repairable(_REPAIRED, reasons))
        if not found:
            return 0
        flow_id = self._flow.id
        lost = [key for kind, key in found if kind == MISSING]
        with self._hub.store.transaction() as connection:
            lock_beside_runs(connection, self._flow)
            for part in chunks([key for _, key in found], _AT_ONCE):
                ledger.forget_content(connection, flow_id, part)
            for part in chunks(lost, _AT_ONCE):
                ledger.forget_target_ids(connection, flow_id, part)
            set_flow_state(connection, flow_id, watermark_at=None)
        return len(found)


class Verifications:
    """The newest comparison of every flow in this process."""

    def __init__(self) -> None:
        self._by_flow: dict[str, Verification] = {}
        self._lock = threading.Lock()

    def start(
        self, hub: Hub, flow: Flow, *, repair: bool, most_finds: int = MOST_FINDS
    ) -> Verification:
        """Begin a comparison; one that is under way goes on instead."""
        with self._lock:
            current = self._by_flow.get(flow.id)
            if current is not None and current.running:
                return current
            made = Verification(hub, flow, repair=repair, most_finds=most_finds)
            if current is not None:
                current.close()
            self._by_flow[flow.id] = made
            made.start()
            return made

    def of(self, flow_id: str) -> Verification:
        """The newest comparison of the flow. Raises ConfigError when there is none."""
        with self._lock:
            if flow_id not in self._by_flow:
                raise ConfigError("verify.none", flow=flow_id)
            return self._by_flow[flow_id]

    def close(self) -> None:
        """End all; the hub is stopping."""
        with self._lock:
            for one in self._by_flow.values():
                one.close()
            self._by_flow.clear()


def _sink_of(hub: Hub, flow: Flow) -> SinkWriter | None:
    if flow.target.connection is None or flow.target.sink is None:
        return None
    return hub.session(flow.target.connection).sink(flow.target.sink)


def _way(flow: Flow, sink: SinkWriter | None) -> str:
    """How the target is looked at. Raises ConfigError when there is no way to."""
    if sink is None:
        return "records"
    if sink.sink.verify is not None:
        return "stream"
    if sink.can_find:
        return "find"
    raise ConfigError("verify.no_way", flow=flow.id, sink=flow.target.ref)


def _texts(params: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items()}
