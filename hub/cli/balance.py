"""The account of a run: what was read on one side, what became of it on the other."""

from __future__ import annotations

from typing import Any

from hub.cli.face import Face

_CAME = ("read", "removed")
_BECAME = (
    "merged",
    "unchanged",
    "written",
    "coalesced",
    "rejected",
    "held",
    "skipped",
    "pending",
)


def balance_line(face: Face, run: dict[str, Any]) -> str:
    """One line whose two sides are equal, such as `450 read = 12 written + 438 unchanged`."""
    counts = run["counts"]
    came = [name for name in _CAME if counts[name] or name == "read"]
    became = [name for name in _BECAME if counts[name]] or ["unchanged"]
    return f"{_sum(face, counts, came)} = {_sum(face, counts, became)}"


def balance_rows(face: Face, run: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Each term with what it means; the first ones add up to the same as the others."""
    counts = run["counts"]
    rows = [(face.text(f"column.{name}"), counts[name], face.text(f"balance.{name}"))
            for name in (*_CAME, *_BECAME)]  # fmt: skip
    if run["total"] is not None:
        name, meaning = face.text("column.total"), face.text("balance.total")
        rows.insert(0, (name, run["total"], meaning))
    if counts["repeated"]:
        name, meaning = face.text("column.repeated"), face.text("balance.repeated")
        rows.append((name, counts["repeated"], meaning))
    return rows


def _sum(face: Face, counts: dict[str, int], names: list[str]) -> str:
    return " + ".join(
        face.text("balance.term", number=counts[name], name=face.text(f"column.{name}"))
        for name in names
    )
