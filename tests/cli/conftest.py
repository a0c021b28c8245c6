"""A small paged API, a deployment that reads it, and the `hub` command in this process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.cli.main import run as run_command
from hub.sdk.testing import FakeServer, Request, Response

TOTAL = 250


class Shop(FakeServer):
    """`/items` counts pages, `/v2/orders` hands out cursors and wants a token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "secret-token"
        self.total = TOTAL
        self.route("GET", "/items", self._items)
        self.route("GET", "/v2/orders", self._orders)

    def _items(self, request: Request) -> Response:
        page, size = int(request.query["page"]), int(request.query["size"])
        numbers = range((page - 1) * size, min(page * size, self.total))
        rows = [
            {"id": n, "name": f" 轴承 {n} ", "price": f"{n}.50", "stock": n % 3} for n in numbers
        ]
        return Response(json={"items": rows, "total": self.total})

    def _orders(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(json={"code": 9, "message": "bad token"})
        first, size = int(request.query.get("cursor", "0")), int(request.query["limit"])
        rows = [
            {"order_no": f"SO{n}", "amount": n, "time": "2026-03-01 08:00:00"}
            for n in range(first, min(first + size, self.total))
        ]
        after = str(first + size) if first + size < self.total else None
        return Response(json={"code": 0, "data": {"rows": rows, "next": after}})


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def errors(self) -> list[str]:
        """The error lines."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


Hub = Callable[..., Result]


class _Pipe(io.TextIOWrapper):
    """Text with bytes behind it, as standard streams have."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)

    def text(self) -> str:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode("utf-8")


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Runs `hub …` in this process, inside the folder `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HUB_DIR", raising=False)
    monkeypatch.setenv("HUB_LANG", "en")

    def run(*arguments: str, stdin: str | bytes = b"") -> Result:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = _Pipe(), _Pipe()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", _Pipe(given))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run_command(list(arguments))
        return Result(code, out.text(), err.text())

    return run


@pytest.fixture
def deployment(hub: Hub, shop: Shop, tmp_path: Path) -> Path:
    """A deployment that reads `/items` of the shop; the current folder is inside it."""
    folder = tmp_path / "my-hub"
    assert hub("init", str(folder)).code == 0
    os.chdir(folder)
    assert hub("connector", "new", "shop", "--base-url", shop.url).code == 0
    edit("connectors/shop/connector.yaml", "{rate: 5/s}", "{rate: 500/s, tries: 1, deadline: 3s}")
    assert hub("connection", "add", "shop", "--connector", "shop").code == 0
    return folder


def edit(path: str | Path, old: str, new: str) -> None:
    """Replace a text that must be in the file."""
    text = Path(path).read_text(encoding="utf-8")
    assert old in text, f"{path}: no {old!r}"
    Path(path).write_text(text.replace(old, new), encoding="utf-8")


def hub_process(*arguments: str, stdin: bytes = b"", **environment: str) -> Result:
    """Runs `hub …` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hub.cli", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))
