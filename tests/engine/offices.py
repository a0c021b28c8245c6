"""Two systems that people work in, both ways in step: real little servers, and flows between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hub.sdk.clock import Clock
from hub.sdk.testing import FakeServer, Request, Response
from tests.engine import paper

FIELDS = ("name", "phone", "amount", "tags", "remark")
FORTH, BACK = "left_to_right", "right_to_left"

Told = dict[str, Any]


class Office(FakeServer):
    """Keeps things by its own ids; what it is told goes through `mangle` before it is kept."""

    def __init__(
        self, prefix: str, clock: Clock, *, delivered_once: str = "idempotency_key"
    ) -> None:
        super().__init__()
        self.prefix = prefix
        self.clock = clock
        self.safety = delivered_once
        self.things: dict[str, Told] = {}
        self.log: list[tuple[str, str]] = []
        self.mangle: Callable[[Told], Told] = dict
        self._numbers = itertools.count(1)
        self._answered: dict[str, Response] = {}
        self.route("GET", "/things", self._list)
        self.route("GET", "/things/{id}", self._show)
        self.route("POST", "/things", self._create)
        self.route("PUT", "/things/{id}", self._update)
        self.route("PATCH", "/things/{id}", self._update)
        self.route("POST", "/things/{id}/off", self._off)
        self.route("DELETE", "/things/{id}", self._delete)

    @property
    def writes(self) -> int:
        """How many calls of the hub had an effect."""
        return len(self.log)

    # --- what people do -----------------------------------------------------------------------

    def add(self, **told: Any) -> str:
        with self.lock:
            return str(self._make({"by": "person", **told})["id"])

    def edit(self, number: str, **told: Any) -> None:
        with self.lock:
            self._change(self.things[number], {"by": "person", **told})

    def remove(self, number: str) -> None:
        self.edit(number, gone=True)

    def restore(self, number: str, **told: Any) -> None:
        self.edit(number, gone=False, active=True, **told)

    def said(self, number: str) -> Told:
        with self.lock:
            return {name: self.things[number].get(name) for name in FIELDS}

    def live(self) -> list[str]:
        with self.lock:
            return [one["id"] for one in self.things.values() if one["active"] and not one["gone"]]

    # --- what the hub does --------------------------------------------------------------------

    def _list(self, request: Request) -> Response:
        since, ref = request.query.get("since", ""), request.query.get("ref")
        items = [
            one
            for one in self.things.values()
            if one["changed_at"] >= since and ref in (None, one.get("ref"))
        ]
        return Response(json={"ok": True, "items": items, "total": len(items)})

    def _show(self, request: Request) -> Response:
        found = self.things.get(request.params["id"])
        return (
            _no(404, "not there") if found is None else Response(json={"ok": True, "item": found})
        )

    def _create(self, request: Request) -> Response:
        key, told = request.headers.get("idempotency-key", ""), request.json()
        if self.safety == "idempotency_key":
            if key not in self._answered:
                self._answered[key] = self._created(told)
            return self._answered[key]
        same = [one for one in self.things.values() if one.get("ref") == told["ref"]]
        if self.safety == "upsert" and same:
            return self._written("update", same[0], told)
        return self._created(told)

    def _created(self, told: Told) -> Response:
        made = self._make({"by": "hub", **self.mangle(told)})
        self.log.append(("create", made["id"]))
        return Response(json={"ok": True, "id": made["id"]})

    def _update(self, request: Request) -> Response:
        found = self.things.get(request.params["id"])
        if found is None:
            return _no(404, "not there")
        return self._written("update", found, request.json())

    def _written(self, what: str, thing: Told, told: Told) -> Response:
        self._change(thing, {"by": "hub", "active": True, "gone": False, **self.mangle(told)})
        self.log.append((what, thing["id"]))
        return Response(json={"ok": True, "id": thing["id"]})

    def _off(self, request: Request) -> Response:
        thing = self.things[request.params["id"]]
        self._change(thing, {"by": "hub", "active": False})
        self.log.append(("off", thing["id"]))
        return Response(json={"ok": True})

    def _delete(self, request: Request) -> Response:
        if self.things.pop(request.params["id"], None) is None:
            return _no(404, "not there")
        self.log.append(("delete", request.params["id"]))
        return Response(json={"ok": True})

    def _make(self, told: Told) -> Told:
        number = f"{self.prefix}{next(self._numbers)}"
        self.things[number] = {"id": number, "active": True, "gone": False}
        self._change(self.things[number], told)
        return self.things[number]

    def _change(self, thing: Told, told: Told) -> None:
        thing |= {"changed_at": self.clock.now().isoformat(timespec="seconds"), **told}


def _no(status: int, why: str) -> Response:
    return Response(status, json={"ok": False, "why": why})


# --- how targets keep what they are told --------------------------------------------------------


def tidies(told: Told) -> Told:
    """Trims, cuts at 16 characters, rounds to cents, sorts lists."""
    kept = dict(told)
    for name, value in told.items():
        if name == "amount" and value not in (None, ""):
            kept[name] = f"{float(value):.2f}"
        elif name != "ref" and isinstance(value, str):
            kept[name] = value.strip()[:16]
        elif isinstance(value, list):
            kept[name] = sorted(value)
    return kept


# --- the hub between them -----------------------------------------------------------------------


def connection(office: Office, *, update: str = "put") -> Told:
    """An entry of `connections.yaml` for an office."""
    one = "/things/{target_id}"
    find = {"request": {"get": "/things", "params": {"ref": "{key}"}}, "data": "items"}
    sink = {
        "safety": office.safety,
        "key": "ref",
        "request": {"post": "/things"},
        "update": {update: one},
        "show": {"request": {"get": one}, "data": "item"},
        "find": {**find, "match": "ref", "id": "id"},
        "deactivate": {"post": f"{one}/off"},
        "delete": {"delete": one},
        "id": "id",
        "verify": {
            "stream": "thing",
            "key": "ref",
            "id": "id",
            "live": {"path": "active", "in": [True]},
        },
    }
    stream = {
        "key": ["id"],
        "request": {"get": "/things"},
        "data": "items",
        "page": {"kind": "none", "total": "total"},
        "incremental": {"param": "since", "format": "%Y-%m-%dT%H:%M:%S+00:00", "overlap": "1s"},
        "deleted": {"path": "gone", "in": [True]},
    }
    return {
        "connector": "rest",
        "config": {"base_url": office.url},
        "auth": {"kind": "none"},
        "limits": {"rate": "10000/s", "concurrent": 2, "tries": 1, "deadline": "5s"},
        "envelope": {"ok": {"path": "ok", "in": [True]}, "message": "why"},
        "streams": {"thing": stream},
        "sinks": {"thing": sink},
    }


def flow(name: str, source: str, target: str, two_way: Told, delete: str = "deactivate") -> Told:
    """A flow file from one office to the other."""
    fields = {one: one for one in FIELDS} | {"amount": {"from": "amount", "type": "text"}}
    return {
        "flow": name,
        "from": {"connection": source, "stream": "thing"},
        "mapping": {"key": ["ref"], "fields": {"ref": "id", **fields}},
        "two_way": two_way,
        "to": {"connection": target, "sink": "thing", "delete": delete, "delete_guard": "100%"},
    }


def furnish(
    folder: Path,
    left: Office,
    right: Office,
    policy: Told | None = None,
    *,
    more: Told | None = None,
    update: str = "put",
    delete: str = "deactivate",
) -> None:
    """A deployment whose two flows keep the offices in step; the way forth declares the policy."""
    entries = {"left": connection(left, update=update), "right": connection(right, update=update)}
    text = yaml.safe_dump(entries, allow_unicode=True)
    (folder / "connections.yaml").write_text(text, encoding="utf-8")
    forth = {"with": BACK, "policy": policy or {"owner": "left"}, **(more or {})}
    for one in (
        flow(FORTH, "left", "right", forth, delete),
        flow(BACK, "right", "left", {"with": FORTH}, delete),
    ):
        paper.write_flow(folder, one["flow"], yaml.safe_dump(one, allow_unicode=True))
