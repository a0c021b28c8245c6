"""Walking through pages: where to go next, and proof that nothing was left out.

A pager is a pure step function: it gets where the read stands and one answer, and says where to
go on, or that the read is complete, or raises ContractBroken. It never trusts a short page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hub.sdk.body import MISSING, as_int, dig
from hub.sdk.errors import ContractBroken
from hub.sdk.manifest import CursorPager, LinkPager, NoPager, NumberPager, OffsetPager
from hub.sdk.reply import Reply


@dataclass(frozen=True, slots=True)
class Position:
    """Where a read stands: the next page to ask for and what was seen before it.

    `at` is a page number, an offset, a cursor token or a link (None: the first page of those).
    `probing` = the page before was empty and no total tells whether that is the end.
    `checking` = all rows of the total were read, but the last page was as full as any.
    """

    at: int | str | None
    seen: int = 0
    pages: int = 0
    total: int | None = None
    page_count: int | None = None
    digest: str | None = None
    probing: bool = False
    checking: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one answer means for the read: its total as reported, and the next position."""

    next: Position | None
    total: int | None


class Pager(Protocol):
    """One way of paging. `tokens`: the vendor says where to go next, so going back is possible."""

    tokens: bool

    def first(self) -> Position:
        """Where a read starts."""

    def params(self, position: Position) -> dict[str, Any]:
        """The parameters that ask for this page."""

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        """What follows after an answer with `count` rows."""


class _Counted:
    """What all kinds share: totals that are followed, and the proof at the end."""

    tokens = False

    def __init__(self, where: str, total: str | None, total_header: str | None = None) -> None:
        self._where = where
        self._total = total
        self._total_header = total_header

    def broken(self, code: str, **params: object) -> ContractBroken:
        """The error that ends this read loudly."""
        return ContractBroken(code, where=self._where, **params)

    def advance(self, position: Position, reply: Reply, count: int) -> Position:
        """The position after this page, with the total as last reported."""
        reported = self._reported_total(reply)
        total = position.total if reported is None else reported
        seen = position.seen + count
        # More rows than promised is only explained by a total that moved since the last page.
        if total is not None and seen > total and position.total in (None, total):
            raise self.broken("read.more_than_total", seen=seen, total=total)
        return replace(position, seen=seen, pages=position.pages + 1, total=total)

    def finish(self, after: Position) -> Step:
        """The end of the read, refused when rows are missing."""
        if after.total is not None and after.seen < after.total:
            raise self.broken("read.total_not_reached", seen=after.seen, total=after.total)
        return Step(None, after.total)

    def empty_page(self, position: Position) -> ContractBroken:
        """The error for a page without rows where there must be more."""
        total = "?" if position.total is None else position.total
        return self.broken("read.empty_page", page=position.at, seen=position.seen, total=total)

    def _reported_total(self, reply: Reply) -> int | None:
        """The total as this answer gives it, in its body or in a header."""
        if self._total_header is None:
            return self._number(reply, self._total)
        number = as_int(reply.headers.get(self._total_header.lower()))
        if number is None:
            raise self.broken("read.not_a_count", path=self._total_header, found="no number")
        return number

    def _number(self, reply: Reply, path: str | None) -> int | None:
        """The count at `path`; an `empty` answer may leave it out."""
        if path is None:
            return None
        value = dig(reply.body, path)
        if (value is MISSING or value is None) and reply.empty:
            return None
        number = as_int(value)
        if number is None:
            shown = "nothing" if value is MISSING else type(value).__name__
            raise self.broken("read.not_a_count", path=path, found=shown)
        return number


class _None(_Counted):
    """A stream that is one page."""

    def __init__(self, pager: NoPager, where: str) -> None:
        super().__init__(where, pager.total)

    def first(self) -> Position:
        return Position(None)

    def params(self, position: Position) -> dict[str, Any]:
        return {}

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        return self.finish(self.advance(position, reply, count))


