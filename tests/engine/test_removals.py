"""Records that the source deletes: told to the target once, in order, and never in a landslide."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.engine.abilities import require_abilities
from hub.engine.flows import Schedule
from hub.engine.planning import plan_run, start_run
from hub.engine.removals import allowed
from hub.engine.schedule import tick
from hub.engine.sync import run_flow
from hub.sdk.errors import ConfigError
from hub.sdk.manifest import Sink
from hub.sdk.records import Outcome, Row, Safety
from hub.store.records import records_since
from hub.store.runs import Run, RunState, last_run
from hub.store.tables import dead_letter, link
from tests.engine import paper
from tests.engine.paper import Died, PaperHub, dying, write_flow

FLOW = """
flow: %s
from: {connection: paper, stream: row}
mapping: {key: [id], fields: {id: id, name: name | required, value: value}}
to: {%s, delete: %s}
"""
SINK = "connection: paper, sink: thing"
POLICIES = ("ignore", "deactivate", "delete", "unlink")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = paper.template(tmp_path_factory.mktemp("removals") / "origin")
    for policy in POLICIES:
        write_flow(folder, f"with_{policy}", FLOW % (f"with_{policy}", SINK, policy))
    write_flow(folder, "kept", FLOW % ("kept", "entity: thing", "delete"))
    write_flow(folder, "beside", FLOW % ("beside", SINK, "deactivate"))
    return folder


@pytest.fixture
def hub(origin: Path, tmp_path: Path) -> Iterator[PaperHub]:
    with paper.paper(origin, tmp_path / "hub") as made:
        yield made


def rows(*numbers: int, value: int = 0) -> list[Row]:
    return [{"id": f"K{number}", "name": "n", "value": value} for number in numbers]


def gone(*numbers: int) -> list[Row]:
    return [{"id": f"K{number}", "gone": True} for number in numbers]


def read(hub: PaperHub, page: list[Row], flow: str = "with_deactivate", **options: float) -> Run:
    hub.stream.pages = [page]
    return hub.run(flow, **options)


def state_of(hub: PaperHub, key: str, flow: str = "with_deactivate") -> tuple[str, str | None]:
    chosen = sa.select(link.c.state, link.c.target_id).where(
        link.c.flow_id == flow, link.c.source_key == key
    )
    return hub.rows(chosen)[0]


# --- full reads ---------------------------------------------------------------------------------


def test_a_record_goes_only_after_two_full_reads_in_a_row_have_missed_it(hub: PaperHub) -> None:
    read(hub, rows(*range(10)))
    once = read(hub, rows(*range(1, 10)))
    assert (once.counts["removed"], hub.sink.active["K0"]) == (0, True)
    twice = read(hub, rows(*range(1, 10)))
    assert (twice.counts["removed"], hub.sink.active["K0"]) == (1, False)
    assert twice.counts["written"] == 1
    thrice = read(hub, rows(*range(1, 10)))
    assert thrice.counts["removed"] == 0


def test_a_record_that_one_read_missed_and_the_next_one_met_stays(hub: PaperHub) -> None:
    read(hub, rows(1, 2, 3))
    read(hub, rows(2, 3))
    read(hub, rows(1, 2, 3))
    read(hub, rows(2, 3))
    assert hub.sink.active["K1"] is True


def test_a_read_that_failed_does_not_count_as_having_missed_anything(hub: PaperHub) -> None:
    read(hub, rows(1, 2, 3))
    hub.stream.total = 3
    assert read(hub, rows(2, 3)).state == RunState.FAILED
    hub.stream.total = None
    assert read(hub, rows(2, 3)).counts["removed"] == 0
    assert read(hub, rows(2, 3)).counts["removed"] == 1


def test_a_group_goes_when_its_last_row_has_gone(hub: PaperHub) -> None:
    write_flow(
        hub.deployment.folder,
        "grouped",
        (FLOW % ("grouped", SINK, "deactivate")).replace("{key:", "{group: {by: [id]}, key:"),
    )
    hub.refresh()
    for page in (rows(1, 2, 3), rows(2, 3), rows(2, 3)):
        run = read(hub, page, "grouped")
    assert (run.counts["removed"], hub.sink.active["K1"]) == (1, False)


# --- the guard ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "guard", "number"),
    [(1000, 10, 100), (100, 10, 10), (50, 10, 5), (10, 10, 5), (8, 10, 4), (2, 10, 1),
     (1, 10, 0.5), (10, 0, 0), (10, 100, 10)],
)  # fmt: skip
def test_the_guard_lets_a_few_go_but_never_most_of_a_small_table(
    live: int, guard: float, number: float
) -> None:
    assert allowed(live, guard) == number


def test_a_landslide_fails_the_run_removes_nothing_and_can_be_confirmed_once(
    hub: PaperHub,
) -> None:
    read(hub, rows(*range(20)))
    read(hub, rows(*range(10)))
    tripped = read(hub, rows(*range(10)))
    assert (tripped.state, tripped.error_code) == (RunState.FAILED, "run.mass_delete")
    assert "10 of 20" in str(tripped.error_text)
    assert "--allow-deletes 50%" in str(tripped.error_text)
    assert all(hub.sink.active.values())
    assert read(hub, rows(*range(10))).error_code == "run.mass_delete"
    confirmed = read(hub, rows(*range(10)), allow_deletes=50)
    assert (confirmed.state, confirmed.counts["removed"]) == (RunState.DONE, 10)
    assert [key for key, active in hub.sink.active.items() if not active] == [
        f"K{number}" for number in range(10, 20)
    ]


def test_a_confirmation_for_less_than_is_gone_does_not_count(hub: PaperHub) -> None:
    for page in (rows(*range(20)), rows(*range(10))):
        read(hub, page)
    assert read(hub, rows(*range(10)), allow_deletes=49).error_code == "run.mass_delete"


def test_an_empty_source_removes_nothing(hub: PaperHub) -> None:
    read(hub, rows(1, 2, 3))
    read(hub, [])
    assert read(hub, []).error_code == "run.mass_delete"
    assert all(hub.sink.active.values())


def test_a_run_that_reads_only_changes_refuses_a_confirmation(hub: PaperHub) -> None:
    read(hub, rows(1))
    run = start_run(hub, "with_deactivate")
    with hub.store.transaction() as connection:
        connection.execute(
            sa.text("UPDATE hub_run SET kind = 'incremental' WHERE state = 'queued'")
        )
    with pytest.raises(ConfigError, match=f"run {run.id} is still on its way"):
        start_run(hub, "with_deactivate", allow_deletes=50)


# --- what is told -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", ["declared", "missed"])
def test_each_policy_does_what_it_says(hub: PaperHub, policy: str, way: str) -> None:
    flow = f"with_{policy}"
    read(hub, rows(1, 2), flow)
    page = [*rows(2), *(gone(1) if way == "declared" else [])]
    for _ in range(2):
        run = read(hub, page, flow)
        assert run.state == RunState.DONE, run.error_text
    told = {"ignore": [], "unlink": [], "deactivate": ["deactivate"], "delete": ["delete"]}
    assert [op for op, key, _ in hub.sink.log if key == "K1"][1:] == told[policy]
    state, _ = state_of(hub, "K1", flow)
    assert state == ("synced" if policy == "ignore" else "tombstoned")


@pytest.mark.parametrize("way", ["declared", "missed"])
def test_a_record_that_comes_back_revives_its_link_and_its_target(hub: PaperHub, way: str) -> None:
    read(hub, rows(1, 2))
    before = state_of(hub, "K1")
    for _ in range(2):
        read(hub, [*rows(2), *(gone(1) if way == "declared" else [])])
    assert state_of(hub, "K1")[0] == "tombstoned"
    back = read(hub, rows(1, 2))
    assert back.counts["written"] == 1
    assert hub.sink.active["K1"] is True
    assert state_of(hub, "K1") == before


def test_what_a_target_deleted_is_created_anew_when_it_comes_back(hub: PaperHub) -> None:
    read(hub, rows(1), "with_delete")
    read(hub, gone(1), "with_delete")
    assert hub.sink.objects == {}
    assert state_of(hub, "K1", "with_delete") == ("tombstoned", None)
    read(hub, rows(1), "with_delete")
    assert hub.sink.log[-1] == ("upsert", "K1", None)


def test_a_record_of_the_hubs_own_is_marked_deleted_and_comes_back(hub: PaperHub) -> None:
    def stored() -> list[tuple[bool, int]]:
        with hub.store.reading() as connection:
            found = records_since(connection, "thing", 0, 10)
        return [(one["deleted"], one["revision"]) for one in found]

    read(hub, rows(1), "kept")
    assert stored() == [(False, 1)]
    read(hub, gone(1), "kept")
    assert stored() == [(True, 2)]
    read(hub, gone(1), "kept")
    assert stored() == [(True, 2)]
    read(hub, rows(1), "kept")
    assert stored() == [(False, 3)]


def test_a_deleted_record_that_was_never_sent_is_skipped_and_its_letter_closed(
    hub: PaperHub,
) -> None:
    broken: Row = {"id": "K1", "name": None}
    read(hub, [broken])
    assert hub.rows(sa.select(dead_letter.c.state)) == [("open",)]
    run = read(hub, gone(1))
    assert (run.counts["skipped"], hub.sink.log) == (1, [])
    assert hub.rows(sa.select(dead_letter.c.state)) == [("resolved",)]


def test_the_letter_of_a_record_that_vanished_before_it_was_ever_sent_is_closed(
    hub: PaperHub,
) -> None:
    read(hub, [{"id": "K1", "name": None}, *rows(2)])
    for _ in range(2):
        read(hub, rows(2))
    assert hub.rows(sa.select(dead_letter.c.state)) == [("resolved",)]
    assert [key for _, key, _ in hub.sink.log] == ["K2"]


def test_a_target_that_another_flow_still_feeds_stays(hub: PaperHub) -> None:
    read(hub, rows(1, 2), "beside")
    read(hub, rows(1, 2))
    run = read(hub, [*rows(2), *gone(1)])
    assert run.state == RunState.DONE, run.error_text
    assert hub.sink.active["K1"] is True
    read(hub, [*rows(2), *gone(1)], "beside")
    assert hub.sink.active["K1"] is False


def test_a_record_that_got_another_source_key_keeps_its_target(hub: PaperHub) -> None:
    hub.stream.key = ["no"]
    old, new = {**rows(1)[0], "no": 1}, {**rows(1)[0], "no": 2}
    others = [{**one, "no": one["id"]} for one in rows(5, 6, 7)]
    read(hub, [old, *others])
    for page in ([new, *others], [new, *others], [{**new, "value": 3}, *others]):
        assert read(hub, page).state == RunState.DONE
    assert hub.sink.active["K1"] is True


def test_a_page_that_ends_one_record_and_begins_its_successor_keeps_the_target(
    hub: PaperHub,
) -> None:
    hub.stream.key = ["no"]
    read(hub, [{**rows(1)[0], "no": 1}])
    successor = {**rows(1, value=2)[0], "no": 2}
    run = read(hub, [successor, {"no": 1, "gone": True}])
    assert run.state == RunState.DONE, run.error_text
    assert hub.sink.active["K1"] is True


# --- order, deaths and replays ------------------------------------------------------------------


def test_a_removal_replaces_a_write_that_was_not_sent_yet(hub: PaperHub) -> None:
    read(hub, rows(1))
    hub.stream.pages = [rows(1, value=2)]
    hub.run("with_deactivate", deliver=False)
    hub.stream.pages = [gone(1)]
    with hub.store.transaction() as connection:
        second = plan_run(hub, connection, hub.catalogue.flow("with_deactivate"), full=True)
    run_flow(hub, second.id)
    hub.deliver("with_deactivate")
    assert [op for op, _, _ in hub.sink.log] == ["upsert", "deactivate"]
    assert hub.look(second.id).state == RunState.DONE


@pytest.mark.parametrize("point", ["delivery.claimed", "delivery.sent", "delivery.settled"])
@pytest.mark.parametrize("safety", list(Safety))
def test_a_removal_behind_a_write_in_doubt_comes_last_whenever_the_process_dies(
    hub: PaperHub, point: str, safety: Safety
) -> None:
    hub.sink.safety = safety
    read(hub, rows(1))
    hub.stream.pages = [rows(1, value=2)]
    hub.run("with_deactivate", deliver=False)
    with dying(lambda name: name == point), pytest.raises(Died):
        hub.deliver("with_deactivate", rounds=1)
    hub.stream.pages = [gone(1)]
    with hub.store.transaction() as connection:
        second = plan_run(hub, connection, hub.catalogue.flow("with_deactivate"), full=True)
    run_flow(hub, second.id)
    with dying(lambda name: name == point):
        for _ in range(2):
            try:
                hub.deliver("with_deactivate", rounds=3)
            except Died:
                hub.time.advance(400)
    hub.deliver("with_deactivate")
    assert hub.sink.active["K1"] is False
    assert hub.sink.log[-1][0] == "deactivate"
    assert hub.look(second.id).state == RunState.DONE
    assert state_of(hub, "K1")[0] == "tombstoned"


def test_a_removal_whose_answer_is_lost_is_sent_again_where_a_creation_would_be_looked_up(
    hub: PaperHub,
) -> None:
    hub.sink.safety = Safety.LOOK_UP
    read(hub, rows(1))
    hub.sink.answers = [Outcome.UNKNOWN]
    run = read(hub, gone(1))
    assert run.state == RunState.DONE, run.error_text
    assert hub.sink.active["K1"] is False


def test_a_removal_of_what_the_target_never_took_has_had_its_effect(hub: PaperHub) -> None:
    hub.sink.answers = [Outcome.REJECTED]
    read(hub, rows(1))
    run = read(hub, gone(1))
    assert run.state == RunState.DONE
    assert hub.sink.objects == {}


# --- told before the run ------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
def test_a_sink_that_cannot_do_it_is_named_before_anything_is_read(
    hub: PaperHub, policy: str
) -> None:
    sink = Sink.model_validate({"safety": "upsert", "key": "id", "request": {"post": "/x"}})
    with pytest.raises(ConfigError, match=f"declares no `{policy}` request"):
        require_abilities(hub.catalogue.flow(f"with_{policy}"), sink)
    require_abilities(hub.catalogue.flow("with_unlink"), sink)
    require_abilities(hub.catalogue.flow("with_ignore"), sink)


def test_a_schedule_can_ask_for_a_full_read_now_and_then(hub: PaperHub) -> None:
    text = FLOW % ("timed", SINK, "deactivate")
    plan = 'schedule: {cron: "0 * * * *", full: "30 2 * * *", zone: UTC}\n'
    write_flow(hub.deployment.folder, "timed", text + plan)
    (hub.deployment.folder / "connections.yaml").write_text("paper: {connector: rest}\n")
    hub.refresh()

    def kind_at(hour: int, minute: int) -> str | None:
        moment = datetime(2025, 1, 7, hour, minute, tzinfo=UTC)
        hub.time.advance((moment - hub.time.now()).total_seconds())
        started = tick(hub)
        with hub.store.reading() as connection:
            run = last_run(connection, "timed")
        if not started or run is None:
            return None
        run_flow(hub, run.id)
        hub.deliver("timed")
        return run.kind

    hub.stream.incremental = object()
    assert kind_at(0, 30) is None
    assert [kind_at(hour, 0) for hour in (1, 2)] == ["full", "incremental"]
    assert kind_at(2, 30) == "full"
    assert kind_at(2, 31) is None
    assert kind_at(3, 0) == "incremental"


def test_a_full_read_waits_for_the_run_that_is_on_its_way(hub: PaperHub) -> None:
    text = FLOW % ("timed", SINK, "deactivate")
    plan = 'schedule: {cron: "0 * * * *", full: "30 2 * * *", zone: UTC}\n'
    write_flow(hub.deployment.folder, "timed", text + plan)
    (hub.deployment.folder / "connections.yaml").write_text("paper: {connector: rest}\n")
    hub.refresh()
    hub.stream.incremental = object()
    hub.run("timed")
    tick(hub)
    slow = start_run(hub, "timed")
    moment = datetime(2025, 1, 7, 2, 30, tzinfo=UTC)
    hub.time.advance((moment - hub.time.now()).total_seconds())
    assert tick(hub) == []
    run_flow(hub, slow.id)
    hub.time.advance(5)
    assert tick(hub) == ["timed"]
    with hub.store.reading() as connection:
        run = last_run(connection, "timed")
    assert run is not None
    assert (slow.kind, run.kind) == ("incremental", "full")


def test_a_full_schedule_that_is_no_cron_is_one_clear_line(hub: PaperHub) -> None:
    plan = 'schedule: {cron: "0 * * * *", full: sometimes}\n'
    write_flow(hub.deployment.folder, "odd", FLOW % ("odd", SINK, "ignore") + plan)
    hub.refresh()
    with pytest.raises(ConfigError, match=r"schedule\.full sometimes is not a five-field cron"):
        hub.catalogue.flow("odd")
    assert Schedule(cron="0 * * * *").full is None
