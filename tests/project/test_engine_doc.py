"""docs/engine.md names a test for every trap, and each of them exists."""

from __future__ import annotations

import re

import pytest

from tests.project.files import ROOT

PAGE = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(?:(tests/[\w/]+\.py|test_\w+): )?…(\w+)…?`")


def named() -> list[tuple[str, str]]:
    """(file, part of a test's name); a name without a file is in the one named before it."""
    found: list[tuple[str, str]] = []
    for file, part in NAMED.findall(PAGE):
        place = file or found[-1][0]
        found.append((place if "/" in place else f"tests/engine/{place}.py", part))
    return found


@pytest.mark.parametrize(("file", "part"), named())
def test_a_test_named_on_the_page_exists(file: str, part: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^def test_\w*{part}", text, re.MULTILINE)


def test_every_trap_is_on_the_page_with_what_holds_it_shut() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    assert {row[0].removeprefix("| ") for row in rows} == {str(number) for number in range(1, 20)}
    assert all(len(row) == 4 and all(cell.strip(" |") for cell in row) for row in rows)
