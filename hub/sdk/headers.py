"""Header values as they travelled."""

from __future__ import annotations


def as_sent(value: str) -> bytes:
    """The bytes of a header value that a server decoded byte by byte (latin-1), as all do.

    Never raises: text that cannot have come that way stands for itself.
    """
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
