"""Opening the store: SQLite (one process, WAL, full sync) or PostgreSQL. The URL chooses."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from hub.sdk.errors import ConfigError

STANDSTILL_SECONDS = 6.0
"""A process that stands still inside a transaction for so long loses it, and its locks."""

_BUSY_MS = 30_000
_CONNECT_SECONDS = 5
_TRY_AGAIN_SECONDS = 0.5
_LOCK_POLL_SECONDS = 0.1
_IDLE_IN_TRANSACTION = "25P03"
# The second: no room for the index of the write-ahead log.
_SQLITE_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
_POSTGRES_FULL = "53100"
_INCREMENTAL = 2


class Store:
    """The open database. `transaction()` commits once at the end or leaves no trace."""

    def __init__(
        self, engine: Engine, lock_file: IO[str] | None = None, side_engine: Engine | None = None
    ) -> None:
        self.engine = engine
        self.side_engine = side_engine or engine
        """Connections apart, so that a heartbeat never waits for the jobs'."""
        self.embedded = engine.dialect.name == "sqlite"
        self.commits: Counter[int] = Counter()
        """Transactions committed so far by each thread (its ident)."""
        self._lock_file = lock_file
        # SQLite starves writers that poll for its lock; our own threads queue up fairly instead.
        self._writer = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction; on SQLite the only one at a time."""
        if not self.embedded:
            with self.engine.begin() as connection:
                yield connection
        else:
            with self._writer, self.engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        self.commits[threading.get_ident()] += 1

    @contextmanager
    def side_transaction(self) -> Iterator[Connection]:
        """A small write transaction that waits for no job's connection."""
        if self.embedded:
            with self.transaction() as connection:
                yield connection
        else:
            with self.side_engine.begin() as connection:
                yield connection

    @contextmanager
    def alone(self, lock: int) -> Iterator[None]:
        """Only one process at a time is in here; the others wait.

        Held by the session, not by a transaction: what is done meanwhile may be many of them,
        and a process that dies lets go at once.
        """
        if self.embedded:
            yield
            return
        with self.side_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
            key = {"lock": lock}
            # Asked again and again: a statement that waits keeps a snapshot, and an index that is
            # built concurrently in here would wait for it.
            while not held.execute(sa.text("SELECT pg_try_advisory_lock(:lock)"), key).scalar_one():
                time.sleep(_LOCK_POLL_SECONDS)
            try:
                yield
            finally:
                held.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), key)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries only."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection and give up the single-process lock."""
        self.engine.dispose()
        self.side_engine.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


class AtOnce:
    """For one thread: transactions of a single statement, on a connection that stays open.

    To take one from the pool means to ask the server first whether it is still there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection on which a statement commits by itself; on SQLite a usual transaction."""
        if self._store.embedded:
            with self._store.transaction() as connection:
                yield connection
            return
        if self._kept is None:
            opened = self._store.engine.connect()
            self._kept = opened.execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield self._kept
        except BaseException:
            self.close()
            raise
        self._store.commits[threading.get_ident()] += 1

    def close(self) -> None:
        """Give the connection back."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def database_time(connection: Connection) -> float:
    """Seconds since 1970 by the clock that all processes share."""
    if connection.dialect.name == "postgresql":
        now = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(now.scalar_one())
    return time.time()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long (seconds) to wait for a server that does not answer yet; `tell` hears of it once."""

    seconds: float
    tell: Callable[[ConfigError], None]


def is_disk_full(error: sa.exc.DBAPIError) -> bool:
    """Whether the database had no room left; nothing of the transaction was kept."""
    name = getattr(error.orig, "sqlite_errorname", "")
    return name in _SQLITE_FULL or getattr(error.orig, "sqlstate", None) == _POSTGRES_FULL


