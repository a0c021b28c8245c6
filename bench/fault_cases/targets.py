"""What goes wrong on the way to a target, for each kind of sink; the target's own count decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.fault_cases import child
from bench.fault_cases.rows import Row, Verdict
from bench.fault_cases.stage import Stage, open_letters, run_all, stage, target_ids
from connectors.crm.fake import FakeCrm
from hub.engine.hub import Hub
from hub.sdk.testing import FakeServer, Fault, FaultProxy, Request, Response
from hub.store.runs import Run, RunState

RECORDS = 30
_TIMES = 2
"""How many calls of each kind are hit: with one record per call, as many records."""


@dataclass(frozen=True, slots=True)
class SinkKind:
    """A way in which a repeated write is made harmless; `blind` = nobody can look."""

    name: str
    of: str
    path: str
    declared: Mapping[str, Any]
    blind: bool = False


def _found(path: str) -> dict[str, Any]:
    request = {"get": path, "params": {"external_id": "{key}"}}
    return {"request": request, "data": "data.items", "match": "external_id", "id": "id"}


_TICKETS = "/api/v1/tickets"
_TICKET = {
    "safety": "look_up",
    "key": "external_id",
    "request": {"post": _TICKETS},
    "update": {"put": _TICKETS + "/{target_id}"},
    "id": "data.id",
    "visibility_lag": "200ms",
}
KINDS = (
    SinkKind(
        "upsert",
        "customer",
        "/api/v1/customers/upsert",
        {
            "safety": "upsert",
            "key": "external_id",
            "request": {"post": "/api/v1/customers/upsert", "body": {"items": "@records"}},
            "batch": 10,
            "receipts": {
                "items": "results",
                "key": "external_id",
                "ok": {"path": "status", "in": ["created", "updated", "unchanged"]},
                "id": "id",
                "code": "code",
                "errors": [{"match": {"status": "^busy$"}, "as": "retry"}, {"else": "reject"}],
            },
        },
    ),
    SinkKind(
        "idempotency_key",
        "sale_order",
        "/api/v1/sale_orders",
        {
            "safety": "idempotency_key",
            "key": "external_id",
            "request": {"post": "/api/v1/sale_orders"},
            "update": {"put": "/api/v1/sale_orders/{target_id}"},
            "id": "data.id",
        },
    ),
    SinkKind("look_up", "ticket", _TICKETS, {**_TICKET, "find": _found(_TICKETS)}),
    SinkKind("look_up, no find", "ticket", _TICKETS, _TICKET, blind=True),
)
_ENVELOPE = {
    "ok": {"path": "code", "in": [0]},
    "code": "code",
    "message": "message",
    "errors": [
        {"match": {"code": "^409"}, "as": "duplicate"},
        {"match": {"code": "^429"}, "as": "throttle"},
        {"match": {"code": "^5"}, "as": "retry"},
        {"else": "reject"},
    ],
}


class Crm(FakeCrm):
    """A CRM that may refuse a second ticket of the same number, as most real ones do."""

    unique = False

    def _create(self, name: str, request: Request) -> Response:
        key = request.json().get("external_id")
        if self.unique and self.tables[name].with_external(key):
            return Response(409, json={"code": 40900, "message": f"{key} exists"})
        return super()._create(name, request)


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of sink under trial: a CRM of its own behind a proxy of its own."""

    kind: SinkKind
    crm: Crm
    proxy: FaultProxy

    @property
    def flow(self) -> str:
        return "send_" + "".join(c if c.isalnum() else "_" for c in self.kind.name)

    @property
    def tries(self) -> int:
        return self.proxy.count(method="POST")

    def effects(self) -> dict[str, int]:
        return self.crm.effects_of(self.kind.of)


Do = Callable[[Target], None]


@dataclass(frozen=True, slots=True)
class SinkCase:
    """A fault on the way to a target."""

    name: str
    do: Do
    kill: bool = False


def _fault(fault: Fault, **options: Any) -> Do:
    return lambda t: t.proxy.misbehave(
        fault, t.kind.path, method="POST", times=_TIMES, after=1, **options
    )


def _repeated(target: Target) -> None:
    """A proxy on the way repeats requests: the target itself must know a repetition.

    Where it neither takes a key nor refuses a second object, no sender can prevent the second.
    """
    target.crm.unique = True
    _fault(Fault.DUPLICATE_REQUEST)(target)


def _partly(target: Target) -> None:
    """Of a batch some items fail in a 2xx; of single calls, some say so in a 2xx though done."""
    if "batch" in target.kind.declared:
        target.crm.fail_items(busy=3, unanswered=4)
        target.proxy.alter(target.kind.path, lambda body, _: body)  # counts that it happened
    else:
        target.proxy.alter(
            target.kind.path,
            "replace_body",
            method="POST",
            times=_TIMES,
            after=1,
            body={"code": 50000, "message": "internal error"},
        )


SINK_CASES = [
    SinkCase("timeout before commit", _fault(Fault.SILENCE)),
    SinkCase("timeout after commit", _fault(Fault.TIMEOUT_AFTER)),
    SinkCase("lost answer after commit", _fault(Fault.LOST_ANSWER)),
    SinkCase("cut answer after commit", _fault(Fault.CUT_BODY)),
    SinkCase("reset before commit", _fault(Fault.RESET)),
    SinkCase("duplicate answer", _fault(Fault.DUPLICATE_ANSWER)),
    SinkCase("duplicate request", _repeated),
    SinkCase("partial failure in a 2xx", _partly),
    SinkCase("500 after commit", _fault(Fault.STATUS_AFTER)),
    SinkCase("500 before commit", _fault(Fault.STATUS, status=500)),
    SinkCase("HTML 200 before commit", _fault(Fault.HTML_200)),
    SinkCase("429", _fault(Fault.TOO_MANY_REQUESTS)),
    SinkCase("429 with Retry-After", _fault(Fault.TOO_MANY_REQUESTS, retry_after=1)),
    SinkCase("kill -9 after send", _fault(Fault.TIMEOUT_AFTER), kill=True),
]


