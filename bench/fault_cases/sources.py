"""What a source does wrong, and whether the target equals it in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.fault_cases import child
from bench.fault_cases.origins import Origin, shop, u8
from bench.fault_cases.rows import Row, Verdict
from bench.fault_cases.stage import Stage, is_marked_read, open_letters, run_all, stage
from connectors.crm.fake import FakeCrm
from hub.engine.hub import Hub
from hub.sdk.testing import Fault, Request
from hub.store.runs import Run, RunState

FLOW = "read"
_ALWAYS = 99

Do = Callable[[Origin], None]


@dataclass(frozen=True, slots=True)
class SourceCase:
    """A fault of a source; `do` orders it, `happened` says whether it took place."""

    name: str
    source: str
    do: Do
    happened: Callable[[Origin], bool] = lambda origin: origin.misbehaved
    stream: str = "items"
    kills: int = 0


def _fault(fault: Fault, *, times: int = 1, after: int = 1, **options: Any) -> Do:
    """On the wire, from the second page on."""
    return lambda o: o.proxy.misbehave(fault, o.path, times=times, after=after, **options)


def _alter(name: str, *, times: int = 1, after: int = 1, **options: Any) -> Do:
    """In what the vendor says, from the second page on; `at` is put before its rows."""
    return lambda o: o.fake.alter(o.path, name, times=times, after=after, **options)


def _rows(name: str, **options: Any) -> Do:
    return lambda o: o.fake.alter(o.path, name, after=1, at=o.list_at, **options)


def _shop_drift(kind: str) -> SourceCase:
    return SourceCase(
        f"row {kind} between pages",
        "rest",
        lambda o: o.fake.drift(kind, 2),
        lambda o: o.fake.drifted,
    )


def _u8_drift(kind: str) -> SourceCase:
    def happened(origin: Origin) -> bool:
        return len(origin.rows()) != 450

    do: Do = lambda o: o.fake.drift("customer", kind, 1)  # noqa: E731 (one of many)
    return SourceCase(f"row {kind} between pages", "U8", do, happened)


def _growing(body: Any, request: Request) -> Any:
    """A total that is another one on the first page of every pass."""
    return body if request.query["page"] != "1" else {**body, "total": body["total"] + 1}


_REST: dict[str, Do] = {
    "429 with Retry-After": _fault(Fault.TOO_MANY_REQUESTS, retry_after=1),
    "429 without Retry-After": _fault(Fault.TOO_MANY_REQUESTS),
    "503": _fault(Fault.STATUS, status=503),
    "503 with Retry-After": _fault(Fault.STATUS, status=503, retry_after=1),
    "503 for good": _fault(Fault.STATUS, times=_ALWAYS, status=503),
    "reset": _fault(Fault.RESET),
    "closed without an answer": _fault(Fault.EARLY_CLOSE),
    "cut body": _fault(Fault.CUT_BODY),
    "cut chunk": _fault(Fault.CUT_CHUNK),
    "garbage": _fault(Fault.GARBAGE),
    "silence": _fault(Fault.SILENCE),
    "silence for good": _fault(Fault.SILENCE, times=_ALWAYS),
    "drip, a byte each 0.1 s": _fault(Fault.DRIP, interval=0.1),
    "slow headers": _fault(Fault.SLOW_HEADERS, interval=0.1),
    "slow body, in time": _fault(Fault.SLOW_BODY, rate=20_000),
    "2 MB header": _fault(Fault.HUGE_HEADER),
    "2 MB header for good": _fault(Fault.HUGE_HEADER, times=_ALWAYS),
    "gzip bomb": _fault(Fault.GZIP_BOMB),
    "redirect loop": _fault(Fault.REDIRECT_LOOP, times=_ALWAYS),
    "HTML 200": _fault(Fault.HTML_200),
    "HTML 200, said to be JSON": _fault(Fault.HTML_200, media_type="application/json"),
    "empty body": _fault(Fault.EMPTY_BODY),
    "GBK": _fault(Fault.GBK_JSON),
    "answer twice": _fault(Fault.DUPLICATE_ANSWER, times=3, after=0),
    "wrong total, too high": _alter("put", times=_ALWAYS, after=0, at="total", value=451),
    "wrong total, too low": _alter("put", times=_ALWAYS, after=0, at="total", value=449),
    "wrong total, ends with a page": _alter("put", times=_ALWAYS, after=0, at="total", value=300),
    "total of 0": _alter("put", times=_ALWAYS, after=0, at="total", value=0),
    "total that is no number": _alter("put", at="total", value="many"),
    "source that never stands still": lambda o: o.fake.alter("/items", _growing, times=_ALWAYS),
    "one empty page": _rows("empty_rows"),
    "duplicate page": _alter("repeat_previous", times=2, after=0),
    "row missing from a page": _rows("drop_row"),
}
_U8: dict[str, Do] = {
    "200 + throttle code": _alter("throttle"),
    "200 + expired token": _alter("expired_token"),
    "200 + agent offline": _alter("agent_offline"),
    "200 + not authorised": _alter("not_authorised"),
    "one empty page": _alter("empty_page"),
    "duplicate page": _alter("repeat_previous", times=2, after=0),
    "another page than asked for": _alter("wrong_page"),
    "wrong total, too high": _alter("wrong_total", times=_ALWAYS, after=0),
    "wrong total, too low": _alter("wrong_total", times=_ALWAYS, after=0, by=-1),
    "wrong total on one page": _alter("wrong_total"),
    "lost data path": _alter("drop", at="customer"),
    "bad row: no object": _rows("bad_row"),
    "bad row: a field is missing": _rows("change_row", values={"name": None}),
    "bad row: without its key": _rows("change_row", values={"code": None}),
}

SOURCE_CASES = [
    *(SourceCase(name, "rest", do) for name, do in _REST.items()),
    *(SourceCase(name, "U8", do) for name, do in _U8.items()),
    SourceCase("one empty page, no total", "rest", _rows("empty_rows"), stream="countless"),
    SourceCase(
        "cursor going back", "rest", _alter("put", at="next", value="c100"), stream="marked"
    ),
    _shop_drift("insert"),
    _shop_drift("delete"),
    _u8_drift("insert"),
    _u8_drift("delete"),
    SourceCase("kill -9 + rerun", "rest", lambda _: None, lambda _: True, kills=3),
    SourceCase("kill -9 + rerun", "U8", lambda _: None, lambda _: True, kills=3),
]


def try_source(case: SourceCase, store: str = "sqlite") -> Row:
    """Run the case on a deployment of its own."""
    with stage(store) as place, FakeCrm() as crm:
        place.connect("crm", "crm", crm.config(), secrets=["token"])
        opened = u8(place) if case.source == "U8" else shop(place, case.stream)
        with opened as origin:
            trial = _Trial(case, place, origin, crm)
            return trial.killed() if case.kills else trial.run()


class _Trial:
    """One case under way."""

    def __init__(self, case: SourceCase, place: Stage, origin: Origin, crm: FakeCrm) -> None:
        self._case = case
        self._place = place
        self._origin = origin
        self._crm = crm
        self._had = {key: {name} for key, name in origin.rows().items()}
        self._began = time.monotonic()

    def run(self) -> Row:
        """A run with the fault; when it ends loud, another one without."""
        self._case.do(self._origin)
        with self._place.hub() as hub:
            return self._judged(hub, run_all(hub, FLOW)[0])

    def killed(self) -> Row:
        """Kill the process while it waits for a page, later each time, then run to the end."""
        for number in range(self._case.kills):
            wanted = self._origin.tries + 1 + min(number, 1)
            self._origin.proxy.misbehave(Fault.SILENCE, self._origin.path, after=min(number, 1))
            process = child.start(self._place.folder, FLOW)
            waiting = child.wait_for(partial(self._has_asked, wanted))
            time.sleep(0.1 * number)
            child.kill(process)
            self._origin.behave()
            if not waiting:
                return self._row(Verdict.NOT_TRIED)
        with self._place.hub() as hub:
            return self._judged(hub, run_all(hub, FLOW)[0])

    def _has_asked(self, times: int) -> bool:
        return self._origin.tries >= times

    # --- the verdict --------------------------------------------------------------------------

    def _judged(self, hub: Hub, run: Run) -> Row:
        if not self._case.happened(self._origin):
            return self._row(Verdict.NOT_TRIED, run)
        if not run.finished:
            return self._row(Verdict.WRONG, run, f"still {run.state}")
        for key, name in self._origin.rows().items():
            self._had.setdefault(key, set()).add(name)
        if (wrong := self._invented_or_doubled()) is not None:
            return self._row(wrong, run)
        if run.state == RunState.DONE:
            return self._done(hub, run)
        if not run.error_code or not run.error_text or is_marked_read(hub, FLOW):
            return self._row(Verdict.WRONG, run, "no reason, or marked as read")
        return self._repaired(hub, run, run.error_code)

    def _done(self, hub: Hub, run: Run) -> Row:
        """A run that says it is done: whatever is missing must lie before a person."""
        missing = self._missing()
        letters = open_letters(hub, FLOW)
        if not missing and not letters:
            return self._row(Verdict.COMPLETE, run)
        named = [letter for letter in letters if letter["error_code"]]
        if len(missing) != len(named):
            return self._row(Verdict.LOST, run, f"missing: {', '.join(sorted(missing)[:3])}")
        keyless = [one for one in named if one["source_key"] not in missing]
        if len(keyless) + len(missing & {one["source_key"] for one in named}) != len(missing):
            return self._row(Verdict.LOST, run, "the dead letters are about other rows")
        return self._repaired(hub, run, named[0]["error_code"], "dead letter")

    def _repaired(self, hub: Hub, run: Run, code: str, note: str = "") -> Row:
        """The next run, with a source that behaves again, must put everything right."""
        self._origin.behave()
        (again,) = run_all(hub, FLOW)
        wrong = self._invented_or_doubled()
        if wrong is not None:
            return self._row(wrong, again, code=code)
        if again.state != RunState.DONE or self._missing() or open_letters(hub, FLOW):
            return self._row(Verdict.UNREPAIRED, again, again.error_text or "", code=code)
        return self._row(Verdict.LOUD, run, note, code=code)

    def _held(self) -> dict[str, str]:
        rows = self._crm.tables["customer"].rows.values()
        return {row.external_id: row.data["name"] for row in rows}

    def _missing(self) -> set[str]:
        held = self._held()
        return {key for key, name in self._origin.rows().items() if held.get(key) != name}

    def _invented_or_doubled(self) -> Verdict | None:
        if any(name not in self._had.get(key, ()) for key, name in self._held().items()):
            return Verdict.INVENTED
        if self._crm.duplicates("customer") or self._most_effects() > 1:
            return Verdict.DOUBLED
        return None

    def _most_effects(self) -> int:
        return max(self._crm.effects_of("customer").values(), default=0)

    def _row(
        self, verdict: Verdict, run: Run | None = None, note: str = "", code: str | None = None
    ) -> Row:
        if code is None:
            code = (run.error_code if run is not None else None) or ""
        return Row(
            fault=self._case.name,
            where=self._case.source,
            verdict=verdict,
            expected=len(self._origin.rows()),
            found=len(self._held().keys() & self._origin.rows().keys()),
            most_effects=self._most_effects(),
            tries=self._origin.tries,
            seconds=round(time.monotonic() - self._began, 2),
            code=code,
            note=note,
        )