class _Stepping(_Counted):
    """Shared by page numbers and offsets: without a total, only a second empty page is the end."""

    def may_go_on(self, position: Position, after: Position, count: int, size: int) -> bool:
        """Whether the read ends at its total with a full page: one that is too low looks so, too.

        The vendor may give fewer rows than asked for; full is then what the pages before were.
        """
        if count == 0 or after.seen != after.total:
            return False
        return count >= size if position.pages == 0 else count * position.pages >= position.seen

    def ask_again(self, position: Position, after: Position, count: int) -> bool:
        """Whether the read ends here (no total known). Raises when rows follow an empty page."""
        if count and position.probing:
            raise self.broken("read.empty_page", page=position.at, seen=position.seen, total="?")
        return count == 0 and position.probing


class _Number(_Stepping):
    """`page=1,2,…`"""

    def __init__(self, pager: NumberPager, where: str) -> None:
        super().__init__(where, pager.total, pager.total_header)
        self._pager = pager

    def first(self) -> Position:
        return Position(self._pager.start)

    def params(self, position: Position) -> dict[str, Any]:
        size = {self._pager.size_param: self._pager.size} if self._pager.size_param else {}
        return {self._pager.param: position.at, **size}

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        if position.checking and count == 0:
            return self.finish(position)
        self._check_echo(position, reply)
        reported = self._number(reply, self._pager.pages)
        pages = position.page_count if reported is None else reported
        after = replace(self.advance(position, reply, count), page_count=pages)
        here = int(position.at or 0)
        following = replace(after, at=here + 1, probing=False, checking=False)
        if after.total is None and pages is None:
            if self.ask_again(position, after, count) or self._nothing_at_all(position, reply):
                return self.finish(after)
            return Step(replace(following, probing=count == 0), None)
        more_rows = after.total is not None and after.seen < after.total
        more_pages = pages is not None and here - self._pager.start + 1 < pages
        if not more_rows and not more_pages:
            if pages is None and self.may_go_on(position, after, count, self._pager.size):
                return Step(replace(following, checking=True), after.total)
            return self.finish(after)
        if count == 0:
            raise self.empty_page(after)
        if more_rows and pages is not None and not more_pages:
            return self.finish(after)
        return Step(following, after.total)

    def _nothing_at_all(self, position: Position, reply: Reply) -> bool:
        """The vendor says `no data` to the very first page of a read that would have a total."""
        counted = self._total is not None or self._pager.pages is not None
        return reply.empty and counted and position.pages == 0

    def _check_echo(self, position: Position, reply: Reply) -> None:
        if self._pager.echo is None or reply.empty:
            return
        answered = as_int(dig(reply.body, self._pager.echo))
        if answered != position.at:
            shown = "?" if answered is None else answered
            raise self.broken("read.page_mismatch", asked=position.at, answered=shown)


class _Offset(_Stepping):
    """`offset=0,100,…`"""

    def __init__(self, pager: OffsetPager, where: str) -> None:
        super().__init__(where, pager.total, pager.total_header)
        self._pager = pager

    def first(self) -> Position:
        return Position(0)

    def params(self, position: Position) -> dict[str, Any]:
        size = {self._pager.size_param: self._pager.size} if self._pager.size_param else {}
        return {self._pager.param: position.at, **size}

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        if position.checking and count == 0:
            return self.finish(position)
        after = self.advance(position, reply, count)
        here = int(position.at or 0)
        if after.total is None:
            nothing = reply.empty and self._total is not None and position.pages == 0
            if self.ask_again(position, after, count) or nothing:
                return self.finish(after)
            onward = here + (count or self._pager.size)
            return Step(replace(after, at=onward, probing=count == 0), None)
        following = replace(after, at=here + count, probing=False, checking=False)
        if after.seen >= after.total:
            if self.may_go_on(position, after, count, self._pager.size):
                return Step(replace(following, checking=True), after.total)
            return self.finish(after)
        if count == 0:
            raise self.empty_page(after)
        return Step(following, after.total)


