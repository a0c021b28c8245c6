"""The operations of a running `hub serve`, over its local API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from hub.sdk.errors import ConfigError, ContractBroken, HubError, TransientError

Row = dict[str, Any]

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 300.0  # a connection check may try many streams


class RemoteOperations:
    """`hub.engine.operations.Operations` as answered by the process that owns the store."""

    def __init__(self, client: httpx.Client, folder: Path) -> None:
        self._client = client
        self._folder = folder

    def connectors(self) -> list[Row]:
        return self._rows("GET", "connectors")

    def connections(self) -> list[Row]:
        return self._rows("GET", "connections")

    def check_connection(self, name: str) -> Row:
        return self._row("POST", "connections", name, "check")

    def set_secret(self, connection: str, field: str, value: str) -> Row:
        return self._row("PUT", "connections", connection, "secrets", field, json={"value": value})

    def flows(self) -> list[Row]:
        return self._rows("GET", "flows")

    def prepare(self, flow: str) -> Row | None:
        found: Row | None = self._row("GET", "flows", flow)["unfinished"]
        return found

    def start_run(self, flow: str, *, full: bool = False) -> Row:
        return self._row("POST", "flows", flow, "runs", json={"full": full})

    def run(self, run_id: int) -> Row:
        return self._row("GET", "runs", str(run_id))

    def runs(self, flow: str | None, limit: int) -> list[Row]:
        return self._rows("GET", "runs", params={"flow": flow, "limit": limit})

    def count_records(self, entity: str) -> Row:
        return self._row("GET", "records", entity, "count")

    def records(self, entity: str, since: int, limit: int) -> Row:
        return self._row("GET", "records", entity, params={"since": since, "limit": limit})

    def dead_letters(self, flow: str | None, state: str | None, limit: int) -> list[Row]:
        params = {"flow": flow, "state": state or "all", "limit": limit}
        return self._rows("GET", "dead-letters", params=params)

    def dead_letter(self, letter_id: str) -> Row:
        return self._row("GET", "dead-letters", letter_id)

    def doctor(self) -> Row:
        return self._row("GET", "doctor")

    # --- calls --------------------------------------------------------------------------------

    def _row(self, method: str, *parts: str, **options: Any) -> Row:
        found: Row = self._call(method, parts, options)
        return found

    def _rows(self, method: str, *parts: str, **options: Any) -> list[Row]:
        found: list[Row] = self._call(method, parts, options)["items"]
        return found

    def _call(self, method: str, parts: tuple[str, ...], options: Row) -> Any:
        path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
        if "params" in options:
            options["params"] = {k: v for k, v in options["params"].items() if v is not None}
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise TransientError(
                "server.unreachable",
                folder=self._folder,
                url=self._client.base_url,
                reason=type(error).__name__,
            ) from error
        try:
            body = msgspec.json.decode(answer.content)
            if answer.is_success:
                return body
            code, params = str(body["code"]), dict(body["params"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            url = f"{self._client.base_url}{path}"
            raise ContractBroken("server.foreign", url=url, status=answer.status_code) from error
        raise HubError(code, **params)


def find_server(folder: Path) -> AbstractContextManager[RemoteOperations] | None:
    """The `hub serve` of the deployment in `folder`; None when none answers."""
    place = folder / ".hub" / "serve.json"
    try:
        told = msgspec.json.decode(place.read_bytes())
        url = f"http://{_reachable(str(told['host']))}:{int(told['port'])}"
        answer = httpx.get(f"{url}/livez", timeout=_CONNECT_SECONDS, trust_env=False)
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, httpx.HTTPError):
        return None
    return _connected(folder, url) if answer.is_success else None


@contextmanager
def _connected(folder: Path, url: str) -> Iterator[RemoteOperations]:
    token_file = folder / ".hub" / "api.token"
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("server.no_token", file=token_file) from error
    with httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        trust_env=False,  # a proxy must never see the token
    ) as client:
        yield RemoteOperations(client, folder)


def _reachable(host: str) -> str:
    """An address to call a server at that listens on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104 (compared, not bound)
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
