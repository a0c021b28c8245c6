"""The examples of docs/testing-kit.md run, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.sdk.testing.alterations import COMMON
from hub.sdk.testing.control import control
from hub.sdk.testing.faults import HANDLED, OPTIONS, Fault
from hub.sdk.testing.messages import Request
from hub.sdk.testing.server import FakeServer

PAGE = (Path(__file__).parents[2] / "docs" / "testing-kit.md").read_text(encoding="utf-8")


def rows() -> dict[str, tuple[set[str], bool]]:
    """Per fault of the table: its options, and whether the request is done."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"(`\w+` ?)+", cells[0]):
            for name in re.findall(r"`(\w+)`", cells[0]):
                options = set(re.findall(r"`(\w+)`", cells[1]))
                found[name] = (options, cells[2].startswith("is done"))
    return found


def test_the_examples_run() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "testing-kit.md", "exec"), names)  # noqa: S102 (our own page)


def test_the_class_of_the_page_answers() -> None:
    names: dict[str, Any] = {}
    block = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    exec(compile(block, "testing-kit.md", "exec"), names)  # noqa: S102 (our own page)
    with names["FakeShop"]() as shop:
        httpx.put(shop.url + "/orders/7", json={"a": 1}, trust_env=False)
        answer = httpx.get(shop.url + "/orders", trust_env=False).json()
    assert answer == {"code": 0, "total": 1, "rows": [{"number": "7"}]}


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_is_in_the_table_with_its_options(fault: Fault) -> None:
    assert rows()[fault.value] == (set(OPTIONS[fault]), fault in HANDLED)


def test_every_alteration_is_named() -> None:
    assert [name for name in COMMON if f"`{name}`" not in PAGE] == []


def test_the_order_of_the_page_is_accepted() -> None:
    order = re.findall(r"-d '(\{.*?\})'", PAGE)[0].encode()
    request = Request("POST", "/_fake/misbehave", {}, {}, order, 0.0)
    assert control(FakeServer(), request).status == 200
