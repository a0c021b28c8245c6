"""Texts are kept like numbers: new, a duplicate or restated, the last one wins."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.store.database import Store
from hub.store.tables.telemetry import text_reading
from hub.store.telemetry.texts import read_texts
from hub.telemetry.series_writer import DUPLICATE, NEW, RESTATED, TextRow, write_texts


@given(
    batches=st.lists(
        st.lists(
            st.builds(
                TextRow, st.integers(1, 2), st.integers(0, 5), st.sampled_from(["", "a", "停机"])
            ),
            max_size=12,
        ),
        max_size=4,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_texts_are_kept_like_numbers(readings_store: Store, batches: list[list[TextRow]]) -> None:
    with readings_store.transaction() as connection:
        connection.execute(text_reading.delete())
    model: dict[tuple[int, int], str] = {}
    for rows in batches:
        wanted = []
        for series, ts, text in rows:
            before = model.get((series, ts))
            wanted.append(NEW if before is None else DUPLICATE if before == text else RESTATED)
            model[series, ts] = text
        with readings_store.transaction() as connection:
            assert write_texts(connection, rows) == wanted
    with readings_store.reading() as connection:
        for series in (1, 2):
            found = read_texts(connection, series, 0, 5, 3)
            assert (
                found
                == sorted((ts, t) for (s, ts), t in model.items() if s == series and ts < 5)[:3]
            )


def test_many_texts_at_once_and_odd_ones(readings_store: Store) -> None:
    rows = [TextRow(1, n, f"state {n}\0\ud800") for n in range(1000)]
    with readings_store.transaction() as connection:
        assert write_texts(connection, rows) == [NEW] * 1000
        assert write_texts(connection, rows) == [DUPLICATE] * 1000
        assert read_texts(connection, 1, 0, 10, 1) == [(0, "state 0?")]
