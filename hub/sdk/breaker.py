"""Leaving a system alone that is down: what every call of a connection asks for first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Attempt:
    """One call that was let through; `trouble` says what was wrong with the system, if anything.

    A call that ends with neither `answered` nor `trouble` proves nothing.
    """

    answered: bool = False
    trouble: str | None = None


class Breaker(Protocol):
    """Counts failures of a connection in a row, and lets no call through while it is open."""

    def attempt(self, connection: str, longest: float) -> AbstractContextManager[Attempt]:
        """Around one call that takes at most `longest` seconds.

        Raises TransientError (`http.breaker_open`) while the connection is left alone. After that
        time one call at a time is let through, until one is answered.
        """

    def refused(self, connection: str, reason: str) -> None:
        """Credentials were refused: leave the connection alone until somebody renews them."""


class AlwaysClosed:
    """For tools that a person uses: every call is made."""

    @contextmanager
    def attempt(self, connection: str, longest: float) -> Iterator[Attempt]:
        """Lets everything through."""
        yield Attempt()

    def refused(self, connection: str, reason: str) -> None:
        """The person sees it."""
