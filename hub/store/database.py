"""Opening the store: SQLite (one process, WAL, full sync) or PostgreSQL. The URL chooses."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from hub.sdk.errors import ConfigError

_BUSY_MS = 30_000


class Store:
    """The open database. `transaction()` commits once at the end or leaves no trace."""

    def __init__(self, engine: Engine, lock_file: IO[str] | None = None) -> None:
        self.engine = engine
        self.embedded = engine.dialect.name == "sqlite"
        self._lock_file = lock_file
        # SQLite starves writers that poll for its lock; our own threads queue up fairly instead.
        self._writer = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction; on SQLite the only one at a time."""
        if not self.embedded:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._writer, self.engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries only."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection and give up the single-process lock."""
        self.engine.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def database_time(connection: Connection) -> float:
    """Seconds since 1970 by the clock that all processes share."""
    if connection.dialect.name == "postgresql":
        now = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(now.scalar_one())
    return time.time()


def open_store(url: str) -> Store:
    """The store at `url`. Raises ConfigError when it cannot be used or another process owns it."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError("store.url", url=_without_password(url)) from error
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed.database or "")
    if parsed.get_backend_name() == "postgresql":
        return _open_postgres(url)
    raise ConfigError("store.backend", backend=parsed.get_backend_name())


def _open_sqlite(database: str) -> Store:
    if database in {"", ":memory:"}:
        raise ConfigError("store.url", url="sqlite without a file")
    path = Path(database)
    if not path.parent.is_dir():
        raise ConfigError("store.folder", folder=path.parent)
    lock_file = _own(path)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_MS / 1000})
    sa.event.listen(engine, "connect", _set_pragmas)
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
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _open_postgres(url: str) -> Store:
    try:
        engine = sa.create_engine(
            url, isolation_level="READ COMMITTED", pool_size=10, max_overflow=10, pool_pre_ping=True
        )
        with engine.connect():
            pass
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise ConfigError("store.unreachable", url=_without_password(url), reason=reason) from error
    return Store(engine)


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url.split("@")[-1]
