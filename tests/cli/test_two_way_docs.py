"""docs/two-way.md is run as written, between two CRMs."""

from __future__ import annotations

import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.crm.fake import FakeCrm
from tests.cli.conftest import Hub, Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "two-way.md"
DESK, CRM = "http://127.0.0.1:8091", "http://127.0.0.1:8092"
TICKET = "T000000001"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk() -> Iterator[FakeCrm]:
    with FakeCrm() as fake:
        yield fake


@pytest.fixture
def crm() -> Iterator[FakeCrm]:
    with FakeCrm() as fake:
        yield fake


def curl(words: list[str]) -> None:
    """What the document does with curl: one call with a method, headers and a body."""
    given = dict(zip(words[1::2], words[2::2], strict=False))
    name, _, value = given["-H"].partition(": ")
    method = given.get("-X", "POST")
    request = urllib.request.Request(  # noqa: S310 (our own fake)
        words[-1], given["-d"].encode(), {name: value}, method=method
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.status in (200, 201)


def run_line(hub: Hub, line: str, monkeypatch: pytest.MonkeyPatch) -> Result | None:
    words = shlex.split(line.replace("curl -s ", "curl "))
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
    elif words[0] == "export":
        monkeypatch.setenv(*words[1].split("=", 1))
    elif words[0] == "curl":
        curl(words)
    else:
        result = hub(*words[1:])
        assert result.code == 0, f"{line}\n{result.out}{result.err}"
        return result
    return None


def test_the_example_works_as_written(
    hub: Hub, desk: FakeCrm, crm: FakeCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: dict[str, str] = {}
    blocks = _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    for language, written in blocks:
        text = written.replace(DESK, desk.url).replace(CRM, crm.url)
        if language == "yaml":
            path = Path(text.splitlines()[0].removeprefix("# "))
            path.write_text(text, encoding="utf-8")
        for line in text.splitlines() if language == "sh" else ():
            result = run_line(hub, line, monkeypatch)
            outputs[line] = "" if result is None else result.out
    theirs = crm.find("ticket", TICKET)
    ours = desk.tables["ticket"].rows[TICKET].shown()
    assert theirs is not None
    assert (ours["note"], ours["status"]) == (theirs["note"], theirs["status"])
    assert (ours["note"], ours["status"]) == ("call Li", "open")
    assert len(desk.tables["ticket"].rows) == len(crm.tables["ticket"].rows) == 1
    letters = hub("dead-letters", "list", "--state", "all", "--json").json
    assert [(one["problems"][0]["code"], one["state"]) for one in letters] == [
        ("two_way.disputed", "resolved")
    ]
    dry = outputs["hub flow run desk_to_crm --dry-run"]
    assert '"step":"update"' in dry
    assert '"rule":"manual"' in dry
    # Opened; the note by a person; the status; the note as the letter said.
    assert crm.effects_of("ticket")[TICKET] == 4
