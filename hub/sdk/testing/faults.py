"""What a fake server can do wrong, and which request it happens to."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Generic, TypeVar

from hub.sdk.testing.messages import Request


class Fault(enum.StrEnum):
    """One way to misbehave. Options and their defaults stand in `OPTIONS`."""

    RESET = "reset"  # the connection is reset (RST) instead of an answer
    EARLY_CLOSE = "early_close"  # the connection is closed without an answer
    CUT_BODY = "cut_body"  # less body than Content-Length promises
    CUT_CHUNK = "cut_chunk"  # a chunk ends before its length
    GARBAGE = "garbage"  # bytes that are not HTTP
    HUGE_HEADER = "huge_header"  # a 2 MB header
    SILENCE = "silence"  # the request is read, nothing is answered
    DRIP = "drip"  # the body arrives one byte per interval
    SLOW_BODY = "slow_body"  # the body arrives at so many bytes per second
    SLOW_HEADERS = "slow_headers"  # the head arrives one byte per interval
    DELAY = "delay"  # the right answer, late
    GZIP_BOMB = "gzip_bomb"  # about 194 kB that inflate to 200 MB
    HTML_200 = "html_200"  # status 200 and a web page
    GBK_JSON = "gbk_json"  # the right answer encoded as GBK
    REDIRECT_LOOP = "redirect_loop"  # 302 to the same address
    TOO_MANY_REQUESTS = "too_many_requests"  # 429, Retry-After when the option is given
    STATUS = "status"  # an HTTP status instead of handling the request
    EMPTY_BODY = "empty_body"  # 200 and nothing in it
    STATUS_AFTER = "status_after"  # handled (committed), then an HTTP status
    LOST_ANSWER = "lost_answer"  # handled (committed), then the connection is reset
    TIMEOUT_AFTER = "timeout_after"  # handled (committed), then silence
    DUPLICATE_REQUEST = "duplicate_request"  # handled twice, as by a repeating proxy
    DUPLICATE_ANSWER = "duplicate_answer"  # handled once, answered twice


OPTIONS: Mapping[Fault, Mapping[str, Any]] = {
    Fault.RESET: {},
    Fault.EARLY_CLOSE: {},
    Fault.CUT_BODY: {"keep": 0.5},
    Fault.CUT_CHUNK: {"keep": 0.5},
    Fault.GARBAGE: {},
    Fault.HUGE_HEADER: {"size": 2_000_000},
    Fault.SILENCE: {},
    Fault.DRIP: {"interval": 0.5},
    Fault.SLOW_BODY: {"rate": 10_000},
    Fault.SLOW_HEADERS: {"interval": 0.5},
    Fault.DELAY: {"seconds": 1.0},
    Fault.GZIP_BOMB: {"inflated": 200_000_000},
    Fault.HTML_200: {"media_type": "text/html; charset=utf-8"},
    Fault.GBK_JSON: {"media_type": "application/json"},
    Fault.REDIRECT_LOOP: {"status": 302},
    Fault.TOO_MANY_REQUESTS: {"retry_after": None},
    Fault.STATUS: {"status": 503, "body": "", "retry_after": None},
    Fault.EMPTY_BODY: {"status": 200},
    Fault.STATUS_AFTER: {"status": 500, "body": ""},
    Fault.LOST_ANSWER: {},
    Fault.TIMEOUT_AFTER: {},
    Fault.DUPLICATE_REQUEST: {},
    Fault.DUPLICATE_ANSWER: {},
}

HANDLED = frozenset(
    {
        Fault.CUT_BODY,
        Fault.CUT_CHUNK,
        Fault.DRIP,
        Fault.SLOW_BODY,
        Fault.SLOW_HEADERS,
        Fault.DELAY,
        Fault.GBK_JSON,
        Fault.STATUS_AFTER,
        Fault.LOST_ANSWER,
        Fault.TIMEOUT_AFTER,
        Fault.DUPLICATE_REQUEST,
        Fault.DUPLICATE_ANSWER,
    }
)
"""Faults whose request is handled, so that its effect happens. The others change nothing."""

Alteration = Callable[[Any, Request], Any]
"""Gets the decoded JSON answer and the request, gives the JSON to send instead."""
Act = TypeVar("Act")


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """A fault with all its options."""

    fault: Fault
    options: Mapping[str, Any]


def misbehaviour(fault: Fault | str, options: Mapping[str, Any]) -> Misbehaviour:
    """The fault with defaults filled in. Raises ValueError for an option it does not have."""
    kind = Fault(fault)
    known = OPTIONS[kind]
    for name in options:
        if name not in known:
            raise ValueError(f"{kind.value} has no option {name!r}; known: {sorted(known)}")
    status = options.get("status", 200)
    if type(status) is not int or not 200 <= status <= 599:
        raise ValueError(f"status {status!r} is not between 200 and 599")
    return Misbehaviour(kind, {**known, **options})


@dataclass(slots=True)
class _Entry(Generic[Act]):
    act: Act
    path: str | None
    method: str | None
    left: int | None
    skip: int
    chance: float

    def concerns(self, request: Request) -> bool:
        return self.method in (None, request.method) and self._is_on(request)

    def _is_on(self, request: Request) -> bool:
        if self.path is None or self.path in (request.path, request.route):
            return True
        return "*" in self.path and fnmatchcase(request.path, self.path)


@dataclass(slots=True)
class Schedule(Generic[Act]):
    """Acts waiting for their request. Safe for threads; the same `seed` gives the same chances."""

    seed: int = 0
    taken: int = 0
    _entries: list[_Entry[Act]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 (decides what breaks, keeps no secret)

    def add(
        self,
        act: Act,
        path: str | None,
        method: str | None,
        times: int | None,
        after: int,
        chance: float = 1.0,
    ) -> None:
        """Do `act` to `times` requests (None: to all), after letting `after` of them pass.

        `path` is an exact path, a route as it was registered, or a pattern with `*`. With a
        `chance` below 1 only that share of the requests is hit.
        """
        if times is not None and times < 1:
            raise ValueError(f"times {times} is not at least 1 (null: always)")
        if after < 0:
            raise ValueError(f"after {after} is not at least 0")
        if not 0 < chance <= 1:
            raise ValueError(f"chance {chance} is not above 0 and at most 1")
        wanted = method.upper() if method else None
        with self._lock:
            self._entries.append(_Entry(act, path, wanted, times, after, chance))

    def take(self, request: Request, *, only_first: bool) -> list[Act]:
        """What happens to this request, in the order it was asked for."""
        if not self._entries:
            return []
        taken: list[Act] = []
        with self._lock:
            for entry in self._entries:
                if not entry.concerns(request) or (only_first and taken):
                    continue
                if entry.skip > 0:
                    entry.skip -= 1
                    continue
                if entry.chance < 1 and self._random.random() >= entry.chance:
                    continue
                if entry.left is not None:
                    entry.left -= 1
                taken.append(entry.act)
            self.taken += len(taken)
            self._entries = [entry for entry in self._entries if entry.left != 0]
        return taken

    def clear(self) -> None:
        """Forget everything that has not happened yet."""
        with self._lock:
            self._entries.clear()