@contextmanager
def _source(place: Stage) -> Iterator[list[str]]:
    """A source that does nothing wrong; gives the keys it has."""
    rows = [{"id": f"R{n:03d}", "name": f"记录 {n}"} for n in range(RECORDS)]
    with FakeServer() as fake:
        fake.route("GET", "/rows", lambda _: Response(json={"code": 0, "rows": rows}))
        place.connect(
            "source",
            "rest",
            {"base_url": fake.url},
            envelope={"ok": {"path": "code", "in": [0]}},
            streams={"rows": {"key": ["id"], "request": {"get": "/rows"}, "data": "rows"}},
        )
        yield [row["id"] for row in rows]


@contextmanager
def _target(place: Stage, kind: SinkKind) -> Iterator[Target]:
    with Crm() as crm, FaultProxy(crm.url) as proxy:
        target = Target(kind, crm, proxy)
        name = "to_" + target.flow
        config = {**crm.config(), "base_url": proxy.url}
        parts = {"auth": {"kind": "bearer", "token": "{token}"}, "envelope": _ENVELOPE}
        place.connect(
            name, "rest", config, secrets=["token"], sinks={"it": dict(kind.declared)}, **parts
        )
        fields = {"code": "id", "name": "name"}
        place.flow(target.flow, "source.rows", f"{name}.it", key=["code"], fields=fields)
        yield target


def try_sinks(case: SinkCase, store: str = "sqlite") -> list[Row]:
    """The case for each kind of sink at once, on one deployment; one row per kind."""
    with ExitStack() as opened:
        place = opened.enter_context(stage(store))
        keys = opened.enter_context(_source(place))
        targets = [opened.enter_context(_target(place, kind)) for kind in KINDS]
        began = time.monotonic()
        for target in targets:
            case.do(target)
        flows = [target.flow for target in targets]
        caught = not case.kill or _killed(place, targets, flows)
        with place.hub() as hub:
            runs = dict(zip(flows, run_all(hub, *flows), strict=True))
            return [
                _judged(case, target, keys, hub, runs[target.flow], began, caught=caught)
                for target in targets
            ]


def _killed(place: Stage, targets: list[Target], flows: list[str]) -> bool:
    """Kill the sender while every target has done something and not yet answered."""
    place.limit(deadline="20s")
    process = child.start(place.folder, *flows)
    caught = child.wait_for(lambda: all(target.proxy.misbehaved >= 1 for target in targets))
    caught = caught and child.wait_for(lambda: all(target.effects() for target in targets))
    time.sleep(0.3)
    child.kill(process)
    for target in targets:
        target.proxy.behave()
    place.limit(deadline="0.6s")
    return caught


def _judged(
    case: SinkCase,
    target: Target,
    keys: list[str],
    hub: Hub,
    run: Run,
    began: float,
    *,
    caught: bool,
) -> Row:
    effects, letters = target.effects(), open_letters(hub, target.flow)
    asked = {letter["source_key"] for letter in letters}
    verdict, note = _verdict(target, keys, asked, run)
    verdict, note = _ids_fit(target, hub, verdict, note)
    if not caught or not target.proxy.misbehaved:
        verdict, note = Verdict.NOT_TRIED, ""
    return Row(
        fault=case.name,
        where=target.kind.name,
        verdict=verdict,
        expected=len(keys),
        found=len(effects.keys() & set(keys)),
        most_effects=max(effects.values(), default=0),
        tries=target.tries,
        seconds=round(time.monotonic() - began, 2),
        code=letters[0]["error_code"] if letters else run.error_code or "",
        note=note or (f"{len(letters)} open" if letters else ""),
    )


def _verdict(target: Target, keys: list[str], asked: set[str], run: Run) -> tuple[Verdict, str]:
    effects = target.effects()
    doubled = [key for key, number in effects.items() if number > 1]
    if doubled or target.crm.duplicates(target.kind.of):
        return Verdict.DOUBLED, ", ".join(doubled[:3])
    if set(effects) - set(keys):
        return Verdict.INVENTED, ""
    lost = set(keys) - set(effects) - asked
    if lost:
        return Verdict.LOST, ", ".join(sorted(lost)[:3])
    if run.state != RunState.DONE:
        return Verdict.WRONG, f"run {run.state}"
    if not asked:
        return Verdict.EXACTLY_ONCE, ""
    if not target.kind.blind:
        return Verdict.WRONG, "a person is asked although the target can tell"
    if target.tries > len(keys):
        return Verdict.WRONG, "sent again although nobody could tell"
    return Verdict.REVIEW, ""


def _ids_fit(target: Target, hub: Hub, verdict: Verdict, note: str) -> tuple[Verdict, str]:
    """What the hub takes each record for must be that record: the next version goes there."""
    rows = target.crm.tables[target.kind.of].rows
    for key, found in target_ids(hub, target.flow).items():
        if found not in rows or rows[found].external_id != key:
            return Verdict.INVENTED, f"{key} is taken for {found}"
    return verdict, note
