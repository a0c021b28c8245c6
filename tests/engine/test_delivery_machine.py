"""Whatever happens in whatever order, a delivery ends with one effect per version, newest last.

A machine drives one flow on paper (paper.py): values change, the target fails in every way a call
can fail, the process dies between any two commits, people replay, decide and discard. The target
judges each write as it comes; the end says whether anything was lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.engine import delivery, settlement
from hub.engine.planning import plan_run
from hub.engine.replay import replay_letters
from hub.engine.replay_requests import Wanted, ask_replay, ask_replays, discard_one
from hub.engine.sweep import sweep
from hub.engine.sync import run_flow
from hub.sdk.records import Safety
from hub.store.dead_letters import LetterState
from hub.store.deliveries import sinks_to_visit
from hub.store.letter_queries import LetterFilter
from hub.store.replays import unfinished_replays
from hub.store.runs import RunState, unfinished_runs
from hub.store.tables import dead_letter, intent, metadata
from hub.store.tables import delivery as wishes
from tests.engine import paper
from tests.engine.paper import Died, PaperHub, dying, write_flow
from tests.engine.strict_target import FAULTS, Target

FLOW = "plain"
KEYS = ("A", "B", "C", "D")
POINTS = ("delivery.before_commit", "delivery.settled", "delivery.claimed", "delivery.sent",
          "page.before_commit", "page.after_commit",
          "replay.before_commit", "replay.after_commit")  # fmt: skip


class _Inline:
    """Calls at once, in order: hypothesis must see the same run twice."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> _Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*args))  # whoever dies in the call dies here
        return done

    def map(self, call: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]:
        return map(call, items)


