"""Whatever is written, in whatever order: the store holds what a plain dictionary would hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from hub.sdk.errors import ContractBroken
from hub.store.database import Store
from hub.store.tables.telemetry import chunk, telemetry_metadata
from hub.store.telemetry import chunks as chunk_store
from hub.store.telemetry.chunks import HOUR_MS, read_chunks, read_points
from hub.store.telemetry.codec import decode
from hub.store.telemetry.dropping import give_back
from hub.store.telemetry.partitions import week_start, weeks_kept
from hub.telemetry import series_writer
from hub.telemetry.series_writer import (
    DUPLICATE,
    NEW,
    RESTATED,
    Clash,
    SeriesWriter,
    Written,
)

Row = tuple[int, int, float]
Model = dict[tuple[int, int], float]

# 2023-11-14T22:00Z; the next week begins 6 days and 2 hours later.
BASE = 1_700_000_000_000 // HOUR_MS * HOUR_MS
EVER = (0, 2**50)
WRITER = SeriesWriter()


def write(connection: Connection, rows: Sequence[Row]) -> Written:
    series, ts, values = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 3
    return WRITER.write(
        connection,
        np.array(series, np.int64),
        np.array(ts, np.int64),
        np.array(values, np.float64),
    )


def kept(store: Store, rows: Sequence[Row]) -> Written:
    with store.transaction() as connection:
        return write(connection, rows)


def points_of(
    store: Store, series: int, since: int = 0, until: int = 2**50
) -> list[tuple[int, float]]:
    with store.reading() as connection:
        ts, values = read_points(connection, series, since, until)
    return list(zip(ts.tolist(), values.tolist(), strict=True))


def chunks_of(store: Store, series: int) -> list[tuple[int, int]]:
    with store.reading() as connection:
        return [(one.start, one.size) for one in read_chunks(connection, series, *EVER)]


def minutes(count: int, series: int = 1, since: int = BASE) -> list[Row]:
    return [(series, since + 60_000 * n, n / 10) for n in range(count)]


# --- a plain dictionary says what is right ----------------------------------------------------


def expected(model: Model, rows: Sequence[Row]) -> tuple[list[int], set[tuple[int, int]]]:
    """Changes the model; returns the verdicts and the changed hours."""
    verdicts, hours = [], set()
    for series, ts, value in rows:
        before = model.get((series, ts))
        same = before is not None and bits(before) == bits(value)
        verdicts.append(NEW if before is None else DUPLICATE if same else RESTATED)
        if not same:
            hours.add((series, ts // HOUR_MS * HOUR_MS))
        model[series, ts] = value
    return verdicts, hours


def bits(value: float) -> bytes:
    return np.float64(value).tobytes()


def check(store: Store, model: Model) -> None:
    """The store holds the model, and every chunk says the truth about its points."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(chunk).order_by(chunk.c.series_id, chunk.c.start)).all()
    found: Model = {}
    ends: dict[int, int] = {}
    for row in rows:
        ts, values = decode(bytes(row.points))
        assert row.start <= ts[0]
        assert row.start > ends.get(row.series_id, -1), "chunks overlap"
        assert row.start // HOUR_MS == ts[-1] // HOUR_MS, "a chunk leaves its hour"
        assert (np.diff(ts) > 0).all()
        assert (row.count, row.last_ts) == (len(ts), ts[-1])
        assert (row.low, row.high) == (values.min(), values.max())
        size = max(map(abs, values.tolist())) * 1e-12
        assert row.total == pytest.approx(total(values.tolist()), rel=1e-12, abs=size)
        assert row.count <= series_writer.MOST_POINTS
        ends[row.series_id] = row.last_ts
        found.update(
            {(row.series_id, t): v for t, v in zip(ts.tolist(), values.tolist(), strict=True)}
        )
    assert {key: bits(value) for key, value in found.items()} == {
        key: bits(value) for key, value in model.items()
    }


