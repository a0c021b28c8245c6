"""Reading a stream page by page. A read is either proven complete or ends with an error."""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin

import msgspec

from hub.sdk.body import MISSING, as_int, dig
from hub.sdk.clock import Clock
from hub.sdk.envelope import holds
from hub.sdk.errors import ConfigError, ContractBroken
from hub.sdk.http import Client
from hub.sdk.manifest import Detail, LinkPager, Stream, WindowPager
from hub.sdk.pagers import Pager, Position, pager_for
from hub.sdk.periods import start_of, written
from hub.sdk.records import Page, Row
from hub.sdk.reply import Reply
from hub.sdk.templates import fill

MAX_ROWS = 100_000
MAX_PAGES = 10_000_000
_REMEMBERED = 100_000
_VERSION = 1
_NO_SUCH_PAGE = ("http.vendor_error", "http.permanent")
"""How a vendor refuses to give the page behind the last."""


@dataclass(frozen=True, slots=True)
class _State:
    """Where a read stands, with the bounds fixed at its start so that a restart keeps them."""

    position: Position
    since: datetime | None
    until: datetime
    window: tuple[datetime, datetime] | None = None


class StreamReader:
    """Reads one stream of a connection."""

    def __init__(self, name: str, stream: Stream, client: Client, clock: Clock) -> None:
        self.name = name
        self.stream = stream
        self._client = client
        self._clock = clock
        self._where = f"{client.connection.name}.{name}"
        page = stream.page
        self._windows = page if isinstance(page, WindowPager) else None
        self._links = isinstance(page, LinkPager)
        self._pager: Pager = pager_for(
            page.inner if isinstance(page, WindowPager) else page, self._where
        )

    @property
    def key(self) -> list[str]:
        """The fields that together identify a row."""
        return self.stream.key

    @property
    def pages_are_counted(self) -> bool:
        """Whether pages are cut by number: a row that appears or vanishes shifts the others."""
        page = self._windows.inner if self._windows else self.stream.page
        return page.kind in {"number", "offset"}

    def is_deleted(self, row: Row) -> bool:
        """Whether the row says that its record is gone."""
        return self.stream.deleted is not None and holds(self.stream.deleted, row)

    def read(
        self, cursor: Mapping[str, Any] | None, since: datetime | None = None
    ) -> Iterator[Page]:
        """The pages after `cursor` (None: from the start, of what changed after `since`).

        `since` is the start of the last complete read; the declared overlap is taken off here.
        With a cursor the bounds of the interrupted read stay, and `since` is not looked at.
        """
        state = self._begin(since) if cursor is None else self._resume(cursor)
        return self._pages(state)

    # --- walking ------------------------------------------------------------------------------

    def _pages(self, start: _State) -> Iterator[Page]:
        state: _State | None = start
        seen = _Seen(self._where, start.position)
        while state is not None:
            reply = self._fetch(state)
            rows = self._rows(reply)
            if state.position.checking and rows and _digest(rows) == state.position.digest:
                rows = []  # behind the last page some vendors give that one again
            step = self._pager.step(state.position, reply, len(rows))
            digest = seen.page(rows, state.position.at)
            following = self._after(state, step.next, digest, reply)
            if following is not None and following.window != state.window:
                seen = _Seen(self._where)
            elif following is not None and self._pager.tokens:
                seen.token(following.position.at)
            if following is None or not following.position.probing:
                total = None if self._windows else step.total
                cursor = None if following is None else self._saved(following)
                yield Page(self._completed(self._detailed(rows)), cursor, total)
            state = following

    def _after(
        self, state: _State, position: Position | None, digest: str | None, reply: Reply
    ) -> _State | None:
        if position is None:
            return self._next_window(state)
        if position.pages >= MAX_PAGES:
            raise ContractBroken("read.too_many_pages", where=self._where, limit=MAX_PAGES)
        if self._links:
            position = replace(position, at=self._link(str(position.at), reply))
        return replace(state, position=replace(position, digest=digest))

    def _fetch(self, state: _State) -> Reply:
        params = {**self._bounds(state), **self._pager.params(state.position)}
        url = str(state.position.at) if self._links and state.position.at is not None else None
        try:
            return self._client.call(
                self.stream.request, read=True, url=url, params=None if url else params
            )
        except (ConfigError, ContractBroken) as error:
            if state.position.checking and error.code in _NO_SUCH_PAGE:
                return Reply(None, {}, 404, empty=True)
            raise

    def _rows(self, reply: Reply) -> list[Row]:
        if reply.empty:
            return []
        rows = dig(reply.body, self.stream.data)
        if not isinstance(rows, list):
            if (rows is MISSING or rows is None) and self._says_none(reply):
                return []
            found = "nothing" if rows is MISSING else type(rows).__name__
            raise ContractBroken(
                "read.no_data_path", where=self._where, path=self.stream.data, found=found
            )
        if len(rows) > MAX_ROWS:
            raise ContractBroken(
                "read.page_too_large", where=self._where, rows=len(rows), limit=MAX_ROWS
            )
        for number, row in enumerate(rows):
            if type(row) is not dict:
                raise ContractBroken(
                    "read.row_not_object", where=self._where, row=number, found=type(row).__name__
                )
        return rows

    def _says_none(self, reply: Reply) -> bool:
        """Whether the vendor counts zero rows: then it may leave the list out."""
        page = self._windows.inner if self._windows else self.stream.page
        path = getattr(page, "total", None)
        return path is not None and as_int(dig(reply.body, path)) == 0

    # --- detail -------------------------------------------------------------------------------

    def _detailed(self, rows: list[Row]) -> list[Row]:
        """The rows, each replaced by its detail when the stream declares one; order kept."""
        detail = self.stream.detail
        workers = min(self._client.connection.manifest.limits.concurrent, len(rows))
        if detail is None or not rows:
            return rows
        if workers == 1:
            return [self._one_detail(detail, row) for row in rows]
        with ThreadPoolExecutor(workers, thread_name_prefix="hub-detail") as pool:
            futures = [pool.submit(self._one_detail, detail, row) for row in rows]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one_detail(self, detail: Detail, row: Row) -> Row:
        # Settings first: a field of a record must never stand in for one.
        context = ChainMap(dict(self._client.connection.config), row)
        reply = self._client.call(detail.request, context, read=True)
        found = MISSING if reply.empty else dig(reply.body, detail.data)
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not isinstance(found, dict):
            shown = "nothing" if found is MISSING else type(found).__name__
            key = ", ".join(f"{name}={row.get(name)}" for name in self.stream.key)
            raise ContractBroken(
                "read.no_detail", where=self._where, path=detail.data, key=key, found=shown
            )
        return found

    def _completed(self, rows: list[Row]) -> list[Row]:
        """The rows with the declared defaults where the vendor left a field out."""
        defaults = self.stream.defaults
        for row in rows if defaults else ():
            for name, value in defaults.items():
                if row.get(name) in (None, ""):
                    row[name] = value
        return rows

    # --- bounds and windows -------------------------------------------------------------------

    def _begin(self, since: datetime | None) -> _State:
        now = self._clock.now()
        incremental = self.stream.incremental
        if since is not None and incremental is not None:
            since -= timedelta(seconds=incremental.overlap)
        state = _State(self._pager.first(), since, now)
        if self._windows is None:
            return state
        start = since or self._declared_start(self._windows, now)
        return replace(state, window=self._window(self._windows, min(start, now), now))

    def _declared_start(self, windows: WindowPager, now: datetime) -> datetime:
        text = fill(windows.start, self._client.connection.config, self._where)
        return start_of(str(text), windows.zone, now, self._where)

    @staticmethod
    def _window(
        windows: WindowPager, start: datetime, until: datetime
    ) -> tuple[datetime, datetime]:
        return start, min(start + timedelta(seconds=max(windows.step, 1.0)), until)

    def _next_window(self, state: _State) -> _State | None:
        if self._windows is None or state.window is None or state.window[1] >= state.until:
            return None
        window = self._window(self._windows, state.window[1], state.until)
        return replace(state, position=self._pager.first(), window=window)

    def _bounds(self, state: _State) -> dict[str, str]:
        """The time parameters of this page."""
        bounds: dict[str, str] = {}
        incremental, windows = self.stream.incremental, self._windows
        if incremental is not None and windows is None:
            form, zone = incremental.format, incremental.zone
            if state.since is not None:
                bounds[incremental.param] = written(state.since, form, zone, self._where)
            if incremental.until_param is not None:
                bounds[incremental.until_param] = written(state.until, form, zone, self._where)
        if windows is not None and state.window is not None:
            start, end = state.window
            bounds[windows.from_param] = written(start, windows.format, windows.zone, self._where)
            bounds[windows.to_param] = written(end, windows.format, windows.zone, self._where)
        return bounds

    # --- links --------------------------------------------------------------------------------

    def _link(self, target: str, reply: Reply) -> str:
        """The next address, absolute, on an approved host, without credentials to be saved."""
        connection = self._client.connection
        url = urljoin(reply.url, target)
        connection.egress.check_url(url, self._where)
        address, _, query = url.partition("#")[0].partition("?")
        added = self._client.added_params
        pairs = [
            (name, value)
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name not in added and connection.mask(value) == value
        ]
        return f"{address}?{urlencode(pairs, quote_via=quote)}" if pairs else address

    # --- cursors ------------------------------------------------------------------------------

    def _saved(self, state: _State) -> dict[str, Any]:
        """A state as plain JSON."""
        saved: dict[str, Any] = {"v": _VERSION, "kind": self.stream.page.kind}
        saved |= {k: v for k, v in asdict(state.position).items() if v is not None}
        saved["until"] = state.until.isoformat()
        if state.since is not None:
            saved["since"] = state.since.isoformat()
        if state.window is not None:
            saved["window"] = [moment.isoformat() for moment in state.window]
        return saved

    def _resume(self, cursor: Mapping[str, Any]) -> _State:
        if cursor.get("v") != _VERSION or cursor.get("kind") != self.stream.page.kind:
            raise ConfigError("read.stale_cursor", where=self._where, kind=self.stream.page.kind)
        names = Position.__dataclass_fields__
        try:
            position = Position(**{"at": None, **{k: cursor[k] for k in names if k in cursor}})
            window = [datetime.fromisoformat(text) for text in cursor.get("window", [])]
            since = datetime.fromisoformat(cursor["since"]) if "since" in cursor else None
            until = datetime.fromisoformat(cursor["until"])
        except (KeyError, TypeError, ValueError):
            kind = self.stream.page.kind
            raise ConfigError("read.stale_cursor", where=self._where, kind=kind) from None
        return _State(position, since, until, (window[0], window[1]) if window else None)


class _Seen:
    """What this read saw, to notice a page or cursor that comes back."""

    def __init__(self, where: str, position: Position | None = None) -> None:
        self._where = where
        self._digests: dict[str, None] = {}
        self._tokens: dict[int | str, None] = {}
        if position is not None and position.digest is not None:
            self._digests[position.digest] = None
        if position is not None and position.at is not None:
            self._tokens[position.at] = None

    def page(self, rows: list[Row], at: int | str | None) -> str | None:
        """The digest of the rows. Raises when an earlier page had the same ones."""
        if not rows:
            return None
        digest = _digest(rows)
        if digest in self._digests:
            raise ContractBroken("read.repeated_page", where=self._where, page=at, rows=len(rows))
        _remember(self._digests, digest)
        return digest

    def token(self, token: int | str | None) -> None:
        """Remember where the read goes next. Raises when it was there before."""
        if token is None:
            return
        if token in self._tokens:
            raise ContractBroken("read.cursor_back", where=self._where)
        _remember(self._tokens, token)


def _digest(rows: list[Row]) -> str:
    return hashlib.blake2b(msgspec.json.encode(rows), digest_size=12).hexdigest()


def _remember(memory: dict[Any, None], item: int | str) -> None:
    memory[item] = None
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
