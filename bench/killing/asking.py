"""The hub's own interface, as the tools of an operator use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx


class Api:
    """Calls under /v1, with the token of the deployment. Raises httpx.HTTPError."""

    def __init__(self, deployment: Path, port: int) -> None:
        token = (deployment / ".hub" / "api.token").read_text(encoding="ascii").strip()
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
            trust_env=False,
        )

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self._http.get(path, params=params).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def start(self, flow: str) -> int:
        """The number of the run that was started or is on its way."""
        return int(self._http.post(f"/flows/{flow}/runs").raise_for_status().json()["id"])

    def close(self) -> None:
        self._http.close()