class _Cursor(_Counted):
    """The answer names the next page."""

    tokens = True

    def __init__(self, pager: CursorPager, where: str) -> None:
        super().__init__(where, pager.total)
        self._pager = pager

    def first(self) -> Position:
        return Position(None)

    def params(self, position: Position) -> dict[str, Any]:
        size = {self._pager.size_param: self._pager.size} if self._pager.size_param else {}
        return {**({} if position.at is None else {self._pager.param: position.at}), **size}

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        after = self.advance(position, reply, count)
        token = self._next(reply)
        if not self._more(reply, token):
            return self.finish(after)
        if token is None:
            raise self.broken("read.no_next", path=self._pager.next)
        if count == 0 and not self._pager.allow_empty:
            raise self.empty_page(after)
        return Step(replace(after, at=token), after.total)

    def _next(self, reply: Reply) -> int | str | None:
        token = dig(reply.body, self._pager.next)
        if token is MISSING or token is None or token == "":
            return None
        if isinstance(token, int | str) and not isinstance(token, bool):
            return token
        found = type(token).__name__
        raise self.broken("read.bad_cursor", path=self._pager.next, found=found)

    def _more(self, reply: Reply, token: int | str | None) -> bool:
        if self._pager.more is None or (reply.empty and token is None):
            return token is not None
        said = dig(reply.body, self._pager.more)
        for truth, forms in ((True, ("true", "1")), (False, ("false", "0"))):
            if isinstance(said, bool | int | str) and str(said).lower() in forms:
                return truth
        raise self.broken("read.bad_more", path=self._pager.more)


class _Link(_Counted):
    """A `Link` header or a field of the body gives the address of the next page."""

    tokens = True

    def __init__(self, pager: LinkPager, where: str) -> None:
        super().__init__(where, pager.total, pager.total_header)
        self._pager = pager

    def first(self) -> Position:
        return Position(None)

    def params(self, position: Position) -> dict[str, Any]:
        if position.at is not None or not self._pager.size_param:
            return {}
        return {self._pager.size_param: self._pager.size}

    def step(self, position: Position, reply: Reply, count: int) -> Step:
        after = self.advance(position, reply, count)
        link = self._next(reply)
        if link is None:
            return self.finish(after)
        if count == 0:
            raise self.empty_page(after)
        return Step(replace(after, at=link), after.total)

    def _next(self, reply: Reply) -> str | None:
        if self._pager.next is None:
            return next_link(reply.headers, self._pager.rel)
        target = dig(reply.body, self._pager.next)
        if target is MISSING or target is None or target == "":
            return None
        if not isinstance(target, str):
            raise self.broken("read.bad_link", path=self._pager.next, found=type(target).__name__)
        return target


def next_link(headers: Mapping[str, str], rel: str) -> str | None:
    """The target of the RFC 8288 link with relation `rel`, as written."""
    rest = headers.get("link", "")
    while "<" in rest:
        target, _, rest = rest.partition("<")[2].partition(">")
        parameters, _, _ = _until_next_link(rest)
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "rel" and rel in value.strip().strip('"').split():
                return target.strip()
    return None


def _until_next_link(text: str) -> tuple[str, str, str]:
    """The parameters of one link: everything before the comma that starts the next one."""
    head, separator, tail = text.partition("<")
    return head.rstrip().rstrip(","), separator, tail


AnyPager = NoPager | NumberPager | OffsetPager | CursorPager | LinkPager


def pager_for(declared: AnyPager, where: str) -> Pager:
    """The pager a manifest declares; `where` names the stream in errors."""
    if isinstance(declared, NumberPager):
        return _Number(declared, where)
    if isinstance(declared, OffsetPager):
        return _Offset(declared, where)
    if isinstance(declared, CursorPager):
        return _Cursor(declared, where)
    if isinstance(declared, LinkPager):
        return _Link(declared, where)
    return _None(declared, where)
