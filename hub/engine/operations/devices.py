"""The devices that send telemetry: who may send, what is known of each, how it fares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from sqlalchemy.engine import Connection

from hub.engine.letter_rows import iso_ms
from hub.engine.operations.base import Opened, Row, capped, moment_ms, storable
from hub.engine.operations.protocol import Filters
from hub.engine.telemetry_sources import telemetry_source
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion, unknown_key
from hub.sdk.telemetry import Sender
from hub.sdk.telemetry_names import plain_name
from hub.sdk.telemetry_source import DEFAULT_SOURCE
from hub.store.audit import append_audit
from hub.store.rows import decode_json, encode_json
from hub.store.telemetry import credentials, registry
from hub.store.telemetry.devices import ACTIVE, REFUSED, WAITING, NewDevice, create_devices

STATES = (ACTIVE, WAITING, REFUSED)
CREDENTIALS = (credentials.TOKEN, credentials.PASSWORD, credentials.CERTIFICATE)

_FILTERS = ("name", "source", "gateway", "class", "state", "silent")
_CHANGES = ("state", "class", "zone", "title", "customer_id", "serial_no", "attributes", "units")
_COLUMNS = {"class": "kind"}
_LONGEST_TOKEN = 255
_SHORTEST_TOKEN = 8
_MOST_ATTRIBUTES = 65_536
_HOUR_MS = 3_600_000


class DeviceOperations(Opened):
    """Adding, watching and changing devices."""

    # --- looking ------------------------------------------------------------------------------

    def devices(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        """Devices that the filters name, oldest first; `next` goes on behind them.

        `silent` is a span or time: nothing was received since then.
        """
        given = {name: text for name, text in filters.items() if text is not None}
        for name in given:
            if name not in _FILTERS:
                raise unknown_key("filter", name, name, _FILTERS)
        if "state" in given:
            _check_choice("state", given["state"], STATES)
        silent = given.get("silent")
        wanted = registry.DeviceFilter(
            given.get("name"),
            given.get("source"),
            given.get("gateway"),
            given.get("class"),
            given.get("state"),
            None if silent is None else moment_ms(self._hub, "silent", silent),
        )
        size = capped(limit)
        if not all(storable(text) for text in given.values()):
            return {"items": [], "next": None}
        with self._hub.telemetry.readings.reading() as connection:
            found = registry.find_devices_like(connection, wanted, size, _number(after or "0"))
            rates = self._rates(connection, [row["device_id"] for row in found])
        items = [_shown(row, rates) for row in found]
        return {"items": items, "next": str(found[-1]["device_id"]) if len(found) == size else None}

    def device(self, device: str) -> Row:
        """One device by name or id, with its metrics and credentials. Raises ConfigError."""
        with self._hub.telemetry.readings.reading() as connection:
            return self._whole(connection, _found(connection, device))

    # --- changing -----------------------------------------------------------------------------

    def add_device(self, name: str, wanted: Mapping[str, Any], *, actor: str) -> Row:
        """A device or gateway that may send from now on; a token that was made is shown this once.

        `wanted`: `source`, `gateway` (bool), and one of `token`, `user` with `password`,
        `certificate`; without any a token is made.
        """
        hub, now = self._hub, self._hub.now_ms()
        plain = plain_name(name)
        if not plain:
            raise ConfigError("device.name", name=name)
        name = plain
        sender = Sender(
            str(wanted.get("source") or DEFAULT_SOURCE), name, bool(wanted.get("gateway"))
        )
        source = telemetry_source(hub.deployment, sender.source)
        with hub.telemetry.readings.transaction() as connection:
            entry = NewDevice(source.tenant, "", name, source.source, ACTIVE, "", "", now)
            create_devices(connection, [entry])
            row = next(
                one
                for one in registry.devices_named(connection, name)
                if not one["gateway"] and one["tenant"] == source.tenant
            )
            made = _add_credential(connection, wanted, sender, now)
            registry.change_device(connection, row["device_id"], {"state": ACTIVE})
            shown = self._whole(connection, registry.load_device(connection, row["device_id"]))
            self._audit(actor, "device.add", name, {"gateway": sender.gateway})
        return {**shown, **made}

    def change_device(self, device: str, changes: Mapping[str, Any], *, actor: str) -> Row:
        """Set what operators say of a device: see `_CHANGES`; the rest stays.

        `attributes` are merged into the shared ones (null removes one); `units` name the unit of
        metrics.
        """
        for name in changes:
            if name not in _CHANGES:
                raise unknown_key("device", name, name, _CHANGES)
        with self._hub.telemetry.readings.transaction() as connection:
            row = _found(connection, device)
            registry.change_device(connection, row["device_id"], _columns(row, changes))
            for metric, unit in dict(changes.get("units") or {}).items():
                if not registry.set_unit(connection, row["device_id"], metric, str(unit)[:40]):
                    known = [
                        one["metric"] for one in registry.series_of(connection, row["device_id"])
                    ]
                    hint = suggestion(metric, known)
                    raise ConfigError("device.metric", device=device, metric=metric, hint=hint)
            shown = self._whole(connection, registry.load_device(connection, row["device_id"]))
            self._audit(actor, "device.change", row["name"], {"fields": sorted(changes)})
        return shown

    def revoke_credential(self, device: str, credential: str, *, actor: str) -> Row:
        """Nobody is admitted by the credential any more, within ten seconds."""
        with self._hub.telemetry.readings.transaction() as connection:
            row = _found(connection, device)
            owner = registry.sender_of(connection, credential) if storable(credential) else None
            if owner is None or owner["device"] != row["name"] or owner["revoked_at"]:
                raise ConfigError("device.no_credential", device=device, credential=credential)
            credentials.revoke(connection, credential, self._hub.now_ms())
            self._audit(actor, "device.revoke", row["name"], {"credential": credential})
        return {"device": row["name"], "credential": credential, "revoked": True}

    def _audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
        """Before the change is committed: an entry without effect is better than the reverse."""
        with self._hub.store.transaction() as connection:
            append_audit(connection, actor, action, subject, details, self._hub.now_ms())

    def _whole(self, connection: Connection, row: Row | None) -> Row:
        assert row is not None  # noqa: S101 (looked up in this transaction)
        rates = self._rates(connection, [row["device_id"]])
        found = credentials.list_credentials(connection, row["source"], row["name"])
        return {
            **_shown(row, rates),
            "client_attributes": decode_json(row["client_attributes"] or "{}"),
            "shared_attributes": decode_json(row["shared_attributes"] or "{}"),
            "metrics": [_metric(one) for one in registry.series_of(connection, row["device_id"])],
            "credentials": [] if row["gateway"] else [_credential(one) for one in found],
        }

    def _rates(self, connection: Connection, device_ids: list[int]) -> dict[int, float]:
        """Readings per minute of event time, since the beginning of the hour before this one."""
        now = self._hub.now_ms()
        since = now // _HOUR_MS * _HOUR_MS - _HOUR_MS
        minutes = (now - since) / 60_000
        found = registry.readings_since(connection, device_ids, since)
        return {device_id: round(number / minutes, 2) for device_id, number in found.items()}


def _add_credential(
    connection: Connection, wanted: Mapping[str, Any], sender: Sender, now: int
) -> Row:
    """Add the credential that was asked for; what must be shown this once."""
    if wanted.get("user") is not None:
        user, password = str(wanted["user"]), str(wanted.get("password") or "")
        if not user or len(password) < _SHORTEST_TOKEN:
            raise ConfigError("device.password", user=user, shortest=_SHORTEST_TOKEN)
        credentials.add_password(connection, user, password, sender, now)
        return {}
    if wanted.get("certificate") is not None:
        fingerprint = str(wanted["certificate"]).replace(":", "").strip().lower()
        if len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise ConfigError("device.certificate", value=wanted["certificate"])
        credentials.add_certificate(connection, fingerprint, sender, now)
        return {}
    given = wanted.get("token")
    token = credentials.new_token() if given is None else str(given)
    plain = token.isascii() and token.isprintable() and not set(token) & set("/?#% ")
    if not (plain and _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN):
        raise ConfigError("device.token", shortest=_SHORTEST_TOKEN, longest=_LONGEST_TOKEN)
    credentials.add_token(connection, token, sender, now)
    return {"token": token} if given is None else {}


def _columns(row: Row, changes: Mapping[str, Any]) -> Row:
    """The columns of the device that change."""
    columns: Row = {}
    for name, value in changes.items():
        if name == "state":
            _check_choice("state", str(value), STATES)
        if name == "zone" and value and value not in available_timezones():
            raise ConfigError("device.zone", zone=value)
        if name == "attributes":
            columns["shared_attributes"] = _merged(row["shared_attributes"], value)
        elif name != "units":
            columns[_COLUMNS.get(name, name)] = str(value or "")
    return columns


def _merged(before: str, changes: Any) -> str:
    if not isinstance(changes, Mapping):
        raise ConfigError("device.attributes", most=_MOST_ATTRIBUTES)
    merged = {**decode_json(before or "{}"), **changes}
    text = encode_json({name: value for name, value in merged.items() if value is not None})
    if len(text) > _MOST_ATTRIBUTES:
        raise ConfigError("device.attributes", most=_MOST_ATTRIBUTES)
    return text.decode()


def _found(connection: Connection, device: str) -> Row:
    """The device of this name, or of this id. Raises ConfigError."""
    named = registry.devices_named(connection, device) if storable(device) else []
    if len(named) > 1:
        known = ", ".join(f"{one['device_id']} ({one['gateway'] or '-'})" for one in named)
        raise ConfigError("device.ambiguous", device=device, known=known)
    if named:
        return named[0]
    row = registry.load_device(connection, _number(device))
    if row is None:
        raise ConfigError("device.unknown", device=device)
    return row


def _number(text: str) -> int:
    """An id; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else 0


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError("device.choice", name=name, value=value, known=", ".join(known))


