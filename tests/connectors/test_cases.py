"""Recorded answers in, mapped records out. A new case is a new folder, no new code.

<connector>/cases/<case>/given.json     {"flow": ..., "settings": {...},
                                        "links": {entity: {value: id}}}
<connector>/cases/<case>/vendor.json    {"GET /path?name=value": answer, ...}; a list is one
                                        answer per call
<connector>/cases/<case>/expected.json  {"ok": {key: record}, "held": [key],
                                        "rejected": {key: [fields]}}; without the empty parts
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from hub.engine.flows import Flow, load_flow
from hub.mapping import Library, Mapped, Row
from hub.sdk.testing import FakeServer, Request, Response
from hub.sdk.testing.messages import decode_json, encode_json
from tests.connectors.conftest import OpenSession

HERE = Path(__file__).parent
MAPPINGS = HERE.parent.parent / "mappings"
CASES = sorted(path.parent for path in HERE.glob("*/cases/*/given.json"))


def read(path: Path) -> Any:
    return decode_json(path.read_bytes())


class Recorded(FakeServer):
    """Gives recorded answers; of several that fit a request the most exact one."""

    def __init__(self, answers: dict[str, Any], settings: dict[str, Any]) -> None:
        super().__init__()
        self._answers: dict[tuple[str, str], list[tuple[dict[str, str], Any]]] = {}
        self._settings = settings
        for asked, answer in answers.items():
            method, _, target = asked.partition(" ")
            path, _, query = target.partition("?")
            place = self._answers.setdefault((method, path), [])
            place.append((dict(parse_qsl(query)), answer))
            self.route(method, path, self._answer)

    def config(self) -> dict[str, Any]:
        return {**super().config(), **self._settings}

    def _answer(self, request: Request) -> Response:
        fitting = [
            (len(query), answer)
            for query, answer in self._answers[(request.method, request.path)]
            if query.items() <= request.query.items()
        ]
        if not fitting:
            return Response(404, json={"error": f"not recorded: {request.target}"})
        answer = max(fitting, key=lambda pair: pair[0])[1]
        if isinstance(answer, list):
            answer = answer.pop(0)
        return Response(json=answer)


@pytest.mark.parametrize("folder", CASES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_case(folder: Path, open_session: OpenSession) -> None:
    given, expected = read(folder / "given.json"), read(folder / "expected.json")
    flow = load_flow(MAPPINGS / "flows" / f"{given['flow']}.yaml", Library([MAPPINGS]))
    answers = read(folder / "vendor.json")
    with Recorded(answers, given["settings"]) as server:
        session = open_session(folder.parts[-3], server)
        pages = list(session.stream(flow.source.stream).read(None))
    rows = [row for page in pages for row in page.rows]
    links = {
        (entity, value): target
        for entity, pairs in given.get("links", {}).items()
        for value, target in pairs.items()
    }
    outcomes = [flow.mapping.apply(row, links) for row in grouped(flow, rows)]
    assert summary(outcomes) == expected


def grouped(flow: Flow, rows: list[Row]) -> Iterator[Row]:
    """The rows as the flow maps them: folded when it groups."""
    if flow.mapping.group is None:
        yield from rows
        return
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(flow.mapping.group.key(row), []).append(row)
    yield from map(flow.mapping.group.fold, groups.values())


def summary(outcomes: list[Mapped]) -> dict[str, Any]:
    """Outcomes in the form of expected.json; empty parts are left out."""
    found: dict[str, Any] = {"ok": {}, "held": [], "rejected": {}}
    for mapped in outcomes:
        key = mapped.key or ""
        if mapped.outcome == "ok":
            found["ok"][key] = decode_json(encode_json(mapped.data))
        elif mapped.outcome == "held":
            found["held"].append(key)
        elif mapped.outcome == "rejected":
            found["rejected"][key] = sorted(problem.field for problem in mapped.problems)
    return {name: part for name, part in found.items() if part}
