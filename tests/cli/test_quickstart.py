"""docs/connector-quickstart.md is run as a new user would: every file and every command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec
import pytest

from hub.sdk.testing import Request, Response
from tests.cli.conftest import TOTAL, Hub, Result, Shop, edit

DOCUMENT = Path(__file__).parents[2] / "docs" / "connector-quickstart.md"
ADDRESS = "http://127.0.0.1:8080"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """The (language, text) of every code block, in order."""
    return _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))


def run_line(hub: Hub, line: str, monkeypatch: pytest.MonkeyPatch) -> Result | None:
    """One shell line of the document: `hub …`, `cd …`, or `printf … | hub …`."""
    words = shlex.split(line)
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
        return None
    given = ""
    if words[0] == "printf":
        given, words = words[1], words[words.index("|") + 1 :]
    assert words[0] == "hub", line
    return hub(*words[1:], stdin=given)


def test_the_quickstart_works_as_written(
    hub: Hub, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[tuple[str, Result]] = []
    for language, text in blocks():
        text = text.replace(ADDRESS, shop.url)
        if language == "yaml":
            path = Path(text.splitlines()[0].removeprefix("# "))
            path.write_text(text, encoding="utf-8")
        if language == "sh":
            for line in text.splitlines():
                result = run_line(hub, line, monkeypatch)
                if result is not None:
                    assert result.code == 0, f"{line}\n{result.out}{result.err}"
                    results.append((line, result))
    counts = [msgspec.json.decode(result.out) for line, result in results if " count " in line]
    assert counts == [
        {"entity": "shop_item", "count": TOTAL},
        {"entity": "orders_item", "count": TOTAL},
    ]
    runs = hub("runs", "--flow", "shop_items", "--json").json
    assert [run["counts"]["written"] for run in runs] == [0, TOTAL]
    text = (Path.cwd() / "connections.yaml").read_text(encoding="utf-8")
    assert "secret-token" not in text


def test_the_yaml_of_one_connector_and_its_flow_is_at_most_forty_lines() -> None:
    files = [text for language, text in blocks() if language == "yaml"]
    for connector, flow in zip(files[::2], files[1::2], strict=True):
        lines = [line for line in (connector + flow).splitlines() if line.strip()]
        assert len(lines) <= 40, f"{len(lines)} lines in {files[0].splitlines()[0]}"


# --- other ways to hand out pages -------------------------------------------------------------


def serve_bare_list(shop: Shop) -> None:
    """`/list`: the body is the list itself; pages by offset, page number from 0, or links."""

    def answer(request: Request) -> Response:
        size = int(request.query.get("size", TOTAL))
        first = int(request.query.get("offset", int(request.query.get("page", 0)) * size))
        rows = [{"id": n, "name": f"n{n}"} for n in range(first, min(first + size, TOTAL))]
        headers = {}
        if first + size < TOTAL:
            after = f"{shop.url}/list?size={size}&offset={first + size}"
            headers["Link"] = f'<{after}>; rel="next"'
        return Response(json=rows, headers=headers)

    shop.route("GET", "/list", answer)


@pytest.mark.parametrize(
    "pager",
    [
        "{kind: number, param: page, start: 0, size_param: size, size: 50}",
        "{kind: offset, param: offset, size_param: size, size: 60}",
        "{kind: link, size_param: size, size: 40}",
        "{kind: none}",
    ],
)
def test_a_bare_list_without_a_total_is_read_whole(
    hub: Hub, deployment: Path, shop: Shop, pager: str
) -> None:
    serve_bare_list(shop)
    connector = "connectors/shop/connector.yaml"
    edit(connector, "{path: items, is: list}   ", "{path: $, is: list}   ")
    edit(connector, "data: items  ", "data: $  ")
    edit(connector, "{get: /items}  ", "{get: /list}  ")
    template = "{kind: number, param: page, size_param: size, size: 100, total: total}"
    edit(connector, template, pager)
    assert hub("connector", "lint", "shop").code == 0
    result = hub("flow", "run", "shop_items", "--json")
    assert result.code == 0, result.err
    assert result.json["counts"]["written"] == TOTAL
    assert result.json["total"] is None
