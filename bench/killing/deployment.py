"""The deployment under attack: pulled flows and webhook flows into sinks of all three safeties."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hub.engine.deployment import create_deployment, write_private

PULLED = {
    "pull_customers": ("customer", "customer"),
    "pull_tickets": ("material", "ticket"),
    "pull_orders": ("material", "sale_order"),
}
"""Flows that read U8: the stream and the sink. Upsert, look-up and idempotency key."""

SENT = ("customer", "ticket", "sale_order")
"""The sinks that webhook events go to, each by a flow of its own."""

KEPT = "material"
"""The hub's own records, which a further flow keeps."""

HOOK = "desk"
# Names that no flow of the checkout uses: those would be started as well.
ERP, CRM = "erp", "sales"

_HOOK = {
    "verify": {
        "kind": "hmac",
        "header": "X-Signature",
        "timestamp": "X-Timestamp",
        "id": "X-Event",
        "sign": "{timestamp}.{id}.{body}",
    },
    "events": {
        sink: {"match": {"path": "kind", "in": [sink]}, "key": ["key"]} for sink in SENT
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Where the outside world is: what a deployment needs to know."""

    u8: str
    crm: str
    store_url: str | None
    port: int


def make_deployment(folder: Path, target: Target) -> str:
    """Write the deployment; the secret with which its webhook's events are signed."""
    create_deployment(folder)
    signing = secrets.token_hex(16)
    kept = {"u8": "fake-secret", "crm": "fake-token", "hook": signing}
    for name, text in kept.items():
        write_private(folder / f"{name}.secret", text)
    settings = f'language = "en"\n[api]\nport = {target.port}\n'
    if target.store_url is not None:
        settings += f'[store]\nurl = "{target.store_url}"\n'
    (folder / "hub.toml").write_text(settings, encoding="utf-8")
    _write(folder / "connections.yaml", _connections(folder, target))
    for name, flow in _flows().items():
        _write(folder / "mappings" / "flows" / f"{name}.yaml", flow)
    return signing


def _connections(folder: Path, target: Target) -> dict[str, Any]:
    limits = {"tries": 2, "deadline": "3s", "concurrent": 4}
    u8 = {
        "base_url": target.u8,
        "from_account": "fake_developer",
        "to_account": "test_enterprise",
        "app_key": "opa_fake",
        "app_secret": f"file:{folder / 'u8.secret'}",
        "ds_sequence": 1,
    }
    crm = {"base_url": target.crm, "token": f"file:{folder / 'crm.secret'}"}
    desk = {"base_url": "http://127.0.0.1:9", "hook_secret": f"file:{folder / 'hook.secret'}"}
    return {
        ERP: {"connector": "u8", "config": u8, "limits": {**limits, "rate": "20/s"}},
        CRM: {"connector": "crm", "config": crm, "limits": {**limits, "rate": "150/s"}},
        HOOK: {
            "connector": "rest",
            "config": desk,
            "envelope": {"ok": {"path": "$", "is": "present"}},
            "hook": _HOOK,
        },
    }


def _flows() -> Mapping[str, dict[str, Any]]:
    every_minute = {"cron": "* * * * *"}
    pulled = {
        name: {
            "from": {"connection": ERP, "stream": stream},
            "schedule": every_minute,
            "mapping": {"key": ["code"], "fields": {"code": "code", "name": "name"}},
            "to": {"connection": CRM, "sink": sink},
        }
        for name, (stream, sink) in PULLED.items()
    }
    kept = {**pulled["pull_tickets"], "to": {"entity": KEPT}}
    sent = {
        f"take_{sink}": {
            "from": {"connection": HOOK, "event": sink},
            "mapping": {"key": ["key"], "fields": {"key": "key", "name": "name"}},
            "to": {"connection": CRM, "sink": sink},
        }
        for sink in SENT
    }
    flows = {**pulled, f"keep_{KEPT}": kept, **sent}
    return {name: {"flow": name, **flow} for name, flow in flows.items()}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
