"""Waiting to be the only one must not hold up whoever is."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from hub.store.database import open_store
from hub.store.migrate import migrate


@pytest.mark.postgres
def test_who_waits_does_not_stop_an_index_from_being_built(postgres_url: str) -> None:
    store = open_store(postgres_url)
    migrate(store)
    entered = threading.Event()

    def wait_in_line() -> None:
        with store.alone(4711):
            entered.set()

    with store.alone(4711):
        waiting = threading.Thread(target=wait_in_line)
        waiting.start()
        time.sleep(0.3)
        assert not entered.is_set()
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("SET statement_timeout = '5s'"))
            connection.execute(sa.text("CREATE INDEX CONCURRENTLY hub_run_try ON hub_run (state)"))
    assert entered.wait(5)
    waiting.join()
    store.close()
