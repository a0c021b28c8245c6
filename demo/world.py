"""The demo's surroundings: fakes as processes of their own, and a throw-away deployment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from hub.engine.deployment import create_deployment, write_private

ROOT = Path(__file__).resolve().parents[1]


class Fake:
    """A fake in another process, told what to do over its control paths."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def misbehave(self, fault: str, path: str, **when: Any) -> None:
        self._order("misbehave", {"fault": fault, "path": path, **when})

    def alter(self, name: str, path: str, **when: Any) -> None:
        self._order("alter", {"name": name, "path": path, **when})

    def behave(self) -> None:
        """No trouble any more."""
        self._order("behave", {})

    def do(self, name: str, **options: Any) -> Any:
        return self._order("do", {"name": name, "options": options})

    def count(self, path: str) -> int:
        """How many requests the path has had."""
        answer = self._http.get("/_fake/log", params={"path": path})
        return int(answer.raise_for_status().json()["count"])

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._http.get("/_fake/state").raise_for_status().json()
        return state

    def close(self) -> None:
        self._http.close()

    def _order(self, action: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(f"/_fake/{action}", json=body)
        return answer.raise_for_status().json()["result"]


@contextmanager
def fake(module: str, *arguments: str) -> Iterator[Fake]:
    """A fake server, running until the end of the block."""
    command = [sys.executable, "-m", module, "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None  # noqa: S101 (asked for above)
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"demo: {module} did not start; see the lines above")
        told = Fake(url)
        try:
            yield told
        finally:
            told.close()
            process.terminate()


def deployment(folder: Path, u8: Fake, crm: Fake) -> Path:
    """A new deployment connected to both fakes; their secrets stand in private files."""
    create_deployment(folder)
    write_private(folder / "u8.secret", "fake-secret")
    write_private(folder / "crm.secret", "fake-token")
    connections = {
        "u8": _connection("u8", u8, {"app_secret": f"file:{folder / 'u8.secret'}"}),
        "crm": _connection("crm", crm, {"token": f"file:{folder / 'crm.secret'}"}),
    }
    text = yaml.safe_dump(connections, allow_unicode=True)
    (folder / "connections.yaml").write_text(text, encoding="utf-8")
    return folder


def _connection(name: str, server: Fake, secrets: dict[str, str]) -> dict[str, Any]:
    sample = yaml.safe_load((ROOT / "connectors" / name / "sample.yaml").read_text("utf-8"))
    (entry,) = sample.values()
    config = {**entry["config"], "base_url": server.url, **secrets}
    # The fakes have no quota; the real ones keep the limits of their manifests.
    limits = {"rate": "2000/s", "concurrent": 4, "tries": 5, "deadline": "10s"}
    return {"connector": name, "config": config, "limits": limits}