class Deliveries(RuleBasedStateMachine):
    """Sub-classes say what the target is like."""

    safety: ClassVar[Safety]
    batch: ClassVar[int] = 1
    can_find: ClassVar[bool] = True
    hub: ClassVar[PaperHub]

    def __init__(self) -> None:
        super().__init__()
        self.world = ExitStack()
        self.world.enter_context(_in_small())
        _empty(self.hub)
        self.target = Target(safety=self.safety, batch=self.batch, can_find=self.can_find)
        self.target.visibility_lag = 1.0
        self.hub.sink = self.target
        self.versions = itertools.count(1)
        self.source: dict[str, int] = {}
        self.gone: set[str] = set()

    @initialize()
    def all_is_there(self) -> None:
        self.change(set(KEYS))
        self.read(None)

    # --- what happens -------------------------------------------------------------------------

    @rule(keys=st.sets(st.sampled_from(KEYS), min_size=1))
    def change(self, keys: set[str]) -> None:
        for key in sorted(keys):
            self.source[key] = next(self.versions)
            self.gone.discard(key)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: str) -> None:
        self.source[key] = next(self.versions)
        self.gone.add(key)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def misbehave(self, faults: list[str]) -> None:
        self.target.faults += faults

    @rule(point=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 3)))
    def read(self, point: tuple[str, int] | None) -> None:
        with self._dying(point):
            self._read_on()
            self.hub.stream.pages = [self._rows(KEYS[:2]), self._rows(KEYS[2:])]
            with self.hub.store.transaction() as connection:
                flow = self.hub.catalogue.flow(FLOW)
                run = plan_run(self.hub, connection, flow, full=True)
            run_flow(self.hub, run.id)

    @rule(point=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 3)))
    def deliver(self, point: tuple[str, int] | None) -> None:
        with self._dying(point):
            self.hub.deliver(FLOW, rounds=2)

    @rule(seconds=st.sampled_from([1, 5, 60, 700]))
    def wait(self, seconds: int) -> None:
        self.hub.time.advance(seconds)

    @rule(point=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 2)))
    def replay(self, point: tuple[str, int] | None) -> None:
        ask_replays(self.hub, LetterFilter(flow=FLOW), None, "lin")
        with self._dying(point):
            self._work_on_replays()

    @rule(point=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 2)))
    def decide(self, point: tuple[str, int] | None) -> None:
        for letter in self._open("review"):
            self._decide(letter)
        with self._dying(point):
            self._work_on_replays()

    @rule()
    def discard(self) -> None:
        for letter in self._open("delivery")[:1]:
            discard_one(self.hub, letter["id"], "not needed", "lin")

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def nothing_went_wrong_at_the_target(self) -> None:
        assert self.target.wrong == []

    @invariant()
    def every_version_that_was_read_has_a_place(self) -> None:
        """In the target, on its way, or before a person; never nowhere."""
        with self.hub.store.reading() as connection:
            if any(one.state != RunState.DELIVERING for one in unfinished_runs(connection)):
                return
            under_way = {
                key
                for table in (wishes, intent)
                for key in connection.execute(sa.select(table.c.target_key)).scalars()
            }
        letters = {one["source_key"] for one in self._letters()}
        for row in itertools.chain(*self.hub.stream.pages):
            key = row["id"]
            assert self._is_as(row) or key in under_way or key in letters, key

    def teardown(self) -> None:
        try:
            self.target.faults.clear()
            self.read(None)
            self._settle()
            left_out = {one["source_key"] for one in self._letters()}
            rows = self._rows([key for key in KEYS if key not in left_out])
            assert all(map(self._is_as, rows)), self.target
            self.change(set(KEYS))  # also what was discarded comes again with its next version
            self.read(None)
            self._settle()
            assert self.target.wrong == []
            last = {key: history[-1] for key, history in self.target.taken.items()}
            assert last == self.source
            assert {key: one["value"] for key, one in self.target.objects.items()} == self.source
            with self.hub.store.reading() as connection:
                assert list(unfinished_runs(connection)) == []
        finally:
            self.world.close()

    def _is_as(self, row: Mapping[str, Any]) -> bool:
        """Whether the target has the row's version, or has it no more."""
        key = row["id"]
        if row["gone"]:
            return not self.target.active.get(key)
        same = key in self.target.objects and self.target.objects[key]["value"] == row["value"]
        return same and self.target.active[key]

    # --- how ----------------------------------------------------------------------------------

    def _rows(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        return [{"id": key, "value": self.source[key], "gone": key in self.gone} for key in keys]

    @contextmanager
    def _dying(self, point: tuple[str, int] | None) -> Iterator[None]:
        """The process dies the n-th time it comes by; the next one finds what was committed."""
        left = [0 if point is None else point[1]]

        def dies(name: str) -> bool:
            if point is None or name != point[0]:
                return False
            left[0] -= 1
            return left[0] == 0

        try:
            with dying(dies):
                yield
        except Died:
            self.hub._sessions.clear()

    def _read_on(self) -> None:
        """What an earlier life left half read is read to its end."""
        sweep(self.hub)
        with self.hub.store.reading() as connection:
            runs = unfinished_runs(connection)
        for run in runs:
            if run.state != RunState.DELIVERING:
                run_flow(self.hub, run.id)

    def _letters(self, *kinds: str) -> list[dict[str, Any]]:
        """Letters that nobody has settled; those people left out as well."""
        left = dead_letter.c.state != LetterState.RESOLVED.value
        found = self.hub.rows(sa.select(dead_letter).where(left).order_by(dead_letter.c.id))
        letters = [dict(row._mapping) for row in found]
        return [one for one in letters if not kinds or one["kind"] in kinds]

    def _open(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self._letters(kind) if one["state"] == LetterState.OPEN]

    def _decide(self, letter: dict[str, Any]) -> None:
        """A person looks into the target."""
        key = letter["source_key"]
        self.target.in_doubt.discard(key)
        if key in self.target.objects:
            wanted = Wanted(decision="landed", target_id=self.target.ids[key])
        else:
            wanted = Wanted(decision="send_again")
        ask_replay(self.hub, letter["id"], wanted, "lin")

    def _work_on_replays(self) -> None:
        with self.hub.store.reading() as connection:
            running = unfinished_replays(connection)
        for one in running:
            replay_letters(self.hub, one.id, 0)

    def _settle(self) -> None:
        """All works again, and people do their part."""
        for _ in range(12):
            self._read_on()
            self._work_on_replays()
            self.hub.time.advance(700)
            self.hub.deliver(FLOW)
            for letter in self._open("review"):
                self._decide(letter)
            ask_replays(self.hub, LetterFilter(flow=FLOW), None, "lin")
            self._work_on_replays()
            with self.hub.store.reading() as connection:
                if not sinks_to_visit(connection) and not self._open("review"):
                    return
        raise AssertionError("it never comes to rest")


def _empty(hub: PaperHub) -> None:
    """A store as new: reading all definitions again for each try takes longer than the try."""
    with hub.store.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


@contextmanager
def _in_small() -> Iterator[None]:
    """Calls in order, and few enough tries that giving up is no rare case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "ThreadPoolExecutor", _Inline)
        patch.setattr(settlement, "MAX_ATTEMPTS", 3)
        yield


class Upserts(Deliveries):
    safety = Safety.UPSERT
    batch = 3


class WithKeys(Deliveries):
    safety = Safety.IDEMPOTENCY_KEY


class LookedUp(Deliveries):
    safety = Safety.LOOK_UP


class Unsearchable(Deliveries):
    safety = Safety.LOOK_UP
    can_find = False


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperHub]:
    folder = paper.template(tmp_path_factory.mktemp("machine") / "origin")
    write_flow(
        folder,
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: paper, stream: row}}\n"
        "mapping: {key: [id], fields: {id: id, value: value}}\n"
        "to: {connection: paper, sink: thing, delete: deactivate}\n",
    )
    with paper.paper(folder, folder.parent / "hub") as made:
        yield made


def _drive(
    machine: type[Deliveries], hub: PaperHub, examples: int, steps: int, *, anew: bool = False
) -> None:
    """Histories of `steps` steps: the same ones every time, or drawn anew."""
    from hypothesis.stateful import run_state_machine_as_test

    machine.hub = hub
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            derandomize=not anew,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


MACHINES = [Upserts, WithKeys, LookedUp, Unsearchable]


@pytest.mark.parametrize("machine", MACHINES)
def test_one_effect_per_version_in_order_and_nothing_lost(
    machine: type[Deliveries], hub: PaperHub
) -> None:
    _drive(machine, hub, examples=12, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", MACHINES)
def test_one_effect_per_version_in_order_and_nothing_lost_at_length(
    machine: type[Deliveries], hub: PaperHub
) -> None:
    _drive(machine, hub, examples=150, steps=40, anew=True)


def test_what_may_have_landed_is_no_wish_that_a_newer_version_replaces(hub: PaperHub) -> None:
    """Its answer was lost, its repetition was throttled, then the record changed."""
    WithKeys.hub = hub
    machine = WithKeys()
    machine.all_is_there()
    machine.misbehave(["cut_after", "", "", "", "throttled"])  # A, the others, A again
    hub.deliver(FLOW, rounds=1)
    assert machine.target.faults == []
    machine.change({"A"})
    machine.read(None)
    hub.deliver(FLOW)
    assert machine.target.taken["A"] == [1, 5]
    machine.teardown()