def total(values: list[float]) -> float:
    exact = sum(map(Fraction, values))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def emptied(store: Store) -> None:
    with store.transaction() as connection:
        for table in telemetry_metadata.sorted_tables:
            connection.execute(table.delete())


VALUES = st.sampled_from([0.0, -0.0, 1.5, 2.25, 1 / 3, 1e308, -1e308, 5e-324, 7.0])
TIMES = st.one_of(
    st.integers(0, 30).map(lambda n: BASE + 60_000 * n),  # the same hour again and again
    st.integers(-3 * HOUR_MS, 3 * HOUR_MS).map(lambda n: BASE + n),
    st.sampled_from([BASE - 1, BASE, BASE + HOUR_MS - 1, BASE + HOUR_MS]),
    st.integers(0, 40).map(lambda n: BASE + n * 86_400_000),  # other weeks
)
ROWS = st.tuples(st.integers(1, 3), TIMES, VALUES)
BATCHES = st.lists(st.lists(ROWS, max_size=25), min_size=1, max_size=6)


@given(batches=BATCHES, longest=st.sampled_from([1, 2, 5, 1024]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_the_store_holds_what_a_dictionary_would(
    readings_store: Store, batches: list[list[Row]], longest: int
) -> None:
    emptied(readings_store)
    model: Model = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_writer, "MOST_POINTS", longest)
        for rows in batches:
            verdicts, hours = expected(model, rows)
            written = kept(readings_store, rows)
            assert written.verdict.tolist() == verdicts
            assert [tuple(one) for one in written.hours.tolist()] == sorted(hours)
            check(readings_store, model)


@given(batches=BATCHES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_the_portable_way_does_the_same(readings_store: Store, batches: list[list[Row]]) -> None:
    emptied(readings_store)
    model: Model = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_writer, "MOST_POINTS", 5)
        patch.setattr(series_writer, "find_chunks", chunk_store.find_portably)
        patch.setattr(chunk_store, "_keep_sqlite", portable_keep)
        for rows in batches:
            with readings_store.transaction() as connection:
                if connection.dialect.name == "postgresql":
                    weeks = {chunk_store.week_of(ts) for _, ts, _ in rows}
                    chunk_store.ensure_weeks(connection, weeks)
                verdicts, _ = expected(model, rows)
                assert write(connection, rows).verdict.tolist() == verdicts
            check(readings_store, model)


def portable_keep(connection: Connection, rows: Sequence[chunk_store.Kept]) -> int:
    new = [one for one in rows if one.version == 1]
    return chunk_store.keep_portably(connection, new, [one for one in rows if one.version > 1])


# --- chunks -----------------------------------------------------------------------------------


def test_a_new_hour_begins_a_chunk(readings_store: Store) -> None:
    kept(readings_store, minutes(125))
    assert chunks_of(readings_store, 1) == [
        (BASE, 60),
        (BASE + HOUR_MS, 60),
        (BASE + 2 * HOUR_MS, 5),
    ]


def test_a_full_chunk_gets_a_successor_from_the_next_reading_on(readings_store: Store) -> None:
    rows = [(1, BASE + 1000 * n, float(n)) for n in range(1024)]
    kept(readings_store, rows)
    assert chunks_of(readings_store, 1) == [(BASE, 1024)]
    kept(readings_store, [(1, BASE + 1_024_500, 1.0)])
    assert chunks_of(readings_store, 1) == [(BASE, 1024), (BASE + 1_024_500, 1)]
    kept(readings_store, [(1, BASE + 1_024_100, 2.0), (1, BASE + 1_025_000, 3.0)])
    assert points_of(readings_store, 1)[-3:] == [
        (BASE + 1_024_100, 2.0),
        (BASE + 1_024_500, 1.0),
        (BASE + 1_025_000, 3.0),
    ]


def test_a_late_reading_halves_a_full_chunk(readings_store: Store) -> None:
    kept(readings_store, [(1, BASE + 1000 * n, float(n)) for n in range(1024)])
    kept(readings_store, [(1, BASE + 500, 9.0)])
    assert [size for _, size in chunks_of(readings_store, 1)] == [513, 512]


def test_an_hour_of_many_readings_is_kept_in_one_call(readings_store: Store) -> None:
    rows = [(1, BASE + 100 * n, n % 7 / 4) for n in range(36_000)]
    written = kept(readings_store, rows)
    assert not written.verdict.any()
    assert len(chunks_of(readings_store, 1)) == 36
    assert points_of(readings_store, 1) == [(ts, value) for _, ts, value in rows]
    assert kept(readings_store, rows[::-1]).verdict.tolist() == [DUPLICATE] * 36_000


def test_what_changes_nothing_writes_nothing(readings_store: Store) -> None:
    kept(readings_store, minutes(60))
    with readings_store.reading() as connection:
        before = connection.execute(sa.select(chunk)).all()
    written = kept(readings_store, minutes(60))
    assert written.verdict.tolist() == [DUPLICATE] * 60
    assert written.hours.shape == (0, 2)
    with readings_store.reading() as connection:
        assert connection.execute(sa.select(chunk)).all() == before


def test_nothing_is_written_for_no_rows(readings_store: Store) -> None:
    written = kept(readings_store, [])
    assert (written.verdict.shape, written.hours.shape) == ((0,), (0, 2))


def test_sums_beyond_float64_are_kept_all_the_same(readings_store: Store) -> None:
    model: Model = {}
    for series, signs in ((1, (1, 1, -1, -1)), (2, (1, 1, 1, 1)), (3, (-1, -1, -1, -1))):
        rows = [(series, BASE + n, sign * 1.7e308) for n, sign in enumerate(signs * 20)]
        expected(model, rows)
        kept(readings_store, rows)
    check(readings_store, model)


def test_an_undone_transaction_leaves_no_reading(readings_store: Store) -> None:
    kept(readings_store, minutes(5))
    with undone(readings_store) as connection:
        write(connection, minutes(10))
    assert len(points_of(readings_store, 1)) == 5
    kept(readings_store, minutes(10))
    assert len(points_of(readings_store, 1)) == 10


def test_several_calls_in_one_transaction_see_each_other(readings_store: Store) -> None:
    with readings_store.transaction() as connection:
        write(connection, minutes(5))
        write(connection, minutes(8))
        assert write(connection, minutes(9)).verdict.tolist() == [DUPLICATE] * 8 + [NEW]
    assert len(points_of(readings_store, 1)) == 9


# --- reading ----------------------------------------------------------------------------------


def test_points_are_read_from_a_time_to_before_another(readings_store: Store) -> None:
    kept(readings_store, minutes(180) + minutes(10, series=2))
    since, until = BASE + 60_000 * 30, BASE + 60_000 * 150
    found = points_of(readings_store, 1, since, until)
    assert (len(found), found[0], found[-1]) == (120, (since, 3.0), (until - 60_000, 14.9))
    assert points_of(readings_store, 1, since + 1, since + 60_001) == [(since + 60_000, 3.1)]
    assert points_of(readings_store, 3) == []
    assert points_of(readings_store, 1, until, since) == []


def test_a_damaged_chunk_is_named(readings_store: Store) -> None:
    kept(readings_store, minutes(5))
    with readings_store.transaction() as connection:
        connection.execute(chunk.update().values(points=b"damaged"))
    with pytest.raises(ContractBroken, match="damaged"):
        points_of(readings_store, 1)
    with pytest.raises(ContractBroken, match="damaged"):
        kept(readings_store, minutes(6))


# --- two writers on PostgreSQL ----------------------------------------------------------------


@contextmanager
def undone(store: Store) -> Iterator[Connection]:
    """A transaction that begins before another writer's and ends after it."""
    with store.engine.connect() as connection, connection.begin() as begun:
        yield connection
        begun.rollback()


def between(store: Store, rows: list[Row]) -> Callable[..., object]:
    """Lets another writer be faster, between the look and the write."""
    real, done = chunk_store.keep_chunks, []

    def keep(connection: Connection, chunks: Sequence[chunk_store.Kept]) -> None:
        if not done:
            done.append(1)
            kept(store, rows)
        real(connection, chunks)

    return keep


@pytest.mark.parametrize("before", [0, 5, 1024])
def test_the_slower_of_two_writers_does_its_transaction_again(
    postgres_store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(1, BASE + 1000 * n, 1.0) for n in range(before)]
    kept(postgres_store, rows)
    mine, others = [(1, BASE + 2_000_000, 2.0)], [(1, BASE + 2_000_001, 3.0)]
    monkeypatch.setattr(series_writer, "keep_chunks", between(postgres_store, others))
    with pytest.raises(Clash), undone(postgres_store) as connection:
        write(connection, mine)
    kept(postgres_store, mine)
    model: Model = {}
    expected(model, rows + others + mine)
    check(postgres_store, model)


def test_a_week_goes_when_it_is_empty_old_and_not_in_use(postgres_store: Store) -> None:
    kept(postgres_store, minutes(3))
    later = BASE + 30 * 86_400_000
    with postgres_store.transaction() as connection:
        (week,) = weeks_kept(connection)
        assert give_back(connection, later) == 0
        connection.execute(chunk.delete())
    with postgres_store.transaction() as connection:
        assert give_back(connection, week_start(week + 1) - 1) == 0
        write(connection, minutes(3, since=BASE + 60_000))
        with postgres_store.transaction() as other:
            assert give_back(other, later) == 0
        connection.rollback()
    with postgres_store.transaction() as connection:
        assert give_back(connection, later) == 1
        assert weeks_kept(connection) == set()
    assert kept(postgres_store, minutes(3)).verdict.tolist() == [NEW] * 3


# --- old readings -----------------------------------------------------------------------------


def test_a_late_reading_of_a_dropped_hour_starts_its_chunk_again(readings_store: Store) -> None:
    kept(readings_store, [(1, BASE + 1000 * n, float(n)) for n in range(1500)])
    with readings_store.transaction() as connection:
        connection.execute(chunk.delete().where(chunk.c.last_ts < BASE + 1_100_000))
    left = points_of(readings_store, 1)
    assert left[0][0] == BASE + 1_024_000
    rows = [(1, BASE + 7, 5.0), (1, BASE + 1_400_000, 6.0)]
    assert kept(readings_store, rows).verdict.tolist() == [NEW, RESTATED]
    model: Model = {(1, ts): value for ts, value in left}
    expected(model, rows)
    check(readings_store, model)


def test_a_sqlite_file_grows_smaller_when_readings_go(sqlite_store: Store) -> None:
    rows = [(s, BASE + HOUR_MS * n, 1.0) for s in range(1000) for n in range(10)]
    kept(sqlite_store, rows)

    def pages() -> int:
        with sqlite_store.reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    before = pages()
    with sqlite_store.transaction() as connection:
        assert connection.execute(chunk.delete()).rowcount == 10_000
    steps = 0
    while True:
        with sqlite_store.transaction() as connection:
            if not give_back(connection, BASE):
                break
        steps += 1
    assert steps > 0
    assert pages() < before / 2


def test_writers_at_the_same_time_lose_nothing(postgres_store: Store) -> None:
    """Three threads write the same hours, each row once, and redo what clashes."""
    rows = minutes(300)
    clashes: list[int] = []

    def work(mine: list[Row]) -> None:
        for at in range(0, len(mine), 5):
            while True:
                try:
                    kept(postgres_store, mine[at : at + 5])
                    break
                except Clash:
                    clashes.append(at)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, rows[n::3]) for n in range(3)]:
            done.result(timeout=60)
    model: Model = {}
    expected(model, rows)
    check(postgres_store, model)
