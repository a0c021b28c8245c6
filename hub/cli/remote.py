"""The operations of a running `hub serve`, over its local API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from hub.sdk.errors import ConfigError, ContractBroken, HubError, TransientError

Row = dict[str, Any]
Filters = Mapping[str, str | None]

# Numbers of a payload come and go as they were written, never as floats.
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

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

    def set_secret(self, connection: str, field: str, value: str, *, actor: str) -> Row:
        path = ("connections", connection, "secrets", field)
        return self._row("PUT", *path, json={"value": value}, actor=actor)

    def flows(self) -> list[Row]:
        return self._rows("GET", "flows")

    def prepare(self, flow: str) -> Row | None:
        found: Row | None = self._row("GET", "flows", flow)["unfinished"]
        return found

    def start_run(
        self, flow: str, *, full: bool = False, allow_deletes: float | None = None
    ) -> Row:
        wanted = {"full": full, "allow_deletes": allow_deletes}
        return self._row("POST", "flows", flow, "runs", json=wanted)

    def pause_flow(self, flow: str, *, paused: bool) -> Row:
        return self._row("POST", "flows", flow, "pause" if paused else "resume")

    def start_verify(self, flow: str, *, repair: bool = False) -> Row:
        return self._row("POST", "flows", flow, "verify", json={"repair": repair})

    def verification(self, flow: str) -> Row:
        return self._row("GET", "flows", flow, "verify")

    def differences(self, flow: str, after: int, limit: int) -> list[Row]:
        params = {"after": after, "limit": limit}
        return self._rows("GET", "flows", flow, "verify", "differences", params=params)

    def run(self, run_id: int) -> Row:
        return self._row("GET", "runs", str(run_id))

    def runs(self, flow: str | None, limit: int) -> list[Row]:
        return self._rows("GET", "runs", params={"flow": flow, "limit": limit})

    def count_records(self, entity: str) -> Row:
        return self._row("GET", "records", entity, "count")

    def records(self, entity: str, since: int, limit: int) -> Row:
        return self._row("GET", "records", entity, params={"since": since, "limit": limit})

    def record(self, entity: str, key: str) -> Row:
        return self._row("GET", "records", entity, "keys", key)

    def dead_letters(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        params = {**filters, "limit": limit, "after": after}
        return self._row("GET", "dead-letters", params=params)

    def dead_letter(self, letter_id: str) -> Row:
        return self._row("GET", "dead-letters", letter_id)

    def inbox(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        return self._row("GET", "inbox", params={**filters, "limit": limit, "after": after})

    def inbox_event(self, event: str) -> Row:
        return self._row("GET", "inbox", event)

    def workers(self) -> list[Row]:
        return self._rows("GET", "workers")

    def devices(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        return self._row("GET", "devices", params={**filters, "limit": limit, "after": after})

    def device(self, device: str) -> Row:
        return self._row("GET", "devices", device)

    def add_device(self, name: str, wanted: Mapping[str, Any], *, actor: str) -> Row:
        return self._row("POST", "devices", json={"name": name, **wanted}, actor=actor)

    def change_device(self, device: str, changes: Mapping[str, Any], *, actor: str) -> Row:
        return self._row("PATCH", "devices", device, json=dict(changes), actor=actor)

    def revoke_credential(self, device: str, credential: str, *, actor: str) -> Row:
        return self._row("DELETE", "devices", device, "credentials", credential, actor=actor)

    def telemetry_status(self) -> Row:
        return self._row("GET", "telemetry", "status")

    def quarantine(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        params = {**filters, "limit": limit, "after": after}
        return self._row("GET", "telemetry", "quarantine", params=params)

    def telemetry_series(self, wanted: Mapping[str, Any]) -> Row:
        return self._floats("series", wanted)

    def telemetry_readings(self, wanted: Mapping[str, Any]) -> Row:
        return self._floats("readings", wanted)

    def telemetry_latest(self, wanted: Mapping[str, Any]) -> Row:
        return self._floats("latest", wanted)

    def subscriptions(self) -> list[Row]:
        return self._rows("GET", "subscriptions")

    def subscription(self, subscription_id: str) -> Row:
        return self._row("GET", "subscriptions", subscription_id)

    def add_subscription(
        self, url: str, entities: Sequence[str], title: str | None, *, from_beginning: bool
    ) -> Row:
        start = "beginning" if from_beginning else "now"
        body = {"url": url, "entities": list(entities), "title": title, "from": start}
        return self._row("POST", "subscriptions", json=body)

    def change_subscription(self, subscription_id: str, changes: Row) -> Row:
        body = {name: value for name, value in changes.items() if name != "from_beginning"}
        if changes.get("from_beginning"):
            body["from"] = "beginning"
        return self._row("PATCH", "subscriptions", subscription_id, json=body)

    def rotate_subscription(self, subscription_id: str, keep_hours: float) -> Row:
        body = {"keep_hours": keep_hours}
        return self._row("POST", "subscriptions", subscription_id, "secret", json=body)

    def remove_subscription(self, subscription_id: str) -> Row:
        return self._row("DELETE", "subscriptions", subscription_id)

    def test_subscription(self, subscription_id: str) -> Row:
        return self._row("POST", "subscriptions", subscription_id, "test")

    def attempts(self, subscription_id: str, limit: int) -> list[Row]:
        parts = ("subscriptions", subscription_id, "attempts")
        return self._rows("GET", *parts, params={"limit": limit})

    def messages(self, subscription_id: str, state: str | None, limit: int) -> list[Row]:
        parts = ("subscriptions", subscription_id, "messages")
        return self._rows("GET", *parts, params={"state": state, "limit": limit})

    def resend(self, subscription_id: str, wanted: str) -> Row:
        parts = ("subscriptions", subscription_id, "messages", wanted, "resend")
        return self._row("POST", *parts)

    def count_dead_letters(self, filters: Filters) -> Row:
        return self._row("GET", "dead-letters", "summary", params=dict(filters))

    def replay_letter(self, letter_id: str, wanted: Mapping[str, Any], *, actor: str) -> Row:
        path = ("dead-letters", letter_id, "replay")
        return self._row("POST", *path, json=dict(wanted), actor=actor)

    def replay_letters(
        self, filters: Filters, per_second: float | None, *, dry_run: bool, actor: str
    ) -> Row:
        body = {"filter": _given(filters), "per_second": per_second, "dry_run": dry_run}
        return self._row("POST", "dead-letters", "replays", json=body, actor=actor)

    def replays(self, limit: int) -> list[Row]:
        return self._rows("GET", "dead-letters", "replays", params={"limit": limit})

    def replay(self, replay_id: str) -> Row:
        return self._row("GET", "dead-letters", "replays", replay_id)

    def cancel_replay(self, replay_id: str, *, actor: str) -> Row:
        return self._row("POST", "dead-letters", "replays", replay_id, "cancel", actor=actor)

    def discard_letter(self, letter_id: str, reason: str, *, actor: str) -> Row:
        path = ("dead-letters", letter_id, "discard")
        return self._row("POST", *path, json={"reason": reason}, actor=actor)

    def discard_letters(self, filters: Filters, reason: str, *, actor: str) -> Row:
        body = {"filter": _given(filters), "reason": reason}
        return self._row("POST", "dead-letters", "discards", json=body, actor=actor)

    def audit(self, filters: Filters, limit: int, after: int | None = None) -> Row:
        return self._row("GET", "audit", params={**filters, "limit": limit, "after": after})

    def verify_audit(self) -> Row:
        return self._row("GET", "audit", "verify")

    def doctor(self) -> Row:
        return self._row("GET", "doctor")

    def _floats(self, name: str, wanted: Mapping[str, Any]) -> Row:
        found: Row = _with_floats(self._row("GET", "telemetry", name, params=wanted))
        return found

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
            options["params"] = _given(options["params"])
        headers: dict[str, str] = options.setdefault("headers", {})
        if "actor" in options:
            headers["X-Hub-Actor"] = quote(options.pop("actor"))  # a header is ASCII, names are not
        if "json" in options:
            headers["Content-Type"] = "application/json"
            options["content"] = _encode(options.pop("json"))
            options.setdefault("headers", {})["Content-Type"] = "application/json"
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
            body = _decode(answer.content)
            if answer.is_success:
                return body
            code, params = str(body["code"]), dict(body["params"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            url = f"{self._client.base_url}{path}"
            raise ContractBroken("server.foreign", url=url, status=answer.status_code) from error
        raise HubError(code, **params)


def _with_floats(found: Any) -> Any:
    """Readings are floats on both sides, and written as such."""
    if isinstance(found, dict):
        return {name: _with_floats(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_with_floats(value) for value in found]
    return float(found) if isinstance(found, Decimal) else found


def _given(values: Mapping[str, Any]) -> Row:
    return {name: value for name, value in values.items() if value is not None}


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