def _shown(row: Row, rates: Mapping[int, float]) -> Row:
    return {
        "id": row["device_id"],
        "name": row["name"],
        "gateway": row["gateway"] or None,
        "source": row["source"],
        "tenant": row["tenant"],
        "state": row["state"],
        "class": row["kind"] or None,
        "zone": row["zone"] or None,
        "title": row["title"] or None,
        "customer_id": row["customer_id"] or None,
        "serial_no": row["serial_no"] or None,
        "online": row["online"] or None,
        "online_at": iso_ms(row["online_at"]),
        "seen_at": iso_ms(row["seen_at"]),
        "latest": iso_ms(row["latest_ts"]),
        "per_minute": rates.get(row["device_id"], 0.0),
        "clock_skew_ms": row["skew_ms"],
        "readings": row["readings"],
        "late": row["late"],
        "duplicates": row["duplicates"],
        "restated": row["restated"],
        "quarantined": row["quarantined"],
        "created_at": iso_ms(row["created_at"]),
    }


def _metric(row: Row) -> Row:
    return {
        "metric": row["metric"],
        "unit": row["unit"] or None,
        "value": row["last_value"],
        "ts": iso_ms(row["last_ts"]),
        "received_at": iso_ms(row["last_received_at"]),
        "time_known": not row["last_known"],
    }


def _credential(one: credentials.Credential) -> Row:
    return {
        "id": one.credential_id,
        "kind": one.kind,
        "name": one.name or None,
        "gateway": one.sender.gateway,
        "created_at": iso_ms(one.created_at),
        "revoked_at": iso_ms(one.revoked_at),
    }
