"""The referee: `python -m bench.killing.referee JOURNAL` compares what was owed with what was done.

It reads the journal of the outside world and nothing else; whatever the hub says is not asked.

    lost          the target does not hold the newest content that a source had or a sender was
                  thanked for
    doubled       one version took effect twice, or one key has two objects
    out of order  an older version took effect after a newer one
    invented      the target holds what nobody ever sent

A version that a newer one of the same key overtook inside the hub need not be seen by the target;
such are counted as superseded. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.killing.journal import Line, lines_of

_EXAMPLES = 5


@dataclass(slots=True)
class Verdict:
    """What the referee found; `wrong` names examples."""

    rows: int = 0
    events: int = 0
    effects: int = 0
    superseded: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    invented: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.invented)

    def blame(self, name: str, text: str) -> None:
        setattr(self, name, getattr(self, name) + 1)
        if sum(line.startswith(f"{name}:") for line in self.wrong) < _EXAMPLES:
            self.wrong.append(f"{name}: {text}")


@dataclass(slots=True)
class Book:
    """One key of one kind of object: its versions as sent, what is owed, what was done."""

    versions: dict[str, int] = field(default_factory=dict)
    owed: set[int] = field(default_factory=set)
    done: list[int] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def version(self, content: str) -> int:
        return self.versions.setdefault(content, len(self.versions))

    def content(self, version: int) -> str:
        return list(self.versions)[version]


def judge(lines: Iterable[Line]) -> Verdict:
    """The verdict over a journal."""
    verdict = Verdict()
    books: dict[tuple[str, str], Book] = {}
    events: dict[str, tuple[Book, int]] = {}
    thanked: set[str] = set()
    for line in lines:
        if line["what"] in ("row", "sending", "effect"):
            book = books.setdefault((line["sink"], line["key"]), Book())
        if line["what"] == "row":
            book.owed.add(book.version(line["content"]))
            verdict.rows += 1
        elif line["what"] == "sending":
            events[line["event"]] = (book, book.version(line["content"]))
        elif line["what"] == "thanked":
            thanked.add(line["event"])
            sent_book, version = events[line["event"]]
            sent_book.owed.add(version)
        elif line["what"] == "effect":
            _effect(verdict, book, line)
    verdict.events = len(thanked)
    for (sink, key), book in books.items():
        _close(verdict, f"{sink} {key}", book)
    return verdict


def _effect(verdict: Verdict, book: Book, line: Line) -> None:
    verdict.effects += 1
    where, content = f"{line['sink']} {line['key']}", line["content"]
    book.ids.add(line["id"])
    if content not in book.versions:
        verdict.blame("invented", f"{where} holds {content!r}")
        return
    version = book.versions[content]
    if book.done and version < max(book.done):
        newest = book.content(max(book.done))
        verdict.blame("out_of_order", f"{where}: {content!r} came after {newest!r}")
    book.done.append(version)


def _close(verdict: Verdict, where: str, book: Book) -> None:
    newest = max(book.owed, default=-1)
    holds = book.done[-1] if book.done else -1
    if holds < newest:
        found = book.content(holds) if holds >= 0 else "nothing"
        verdict.blame("lost", f"{where}: owed {book.content(newest)!r}, the target holds {found!r}")
    for version, times in Counter(book.done).items():
        for _ in range(times - 1):
            verdict.blame(
                "doubled", f"{where}: {book.content(version)!r} took effect {times} times"
            )
    for _ in range(len(book.ids) - 1):
        verdict.blame("doubled", f"{where} has the objects {', '.join(sorted(book.ids))}")
    verdict.superseded += len([one for one in book.owed - set(book.done) if one < holds])


def main(argv: list[str]) -> int:
    if len(argv) != 1 or not Path(argv[0]).is_file():
        print("usage: python -m bench.killing.referee JOURNAL", file=sys.stderr)
        return 2
    verdict = judge(lines_of(Path(argv[0])))
    print(json.dumps({"clean": verdict.clean, **asdict(verdict)}, ensure_ascii=False))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
