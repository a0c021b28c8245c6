"""Old days leave for the archive and come back; nothing is lost or doubled on any way."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hub.sdk.errors import ConfigError, ContractBroken, HubError, TransientError
from hub.store.tables.telemetry import archive_file, chunk, removed_day, text_reading
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.series_queries import SeriesFilter, snapshot
from hub.telemetry import query, retention
from hub.telemetry.archive import files_between
from hub.telemetry.archive_files import read_rows
from hub.telemetry.archive_places import Bucket, Folder, Place, open_place
from hub.telemetry.query import Asked, Span
from hub.telemetry.restoring import Restored, restore
from hub.telemetry.retention import Retained, keep_house, plan
from hub.telemetry.series_writer import TextRow, write_texts
from hub.telemetry.turns import archive_turn
from tests.telemetry.rig import DAY, HOUR, Rig, ms, rig

START = ms("2026-01-01T00:00:00")
DAYS = 4
KEEP = 10


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return open_place("archive", None, tmp_path)


def fill(desk: Rig) -> None:
    random = np.random.default_rng(7)
    for name in ("pump", "fan"):
        for metric in ("vib", "temp"):
            ts = START + np.arange(0, DAYS * DAY, 900_000) + random.integers(0, 1000)
            value = np.where(random.random(len(ts)) < 0.1, 1 / 3, random.integers(-50, 50))
            desk.write(desk.series(name, metric), ts.tolist(), value.tolist())
    state = desk.series("fan", "state")
    with desk.store.transaction() as connection:
        rows = [TextRow(state, START + hour * HOUR, f"läuft\n{hour}") for hour in range(30)]
        write_texts(connection, rows)
    desk.roll_up(wait=0)
    desk.now = START + (KEEP + 2) * DAY + 1  # two whole days are old


def everything(desk: Rig) -> dict[tuple[str, str], Any]:
    with snapshot(desk.store) as connection:
        found = query.wanted_series(connection, SeriesFilter())
        return {
            (row.device, row.metric): [
                *zip(*(part.tolist() for part in read_points(connection, row.series_id, 0, 2**42)),
                     strict=True),
                *connection.execute(
                    sa.select(text_reading.c.ts, text_reading.c.text)
                    .where(text_reading.c.series_id == row.series_id)
                    .order_by(text_reading.c.ts)
                ).all(),
            ]
            for row in found
        }  # fmt: skip


def by_day(desk: Rig, every: str = "1d") -> Any:
    asked = Asked(every, aggregates=("count", "sum", "min", "max", "last", "p95"))
    with snapshot(desk.store) as connection:
        found = query.wanted_series(connection, SeriesFilter(metrics=("vib", "temp")))
        span = Span(START - DAY, START + (DAYS + 1) * DAY)
        answer = query.buckets(connection, found, span, asked, desk.zones)[1]
    return [{**one, "sum": [round(number, 6) for number in one["sum"]]} for one in answer]


def archived(place: Place, folder: Path) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for names in files_between(place, 0, 2**42).values():
        for name in names:
            place.get(name, folder / "copy.parquet")
            for rows in read_rows(folder / "copy.parquet"):
                points = [*zip(rows.ts.tolist(), rows.value.tolist(), strict=True), *rows.texts]
                found.setdefault(rows.key[2:], []).extend(points)
    return found


def house(desk: Rig, place: Place | None, keep: int = KEEP) -> Retained:
    return keep_house(desk.store, keep, place, desk.now, owner="test", zones=desk.zones)


def bring_back(desk: Rig, place: Place, until: int = START + 9 * DAY) -> Restored:
    return restore(
        desk.store, place, START, until, keep_until=desk.now + 7 * DAY, now=desk.now,
        owner="test", tell=lambda _day, _done: None,
    )  # fmt: skip


def older(points: list[Any], than: int) -> list[Any]:
    return [point for point in points if point[0] < than]


def test_old_days_go_to_a_file_each_and_their_roll_ups_stay(
    desk: Rig, place: Place, tmp_path: Path
) -> None:
    before, days = everything(desk), by_day(desk)
    done = house(desk, place)
    assert (done.days, done.files) == (2, 2)
    cut = START + 2 * DAY
    there, gone = everything(desk), archived(place, tmp_path)
    for key, points in before.items():
        assert sorted(gone.get(key, [])) == sorted(older(points, cut))
        assert there[key] == [point for point in points if point[0] >= cut]
    assert by_day(desk) == days
    assert house(desk, place) == Retained()


def test_a_dry_run_says_what_is_old_and_touches_nothing(desk: Rig) -> None:
    before = everything(desk)
    assert plan(desk.store, KEEP, desk.now) == [(START, 4 * 96), (START + DAY, 4 * 96)]
    assert everything(desk) == before


def test_restored_readings_are_exactly_the_old_ones(desk: Rig, place: Place) -> None:
    before, days = everything(desk), by_day(desk)
    house(desk, place)
    done = bring_back(desk, place)
    assert done.written == done.readings > 0
    assert everything(desk) == before
    assert by_day(desk) == days
    desk.roll_up(wait=HOUR)
    assert by_day(desk) == days
    assert bring_back(desk, place).written == 0
    assert everything(desk) == before


def test_restored_days_stay_for_a_while_and_leave_without_a_second_file(
    desk: Rig, place: Place
) -> None:
    days = by_day(desk)
    house(desk, place)
    bring_back(desk, place)
    assert house(desk, place).days == 0
    desk.roll_up(wait=8 * DAY)
    done = house(desk, place, keep=KEEP + 8)
    assert (done.days, done.files) == (2, 0)
    assert by_day(desk) == days


def test_restoring_into_an_empty_store_enters_the_devices_again(
    desk: Rig, place: Place, tmp_path: Path
) -> None:
    before = everything(desk)
    house(desk, place)
    (tmp_path / "other").mkdir()
    with rig(tmp_path / "other") as empty:
        empty.now = desk.now
        bring_back(empty, place)
        cut = START + 2 * DAY
        assert everything(empty) == {key: older(points, cut) for key, points in before.items()}
        empty.roll_up(wait=HOUR)
        assert by_day(empty, "1h")[0]["count"][:3] == by_day(desk, "1h")[0]["count"][:3]


def test_readings_that_come_late_are_a_further_file_and_join_the_roll_ups(
    desk: Rig, place: Place, tmp_path: Path
) -> None:
    before = everything(desk)["pump", "vib"]
    house(desk, place)
    pump = desk.series("pump", "vib")
    late = [(START + 5 * HOUR + 77, 123.0), (START + 30 * HOUR + 5, -99.0)]
    known = before[3]
    desk.write(pump, [late[0][0], late[1][0]], [late[0][1], late[1][1]])
    counts = [sum(one["count"]) for one in by_day(desk)]
    assert sum(counts) == 4 * DAYS * 96 + 2
    desk.write(pump, [known[0]], [known[1]])  # sent again: the archive knows it
    for every in ("1d", "1h"):
        house(desk, place)
        desk.roll_up(wait=HOUR)
        found = by_day(desk, every)[3]
        assert sum(found["count"]) == DAYS * 96 + 2
        assert max(found["max"]) == 123.0
    assert len(files_between(place, START, START + 1)[START]) == 2
    assert sorted(archived(place, tmp_path)["pump", "vib"]) == sorted(
        [*older(before, START + 2 * DAY), *late]
    )
    bring_back(desk, place)
    assert everything(desk)["pump", "vib"] == sorted([*before, *late])


def test_without_an_archive_old_days_are_dropped_and_roll_ups_stay(desk: Rig) -> None:
    days = by_day(desk)
    assert house(desk, None).days == 2
    assert by_day(desk) == days
    desk.write(desk.series("pump", "vib"), [START + 7], [5.0])
    house(desk, None)
    assert sum(by_day(desk)[3]["count"]) == DAYS * 96 + 1


class Trouble(Exception):
    """The process dies here."""


class Dying:
    """A place at which the process dies at the n-th call."""

    def __init__(self, place: Place, after: int) -> None:
        self._place = place
        self._left = after
        self.url = place.url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Trouble
            return getattr(self._place, name)(*arguments)

        return call


@pytest.mark.parametrize("calls", range(8))
def test_a_death_at_any_call_of_the_archive_loses_and_doubles_nothing(
    desk: Rig, place: Place, tmp_path: Path, calls: int
) -> None:
    before, days = everything(desk), by_day(desk)
    with pytest.raises(Trouble):
        house(desk, Dying(place, calls))  # type: ignore[arg-type]
    assert by_day(desk) == days
    house(desk, place)
    bring_back(desk, place)
    assert everything(desk) == before
    assert by_day(desk) == days


@pytest.mark.parametrize("step", range(4))
def test_a_death_between_any_transactions_loses_and_doubles_nothing(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before, days = everything(desk), by_day(desk)
    names = ("_begin", "_drop", "drop_chunks", "drop_texts")
    owner: Any = retention if step < 2 else retention.table

    def die(*_arguments: Any, **_options: Any) -> None:
        raise Trouble

    monkeypatch.setattr(retention, "_BATCH", 3)
    monkeypatch.setattr(owner, names[step], die)
    with pytest.raises(Trouble):
        house(desk, place)
    monkeypatch.undo()
    assert by_day(desk) == days
    house(desk, place)
    assert by_day(desk) == days
    bring_back(desk, place)
    assert everything(desk) == before


def test_a_reading_that_comes_while_its_day_is_copied_is_kept(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, begin = everything(desk), retention._begin
    pump, once = desk.series("pump", "vib"), [True]

    def meanwhile(*arguments: Any, **options: Any) -> None:
        if once and once.pop():
            desk.write(pump, [START + 7], [77.0])
        begin(*arguments, **options)

    monkeypatch.setattr(retention, "_begin", meanwhile)
    house(desk, place)
    assert sum(by_day(desk)[3]["count"]) == DAYS * 96 + 1
    bring_back(desk, place)
    assert everything(desk)["pump", "vib"] == sorted([*before["pump", "vib"], (START + 7, 77.0)])


def test_a_restore_that_was_broken_off_can_be_done_again(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, days = everything(desk), by_day(desk)
    house(desk, place)
    for calls in (1, 2):
        with pytest.raises(Trouble):
            bring_back(desk, Dying(place, calls))  # type: ignore[arg-type]
        assert by_day(desk) == days
    bring_back(desk, place)
    assert everything(desk) == before


def test_a_damaged_file_is_found_out_before_anything_is_restored(
    desk: Rig, place: Place, tmp_path: Path
) -> None:
    house(desk, place)
    path = next((tmp_path / "archive").glob("*/*/*-01.0001.parquet"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    path.write_bytes(bytes(raw))
    there = everything(desk)
    with pytest.raises(ContractBroken) as failed:
        bring_back(desk, place)
    assert failed.value.code == "telemetry.archive_damaged"
    assert everything(desk) == there


def test_a_file_that_reads_back_otherwise_drops_nothing(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(desk)

    def worn(self: Folder, name: str, target: Path) -> None:
        self.get(name + ".partial", target)
        raw = target.read_bytes()
        target.write_bytes(raw[: len(raw) // 2])

    monkeypatch.setattr(Folder, "get_partial", worn)
    with pytest.raises(ContractBroken):
        house(desk, place)
    assert everything(desk) == before


def test_a_folder_that_cannot_be_written_drops_nothing_and_says_so(
    desk: Rig, tmp_path: Path
) -> None:
    before = everything(desk)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TransientError) as failed:
        house(desk, open_place("file", None, tmp_path))
    assert "nothing was dropped" in str(failed.value)
    assert everything(desk) == before


def test_what_is_no_place_is_refused(tmp_path: Path) -> None:
    for setting in ("s3://", "ftp://there/x"):
        with pytest.raises(ConfigError):
            open_place(setting, None, tmp_path)


def test_one_process_at_a_time_works_on_the_archive(desk: Rig, place: Place) -> None:
    with archive_turn(desk.store, "other"), pytest.raises(TransientError) as failed:
        house(desk, place)
    assert failed.value.code == "telemetry.archive_busy"
    assert house(desk, place).days == 2


@pytest.mark.parametrize("library", ["pyarrow", "boto3"])
def test_a_missing_library_names_the_extra(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError) as failed:
        house(desk, place if library == "pyarrow" else open_place("s3://b/x", None, tmp_path))
    assert "integration-hub[archive]" in str(failed.value)


# --- S3 ---------------------------------------------------------------------------------------


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.filterwarnings("default")  # the fake's and boto3's own
def test_an_archive_on_s3_holds_and_gives_back_the_same(
    desk: Rig, account: None, tmp_path: Path
) -> None:
    from moto import mock_aws

    before, days = everything(desk), by_day(desk)
    with mock_aws():
        place = open_place("s3://readings/hub", None, tmp_path)
        assert isinstance(place, Bucket)
        with pytest.raises(HubError) as failed:
            house(desk, place)
        assert failed.value.code == "telemetry.archive_refused"
        assert everything(desk) == before
        place._client.create_bucket(Bucket="readings")
        assert house(desk, place).files == 2
        assert by_day(desk) == days
        listed = place._client.list_objects_v2(Bucket="readings")["Contents"]
        assert [one["Key"] for one in listed] == [
            "hub/2026/01/2026-01-01.0001.parquet", "hub/2026/01/2026-01-02.0001.parquet",
        ]  # fmt: skip
        bring_back(desk, place)
        assert everything(desk) == before


@pytest.mark.filterwarnings("default")
def test_while_s3_is_away_nothing_is_dropped(desk: Rig, account: None, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        before = everything(desk)
        with pytest.raises(TransientError) as failed:
            house(desk, open_place("s3://readings/hub", url, tmp_path))
    assert "nothing was dropped" in str(failed.value)
    assert everything(desk) == before
    with desk.store.reading() as connection:
        for table in (removed_day, archive_file):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(chunk)).scalar()