def open_store(
    url: str,
    *,
    standstill: float = STANDSTILL_SECONDS,
    patience: Patience | None = None,
    shared: bool = False,
) -> Store:
    """The store at `url`. Raises ConfigError when it cannot be used or another process owns it.

    On PostgreSQL a transaction in which nothing happens for `standstill` seconds is undone.
    `shared`: several processes may have the SQLite file open, and each waits for the other's
    transactions.
    """
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError("store.url", url=_without_password(url)) from error
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed.database or "", shared=shared)
    if parsed.get_backend_name() == "postgresql":
        return _open_patiently(url, standstill, patience)
    raise ConfigError("store.backend", backend=parsed.get_backend_name())


def _open_patiently(url: str, standstill: float, patience: Patience | None) -> Store:
    until, told = time.monotonic() + (patience.seconds if patience else 0.0), False
    while True:
        try:
            return _open_postgres(url, standstill)
        except ConfigError as error:
            away = isinstance(error.__cause__, sa.exc.OperationalError)
            if patience is None or not away or time.monotonic() >= until:
                raise
            if not told:
                patience.tell(error)
                told = True
        time.sleep(_TRY_AGAIN_SECONDS)


def _open_sqlite(database: str, *, shared: bool) -> Store:
    if database in {"", ":memory:"}:
        raise ConfigError("store.url", url="sqlite without a file")
    path = Path(database)
    if not path.parent.is_dir():
        raise ConfigError("store.folder", folder=path.parent)
    lock_file = None if shared else _own(path)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_MS / 1000})
    sa.event.listen(engine, "connect", _set_pragmas_of_shared if shared else _set_pragmas)
    return Store(engine, lock_file)


def _own(path: Path) -> IO[str]:
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock_file = lock_path.open("a+")
    except OSError as error:
        raise ConfigError("store.unwritable", file=lock_path, reason=error.strerror) from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.seek(0)
        owner = lock_file.read().strip() or "unknown"
        lock_file.close()
        raise ConfigError("store.locked", file=path, pid=owner) from None
    lock_file.truncate(0)
    lock_file.write(str(os.getpid()))
    lock_file.flush()
    return lock_file


def _set_pragmas(connection: Any, _record: object) -> None:
    _use_wal(connection)
    for pragma in ("synchronous=FULL", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: Any) -> None:
    """In a new file this needs the file alone, and SQLite does not wait for that by itself."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_LOCK_POLL_SECONDS / 10)
        else:
            return


def _set_pragmas_of_shared(connection: Any, record: object) -> None:
    # Both take effect in a new file only: room given free goes back to the disk in small steps.
    connection.execute("PRAGMA page_size=8192")
    # Said again it would be a write transaction, which a full disk does not take.
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    _set_pragmas(connection, record)


def _open_postgres(url: str, standstill: float) -> Store:
    try:
        engine = _postgres_engine(url, standstill, pool_size=10, max_overflow=10)
        with engine.connect():
            pass
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise ConfigError("store.unreachable", url=_without_password(url), reason=reason) from error
    return Store(engine, side_engine=_postgres_engine(url, standstill, pool_size=2, max_overflow=2))


def _postgres_engine(url: str, standstill: float, *, pool_size: int, max_overflow: int) -> Engine:
    engine = sa.create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, **_KEEPALIVE},
    )

    def limit_standstill(connection: Any, _record: object) -> None:
        # A process that is frozen between two statements would hold its row locks for ever.
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(standstill * 1000)}")
        connection.commit()  # the pool rolls back when it takes a connection back

    sa.event.listen(engine, "connect", limit_standstill)
    sa.event.listen(engine, "handle_error", _lost_by_standstill)
    return engine


def _lost_by_standstill(context: Any) -> None:
    """To whoever stood still the connection is lost, as when the server goes: an outage."""
    lost = context.original_exception
    if getattr(lost, "sqlstate", None) == _IDLE_IN_TRANSACTION:
        context.is_disconnect = True
        raise sa.exc.OperationalError(
            context.statement, context.parameters, lost, connection_invalidated=True
        ) from lost


# A database host that vanished is noticed within half a minute, not after two hours.
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url.split("@")[-1]
