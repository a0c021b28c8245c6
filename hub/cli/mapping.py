"""`hub map`: the mapping alone, records in, records out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from hub.cli.face import Face, face_of

if TYPE_CHECKING:
    from hub.mapping import Mapping

Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command to `hub`."""
    app.command("map")(map_records)


def map_records(
    context: typer.Context, flow: Annotated[str, typer.Argument(metavar="FLOW")]
) -> None:
    """Map JSON lines from standard input to JSON lines on standard output.

    Records that are rejected or held go to standard error as JSON lines with their line number,
    and do not change the exit code. A line that is no JSON object goes there too; then the exit
    code is 1 at the end.
    """
    face = face_of(context)
    loaded = face.inspection().catalogue.flow(flow)
    work = _Work(loaded.mapping, sys.stdout.buffer, sys.stderr.buffer)
    for number, row in work.read(sys.stdin.buffer):
        work.take(number, row)
    work.close()
    _sum_up(face, work.counts)


class _Work:
    def __init__(self, mapping: Mapping, out: BinaryIO, aside: BinaryIO) -> None:
        import msgspec

        self.counts: Counter[str] = Counter()
        self._mapping = mapping
        self._out = out
        self._aside = aside
        self._encode = msgspec.json.Encoder(decimal_format="string").encode
        self._decode = msgspec.json.Decoder(float_hook=Decimal).decode
        self._failure = msgspec.DecodeError
        self._groups: dict[str, list[tuple[int, Row]]] = {}

    def read(self, lines: BinaryIO) -> Iterator[tuple[int, Row]]:
        """Line numbers and records; what cannot be read is put aside and counted."""
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                row = self._decode(line)
            except (self._failure, UnicodeDecodeError, RecursionError) as error:
                self._unreadable(number, str(error))
                continue
            if not isinstance(row, dict):
                self._unreadable(number, type(row).__name__)
                continue
            self.counts["read"] += 1
            yield number, row

    def take(self, number: int, row: Row) -> None:
        """Map the record now, or with its group at the end."""
        group = self._mapping.group
        if group is None:
            self._map(number, row)
        else:
            self._groups.setdefault(group.key(row), []).append((number, row))

    def close(self) -> None:
        """Map what waited for its group, and write everything out."""
        group = self._mapping.group
        for members in self._groups.values():
            if group is not None:
                self._map(members[0][0], group.fold([row for _, row in members]))
        self._out.flush()
        self._aside.flush()

    def _map(self, number: int, row: Row) -> None:
        from hub.engine.dry_runs import outcome_row

        mapped = self._mapping.apply(row)
        self.counts["mapped" if mapped.outcome == "ok" else mapped.outcome] += 1
        if mapped.outcome == "ok":
            self._out.write(self._encode(mapped.data) + b"\n")
        elif mapped.outcome != "skipped":
            found = outcome_row(mapped.outcome, mapped.key, mapped.problems, mapped.references)
            self._put_aside({"line": number, **found})

    def _unreadable(self, number: int, problem: str) -> None:
        self.counts["unreadable"] += 1
        self._put_aside({"line": number, "outcome": "unreadable", "problem": problem})

    def _put_aside(self, found: Row) -> None:
        self._aside.write(self._encode(found) + b"\n")
        self._aside.flush()


def _sum_up(face: Face, counts: Counter[str]) -> None:
    if sys.stderr.isatty():  # a program that reads standard error gets JSON lines only
        names = ("read", "mapped", "rejected", "held", "skipped")
        face.say(face.text("map.summary", **{name: counts[name] for name in names}))
    if counts["unreadable"]:
        raise face.fail("map.some_unreadable", lines=counts["unreadable"])
