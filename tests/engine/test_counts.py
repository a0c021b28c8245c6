"""Every row read is accounted for, whatever happens; and the account can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.engine import pages, sync
from hub.engine.planning import start_run
from hub.engine.reconcile import end_stranded
from hub.engine.sync import run_flow
from hub.sdk.records import Outcome, Row
from hub.store import staging
from hub.store.runs import Run, RunState, watermark
from hub.store.tables import dead_letter, delivery, link
from tests.engine import paper
from tests.engine.paper import Died, PaperHub, dying, write_flow

MAPPING = """
from: {connection: paper, stream: row}
mapping:
  key: [id]
  %s
  fields:
    id: id
    name: name | required
    value: value
    owner: {link: owner, by: owner, missing: hold}
  when: "hide is None"
"""
PLAIN = f"flow: plain{MAPPING % ''}to: {{connection: paper, sink: thing, delete: deactivate}}\n"
KEPT = f"flow: kept{MAPPING % ''}to: {{entity: thing, delete: delete}}\n"
GROUPED = (
    f"flow: grouped{MAPPING % 'group: {by: [id], sum: [value]}'}"
    "to: {connection: paper, sink: thing, delete: deactivate}\n"
)
FLOWS = {"plain": PLAIN, "kept": KEPT, "grouped": GROUPED}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = paper.template(tmp_path_factory.mktemp("counts") / "origin")
    for name, text in FLOWS.items():
        write_flow(folder, name, text)
    return folder


@pytest.fixture
def hub(origin: Path, tmp_path: Path) -> Iterator[PaperHub]:
    with paper.paper(origin, tmp_path / "hub") as made:
        yield made


def row(number: int, kind: str = "ok", value: int = 0) -> Row:
    made: Row = {"id": f"K{number}", "no": number, "name": "n", "value": value}
    made |= {
        "keyless": {"id": None},
        "rejected": {"name": None},
        "held": {"owner": "nobody"},
        "skipped": {"hide": 1},
        "deleted": {"gone": True},
    }.get(kind, {})
    return made


def assert_balanced(run: Run) -> None:
    """The account as an operator reads it, reckoned anew."""
    c = run.counts
    ends = ("unchanged", "written", "refused", "coalesced", "pending")
    fates = ("held", "rejected", "skipped")
    merged = c["folded"] - c["grouped"]
    left = c["rows_read"] + c["removed"]
    assert left == merged + sum(c[name] for name in (*ends, *fates)), c
    assert all(number >= 0 for number in c.values()), c


KINDS = ("ok", "ok", "ok", "keyless", "rejected", "held", "skipped", "deleted")
ROWS = st.builds(row, st.integers(0, 9), st.sampled_from(KINDS), st.integers(0, 2))
READS = st.lists(st.lists(ROWS, max_size=6), min_size=1, max_size=4)
ANSWERS = st.lists(st.sampled_from(list(Outcome)), max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flow=st.sampled_from(sorted(FLOWS)),
    reads=st.lists(READS, min_size=1, max_size=3),
    answers=ANSWERS,
    deaths=st.lists(st.integers(1, 25), max_size=4),
)
def test_whatever_is_read_and_wherever_the_process_dies_the_counts_add_up(
    origin: Path,
    tmp_path: Path,
    flow: str,
    reads: list[list[list[Row]]],
    answers: list[Outcome],
    deaths: list[int],
) -> None:
    with paper.paper(origin, tmp_path / "hub") as hub:
        hub.sink.answers = list(answers)
        for read in reads:
            read[0].insert(0, row(0))  # a read that begins without any key is another story
            hub.stream.pages = read
            run = _through_deaths(hub, flow, deaths)
            assert run.state == RunState.DONE, run.error_text
            assert_balanced(run)
            rows = [one for page in read for one in page]
            assert run.counts["rows_read"] == len(rows)
            if flow != "grouped":
                _assert_fates(run, rows)


def _assert_fates(run: Run, rows: list[Row]) -> None:
    """Each row by itself decides its fate, and each is counted."""
    fates = Counter(_fate(one) for one in rows)
    for name in ("held", "rejected"):
        assert run.counts[name] == fates[name]
    assert fates["skipped"] <= run.counts["skipped"] <= fates["skipped"] + fates["deleted"]


def _fate(one: Row) -> str:
    if one["id"] is None:
        return "rejected"
    if one.get("gone"):
        return "deleted"
    if one.get("hide"):
        return "skipped"
    if one["name"] is None:
        return "rejected"
    return "held" if one.get("owner") else "ok"


def _through_deaths(hub: PaperHub, flow: str, deaths: list[int]) -> Run:
    """A run that dies at these crash points and goes on each time."""
    run = start_run(hub, flow, allow_deletes=100)
    for number in [*deaths, 10_000]:
        left = [number]

        def counted(_: str, left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        with dying(counted):
            try:
                run_flow(hub, run.id)
                hub.deliver(flow)
            except Died:
                hub.time.advance(400)
                continue
        break
    return hub.look(run.id)


# --- the account can fail -----------------------------------------------------------------------


def _lose_a_mapped_row(patch: pytest.MonkeyPatch) -> None:
    whole = sync.map_rows
    patch.setattr(sync, "map_rows", lambda *given: whole(*given)[:-1])


def _double_a_mapped_row(patch: pytest.MonkeyPatch) -> None:
    whole = sync.map_rows

    def doubled(*given: Any) -> Any:
        entries = whole(*given)
        return [*entries, *(one._replace() for one in entries[-1:])]

    patch.setattr(sync, "map_rows", doubled)


def _lose_a_wish(patch: pytest.MonkeyPatch) -> None:
    whole = pages._without_overtaken
    patch.setattr(pages, "_without_overtaken", lambda wishes: whole(wishes))
    send = pages._send_on
    patch.setattr(
        pages,
        "_send_on",
        lambda connection, flow, run_id, wishes, *rest: send(
            connection, flow, run_id, wishes[:-1], *rest
        ),
    )


def _lose_a_delivery(patch: pytest.MonkeyPatch) -> None:
    whole = pages.put_deliveries
    patch.setattr(
        pages,
        "put_deliveries",
        lambda connection, sink, rows, now: whole(connection, sink, rows[:-1], now),
    )


LOSSES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a row between map and write": _lose_a_mapped_row,
    "a row that counts twice": _double_a_mapped_row,
    "a wish": _lose_a_wish,
    "a delivery": _lose_a_delivery,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_that_gets_lost_fails_the_run_and_the_next_one_brings_it(
    hub: PaperHub, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    hub.stream.pages = [[row(1), row(2)], [row(3), row(4)]]
    with monkeypatch.context() as patch:
        LOSSES[loss](patch)
        failed = hub.run("plain")
    assert failed.state == RunState.FAILED
    assert failed.error_code == "run.counts_differ"
    _assert_not_done(hub, "plain")
    again = hub.run("plain")
    assert again.state == RunState.DONE, again.error_text
    assert_balanced(again)
    assert set(hub.sink.objects) == {"K1", "K2", "K3", "K4"}


def _assert_not_done(hub: PaperHub, flow: str) -> None:
    with hub.store.reading() as connection:
        assert watermark(connection, flow, hub.catalogue.flow(flow).version) is None


def test_a_page_that_does_not_add_up_leaves_the_cursor_behind_the_page_before(
    hub: PaperHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stream.pages = [[row(1)], [row(2)], [row(3)]]
    whole = sync.map_rows

    def lossy(flow: Any, rows: Any, *rest: Any) -> Any:
        return [one for one in whole(flow, rows, *rest) if one.source_key != "K2"]

    monkeypatch.setattr(sync, "map_rows", lossy)
    failed = hub.run("plain")
    assert (failed.state, failed.page_no) == (RunState.FAILED, 1)
    assert failed.cursor == {"page": 1}
    assert "1 are accounted for" in str(failed.error_text)


def test_a_record_of_the_hubs_own_that_gets_lost_fails_the_run(
    hub: PaperHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stream.pages = [[row(1), row(2)]]
    whole = pages._write_records
    monkeypatch.setattr(
        pages,
        "_write_records",
        lambda connection, entity, wishes, now: whole(connection, entity, wishes[:-1], now),
    )
    failed = hub.run("kept")
    assert (failed.state, failed.error_code) == (RunState.FAILED, "run.counts_differ")


@pytest.mark.parametrize("place", ["stage", "unstage"])
def test_a_staged_row_that_gets_lost_fails_the_run(
    hub: PaperHub, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    hub.stream.pages = [[row(1, value=1), row(2)], [row(3)]]
    if place == "stage":
        whole = staging.stage_rows
        monkeypatch.setattr(
            staging,
            "stage_rows",
            lambda connection, run, rows: whole(connection, run, rows[:-1]),
        )
    else:
        groups = staging.next_groups
        monkeypatch.setattr(
            staging,
            "next_groups",
            lambda *given: dict(list(groups(*given).items())[:-1]),
        )
    failed = hub.run("grouped")
    assert (failed.state, failed.error_code) == (RunState.FAILED, "run.counts_differ")
    _assert_not_done(hub, "grouped")
    monkeypatch.undo()
    assert hub.run("grouped").state == RunState.DONE
    assert set(hub.sink.objects) == {"K1", "K2", "K3"}


def test_a_write_that_vanishes_from_the_store_fails_the_run_and_is_made_up_for(
    hub: PaperHub,
) -> None:
    hub.stream.pages = [[row(1), row(2)]]
    run = hub.run("plain", deliver=False)
    assert run.state == RunState.DELIVERING
    with hub.store.transaction() as connection:
        connection.execute(delivery.delete().where(delivery.c.target_key == "K1"))
    hub.deliver("plain")
    end_stranded(hub)
    failed = hub.look(run.id)
    assert (failed.state, failed.error_code) == (RunState.FAILED, "run.unbalanced")
    _assert_not_done(hub, "plain")
    again = hub.run("plain")
    assert (again.kind, again.counts["written"], again.counts["unchanged"]) == ("full", 1, 1)
    assert set(hub.sink.objects) == {"K1", "K2"}


def test_a_run_that_only_waits_is_not_taken_for_stranded(hub: PaperHub) -> None:
    hub.stream.pages = [[row(1), row(2)]]
    run = hub.run("plain", deliver=False)
    end_stranded(hub)
    assert hub.look(run.id).state == RunState.DELIVERING
    hub.deliver("plain")
    assert hub.look(run.id).state == RunState.DONE


def test_a_run_under_way_while_an_earlier_one_fails_does_not_move_the_watermark(
    hub: PaperHub,
) -> None:
    hub.stream.pages = [[row(1)]]
    first = hub.run("plain", deliver=False)
    hub.stream.pages = [[row(1)], [row(2)]]
    with hub.store.transaction() as connection:
        from hub.engine.planning import plan_run

        second = plan_run(hub, connection, hub.catalogue.flow("plain"), full=False)
    seen: list[str] = []

    def dies_behind_page_one(name: str) -> bool:
        seen.append(name)
        return name == "page.after_commit"

    with dying(dies_behind_page_one), pytest.raises(Died):
        run_flow(hub, second.id)
    with hub.store.transaction() as connection:
        connection.execute(delivery.delete())
    end_stranded(hub)
    assert hub.look(first.id).error_code == "run.unbalanced"
    run_flow(hub, second.id)
    _assert_not_done(hub, "plain")
    assert hub.run("plain").kind == "full"
    hub.run("plain")
    assert set(hub.sink.objects) == {"K1", "K2"}


# --- odd pages ----------------------------------------------------------------------------------


def test_a_deleted_row_that_a_later_row_of_the_page_replaces_is_counted(hub: PaperHub) -> None:
    hub.stream.pages = [[row(1, "deleted"), row(1), row(2), row(2, "deleted")]]
    run = hub.run("plain")
    assert run.state == RunState.DONE, run.error_text
    assert_balanced(run)
    assert set(hub.sink.objects) == {"K1"}


def test_two_records_of_one_target_on_a_page_write_it_once(hub: PaperHub, origin: Path) -> None:
    hub.stream.key = ["no"]
    hub.stream.pages = [[row(1, value=1), {**row(1, value=2), "no": 2}]]
    run = hub.run("kept")
    assert run.state == RunState.DONE, run.error_text
    assert (run.counts["written"], run.counts["coalesced"]) == (1, 1)
    assert_balanced(run)


def test_a_read_that_is_done_again_accounts_for_both_passes(hub: PaperHub) -> None:
    for flow in ("plain", "grouped"):
        hub.stream.total = 3
        hub.stream.pages = [[row(1)], [row(2)]]
        failed = hub.run(flow)
        assert (failed.state, failed.error_code) == (RunState.FAILED, "run.count_mismatch")
        assert failed.counts["rows_read"] == 5  # the last page of the third pass gave up
        assert_balanced(failed)


def test_a_wish_that_a_newer_run_replaces_counts_as_coalesced_in_the_older_one(
    hub: PaperHub,
) -> None:
    hub.stream.pages = [[row(1), row(2)]]
    first = hub.run("plain", deliver=False)
    hub.stream.pages = [[row(1, value=7), row(2)]]
    with hub.store.transaction() as connection:
        from hub.engine.planning import plan_run

        second = plan_run(hub, connection, hub.catalogue.flow("plain"), full=False)
    run_flow(hub, second.id)
    hub.deliver("plain")
    first, second = hub.look(first.id), hub.look(second.id)
    assert (first.counts["coalesced"], first.counts["written"]) == (1, 1)
    assert (second.counts["written"], second.counts["unchanged"]) == (1, 1)
    assert first.state == second.state == RunState.DONE
    assert hub.rows(sa.select(link.c.state).distinct()) == [("synced",)]
    assert hub.rows(sa.select(dead_letter.c.id)) == []
