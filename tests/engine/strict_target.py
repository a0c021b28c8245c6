"""A target without mercy: it fails in every way a call can fail, and judges what it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.sdk.errors import AuthError, OutcomeUnknown, TransientError
from hub.sdk.records import Op, Outcome, Receipt, Safety, Write
from tests.engine.paper import Died, ScriptedSink

FAULTS = (
    "throttled",
    "down",
    "unreachable",
    "auth",
    "cut_before",
    "cut_after",
    "partly",
    "unknown_partly",
    "refuses",
    "dies_before",
    "dies_after",
)


@dataclass
class Target(ScriptedSink):
    """A target without mercy: what is created twice is there twice, and it forgets no mistake."""

    faults: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    taken: dict[str, list[int]] = field(default_factory=dict)
    seen_keys: set[str] = field(default_factory=set)
    in_doubt: set[str] = field(default_factory=set)

    def repeatable(self, op: str, target_id: str | None) -> bool:
        return self.safety is not Safety.LOOK_UP or op != Op.UPSERT or target_id is not None

    def write(self, writes: Sequence[Write]) -> list[Receipt]:
        fault = self.faults.pop(0) if self.faults else None
        if fault in _RAISES_BEFORE:
            raise _RAISES_BEFORE[fault]()
        if fault in ("cut_before", "dies_before"):
            self._doubt(writes)
            raise _LOST[fault]()
        receipts = [self._fate(write, fault, at) for at, write in enumerate(writes)]
        if fault in ("cut_after", "dies_after"):
            self._doubt(writes)
            raise _LOST[fault]()
        return receipts

    def find(self, key: str) -> str | None:
        self.in_doubt.discard(key)
        return super().find(key)

    def _doubt(self, writes: Sequence[Write]) -> None:
        creations = [one for one in writes if not self.repeatable(one.op, one.target_id)]
        self.in_doubt.update(one.key for one in creations)

    def _fate(self, write: Write, fault: str | None, at: int) -> Receipt:
        if fault == "partly" and at % 2:
            return Receipt(write.key, Outcome.RETRY, reason="busy")
        if write.op is not Op.UPSERT:
            self._do(write)
            return Receipt(write.key, Outcome.WRITTEN)
        if fault == "refuses" and at == 0 and write.idempotency_key not in self.seen_keys:
            return Receipt(write.key, Outcome.REJECTED, code="no", reason="no")
        self._take(write)
        if fault == "unknown_partly" and at % 2 == 0:
            self._doubt([write])
            return Receipt(write.key, Outcome.UNKNOWN, reason="no word")
        return Receipt(write.key, Outcome.WRITTEN, self.ids[write.key])

    def _take(self, write: Write) -> None:
        value, history = int(write.data["value"]), self.taken.setdefault(write.key, [])
        if self.safety is Safety.IDEMPOTENCY_KEY:
            if write.idempotency_key in self.seen_keys:
                return
            self.seen_keys.add(write.idempotency_key)
        creates = self.safety is not Safety.UPSERT and write.target_id is None
        if creates and write.key in self.objects:
            self.wrong.append(f"{write.key} made twice")
        if creates and self.safety is Safety.LOOK_UP and write.key in self.in_doubt:
            self.wrong.append(f"{write.key} sent again blindly")
        if write.target_id is not None and write.target_id != self.ids.get(write.key):
            self.wrong.append(f"{write.key} went to {write.target_id}")
        if history and value < history[-1]:
            self.wrong.append(f"{write.key}: {value} came behind {history[-1]}")
        if not history or value != history[-1] or not self.active.get(write.key):
            history.append(value)
        elif self.safety is Safety.IDEMPOTENCY_KEY:
            self.wrong.append(f"{write.key}: {value} twice under two keys")
        self._do(write)


_RAISES_BEFORE: dict[str, Callable[[], BaseException]] = {
    "throttled": lambda: TransientError("http.throttled", retry_after=7.0, status=429),
    "down": lambda: TransientError("http.status", status=503),
    "unreachable": lambda: TransientError("http.unreachable", reason="refused"),
    "auth": lambda: AuthError("auth.refused", reason="no"),
}
_LOST: dict[str, Callable[[], BaseException]] = {
    "cut_before": lambda: OutcomeUnknown("http.no_answer", reason="cut"),
    "cut_after": lambda: OutcomeUnknown("http.no_answer", reason="cut"),
    "dies_before": lambda: Died("in the call"),
    "dies_after": lambda: Died("in the call"),
}
