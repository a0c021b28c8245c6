"""A loopback CRM that counts what really happened: `python -m connectors.crm.fake --port 0`."""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hub.sdk.clock import Clock, SystemClock
from hub.sdk.testing import FakeServer, Request, Response, serve
from hub.sdk.testing.alterations import replace_body
from hub.sdk.testing.messages import encode_json

OBJECTS = {
    "customer": "customers",
    "stock": "stocks",
    "sale_order": "sale_orders",
    "ticket": "tickets",
}
BATCH_LIMITS = {"customer": 200, "stock": 500}
_TOKEN = "fake-token"  # noqa: S105 (what the fake accepts)
_STAMP = "%Y-%m-%dT%H:%M:%SZ"

Item = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """One object of the CRM; `visible_from` is when the search index knows it."""

    id: str
    external_id: str
    data: Item
    created_at: datetime
    updated_at: datetime
    visible_from: float
    version: int = 1
    active: bool = True

    def shown(self) -> Item:
        """As the interface gives it."""
        return {
            **self.data,
            "id": self.id,
            "external_id": self.external_id,
            "active": self.active,
            "version": self.version,
            "created_at": self.created_at.strftime(_STAMP),
            "updated_at": self.updated_at.strftime(_STAMP),
        }


@dataclass(slots=True)
class Table:
    """The objects of one kind, in order of creation."""

    rows: dict[str, Entry] = field(default_factory=dict)
    by_external: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0

    def with_external(self, external_id: str) -> list[Entry]:
        """Live objects with this external id; more than one is a duplicate."""
        return [self.rows[i] for i in self.by_external.get(external_id, []) if i in self.rows]


class FakeCrm(FakeServer):
    """Keeps objects and counts effects: a create, or a change of content, of one external id."""

    def __init__(self, *, port: int = 0, lag: float = 0.0, clock: Clock | None = None) -> None:
        super().__init__(port)
        self.clock = clock or SystemClock()
        self.lag = lag  # seconds until a search finds a new object
        self.tables = {name: Table() for name in OBJECTS}
        self.effects: Counter[tuple[str, str]] = Counter()
        self.writes = 0
        self._tokens = {_TOKEN}
        self._keys: dict[str, tuple[str, Response]] = {}
        self._busy = 0
        self._unanswered = 0
        self._register()

    def _register(self) -> None:
        for name, path in OBJECTS.items():
            base = f"/api/v1/{path}"
            self._add("GET", base, self._search, name)
            self._add("GET", base + "/{id}", self._show, name)
            self._add("POST", base + "/deactivate", self._deactivate, name)
            self._add("POST", base + "/delete", self._delete, name)
            if name in BATCH_LIMITS:
                self._add("POST", base + "/upsert", self._upsert, name)
            else:
                self._add("POST", base, self._once(self._create, name), name)
                self._add("PUT", base + "/{id}", self._once(self._update, name), name)
        for command in (self.expire_token, self.accept, self.set_lag, self.fail_items):
            self.commands[command.__name__] = command
        self.commands["effects"] = self.effects_of
        self.alterations |= {
            "throttle": lambda: replace_body({"code": 42900, "message": "too many requests"}),
            "expired_token": lambda: replace_body({"code": 40101, "message": "token expired"}),
            "server_error": lambda: replace_body({"code": 50000, "message": "internal error"}),
        }

    def _add(
        self, method: str, path: str, handler: Callable[[str, Request], Response], name: str
    ) -> None:
        def guarded(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token not in self._tokens:
                return _no(401, 40101, "token missing or expired")
            return handler(name, request)

        self.route(method, path, guarded)

    def config(self) -> dict[str, Any]:
        """Settings of a connection."""
        return {"base_url": self.url, "token": _TOKEN}

    def state(self) -> dict[str, Any]:
        """Per object: how many there are, effects, external ids that exist twice."""
        return {
            "writes": self.writes,
            "objects": {name: len(table.rows) for name, table in self.tables.items()},
            "active": {
                name: sum(row.active for row in table.rows.values())
                for name, table in self.tables.items()
            },
            "effects": {
                name: sum(n for (of, _), n in self.effects.items() if of == name)
                for name in OBJECTS
            },
            "duplicates": {name: self.duplicates(name) for name in OBJECTS},
        }

    # --- what a test or demo may ask for ------------------------------------------------------

    def find(self, name: str, external_id: str) -> Item | None:
        """The object as the interface shows it; None when there is none or more than one."""
        with self.lock:
            found = self.tables[name].with_external(external_id)
            return found[0].shown() if len(found) == 1 else None

    def duplicates(self, name: str) -> list[str]:
        """External ids that more than one live object carries."""
        with self.lock:
            table = self.tables[name]
            return [key for key in table.by_external if len(table.with_external(key)) > 1]

    def effects_of(self, object: str) -> dict[str, int]:
        """Effects per external id of one kind of object."""
        with self.lock:
            return {key: n for (name, key), n in self.effects.items() if name == object}

    def expire_token(self) -> None:
        """Refuse every token until `accept`."""
        with self.lock:
            self._tokens.clear()

    def accept(self, token: str = _TOKEN) -> None:
        """Accept this token too."""
        with self.lock:
            self._tokens.add(token)

    def set_lag(self, seconds: float) -> None:
        """How long new objects stay invisible to searches."""
        with self.lock:
            self.lag = seconds

    def fail_items(self, busy: int = 0, unanswered: int = 0) -> None:
        """The last items of the next batch: `busy` ones are not done and say so, `unanswered`
        ones are done but missing in the results."""
        with self.lock:
            self._busy, self._unanswered = busy, unanswered

    # --- reading ------------------------------------------------------------------------------

    def _search(self, name: str, request: Request) -> Response:
        rows = self._visible(name, request)
        after = request.query.get("cursor", "")
        limit = min(max(int(request.query.get("limit", "50")), 1), 500)
        if after and not after.startswith("c"):
            return _no(400, 40002, f"cursor {after!r} is not one of ours")
        start = next((n for n, row in enumerate(rows) if row.id > after[1:]), len(rows))
        part = rows[start : start + limit]
        more = start + limit < len(rows)
        data = {
            "items": [row.shown() for row in part],
            "next_cursor": f"c{part[-1].id}" if more else None,
            "has_more": more,
            "total": len(rows),
        }
        return Response(json={"code": 0, "message": "", "data": data})

    def _visible(self, name: str, request: Request) -> list[Entry]:
        table, now = self.tables[name], self.clock.monotonic()
        wanted, since = request.query.get("external_id"), request.query.get("updated_since", "")
        rows = table.rows.values() if wanted is None else table.with_external(wanted)
        return [
            row
            for row in rows
            if row.visible_from <= now and row.updated_at.strftime(_STAMP) >= since
        ]

    def _show(self, name: str, request: Request) -> Response:
        row = self.tables[name].rows.get(request.params["id"])
        return _no(404, 40400, "not found") if row is None else _yes(row)

    # --- writing ------------------------------------------------------------------------------

    def _upsert(self, name: str, request: Request) -> Response:
        items = _body(request).get("items")
        if not isinstance(items, list):
            return _no(422, 42201, "items is missing")
        if len(items) > BATCH_LIMITS[name]:
            return _no(422, 42202, f"at most {BATCH_LIMITS[name]} items")
        done = len(items) - self._busy
        results = [self._upsert_one(name, item) for item in items[:done]]
        results += [{**_named(item), "status": "busy"} for item in items[done:]]
        results = results[: len(results) - self._unanswered]
        self._busy = self._unanswered = 0
        return Response(json={"code": 0, "message": "", "results": results})

    def _upsert_one(self, name: str, item: Any) -> Item:
        problem = _problem(item)
        if problem is not None:
            return {**_named(item), "status": "rejected", "code": "42200", "message": problem}
        found = self.tables[name].with_external(item["external_id"])
        if not found:
            row, status = self._make(name, item), "created"
        else:
            row, status = found[0], "updated" if self._change(name, found[0], item) else "unchanged"
        return {"external_id": row.external_id, "id": row.id, "status": status, "message": ""}

    def _create(self, name: str, request: Request) -> Response:
        item = _body(request)
        problem = _problem(item)
        return _no(422, 42200, problem) if problem else _yes(self._make(name, item), 201)

    def _update(self, name: str, request: Request) -> Response:
        row = self.tables[name].rows.get(request.params["id"])
        item = _body(request)
        if row is None:
            return _no(404, 40400, "not found")
        problem = _problem(item)
        if problem:
            return _no(422, 42200, problem)
        self._change(name, row, item)
        return _yes(row)

    def _make(self, name: str, item: Item) -> Entry:
        table, now = self.tables[name], self.clock.now().astimezone(UTC)
        table.made += 1
        key = item["external_id"]
        row = Entry(
            f"{name[0].upper()}{table.made:09d}",
            key,
            {k: v for k, v in item.items() if k != "external_id"},
            now,
            now,
            self.clock.monotonic() + self.lag,
        )
        table.rows[row.id] = row
        table.by_external.setdefault(key, []).append(row.id)
        self.count_effect(name, row)
        return row

    def _change(self, name: str, row: Entry, item: Item) -> bool:
        data = {k: v for k, v in item.items() if k != "external_id"}
        if data == row.data and row.active:
            self.writes += 1
            return False
        row.data, row.active = data, True
        row.version += 1
        row.updated_at = self.clock.now().astimezone(UTC)
        self.count_effect(name, row)
        return True

    def count_effect(self, name: str, row: Entry) -> None:
        """An object was made, changed or ended; `lock` is held. Who keeps a book overrides this."""
        self.writes += 1
        self.effects[(name, row.external_id)] += 1

    def _deactivate(self, name: str, request: Request) -> Response:
        rows = self.tables[name].with_external(str(_body(request).get("external_id")))
        if not rows:
            return _no(404, 40400, "not found")
        for row in rows:
            if row.active:
                row.active = False
                row.updated_at = self.clock.now().astimezone(UTC)
                self.count_effect(name, row)
        return _yes(rows[0])

    def _delete(self, name: str, request: Request) -> Response:
        key = str(_body(request).get("external_id"))
        rows = self.tables[name].with_external(key)
        if not rows:
            return _no(404, 40400, "not found")
        for row in rows:
            del self.tables[name].rows[row.id]
        del self.tables[name].by_external[key]
        self.count_effect(name, rows[0])
        return _yes(rows[0])

    def _once(
        self, handler: Callable[[str, Request], Response], name: str
    ) -> Callable[[str, Request], Response]:
        """Orders need an Idempotency-Key: the first answer is replayed, another body refused."""
        if name != "sale_order":
            return handler

        def answer(of: str, request: Request) -> Response:
            key = request.headers.get("idempotency-key", "")
            if not key:
                return _no(400, 40001, "Idempotency-Key is missing")
            digest = hashlib.sha256(request.path.encode() + request.body).hexdigest()
            if key not in self._keys:
                response = handler(of, request)
                if response.status < 300:
                    self._keys[key] = (digest, response)
                return response
            known, response = self._keys[key]
            return response if known == digest else _no(422, 42210, "key used with another body")

        return answer


def _body(request: Request) -> Item:
    found = request.json() if request.body else {}
    return found if isinstance(found, dict) else {}


def _problem(item: Any) -> str | None:
    if not isinstance(item, dict) or not isinstance(item.get("external_id"), str):
        return "external_id is missing"
    marked = [name for name, v in item.items() if isinstance(v, str) and "REJECT" in v]
    return f"{marked[0]} is not acceptable" if marked else None


def _named(item: Any) -> Item:
    return {"external_id": item.get("external_id") if isinstance(item, dict) else None}


def _no(status: int, code: int, message: str) -> Response:
    return Response(status, json={"code": code, "message": message})


def _yes(row: Entry, status: int = 200) -> Response:
    # Encoded at once: a replayed answer must not show later changes.
    body = encode_json({"code": 0, "message": "", "data": row.shown()})
    return Response(status, body=body)


def fake(port: int = 0) -> FakeCrm:
    """An empty CRM."""
    return FakeCrm(port=port)


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m connectors.crm.fake", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lag", type=float, default=0.0, help="seconds until a search finds it")
    given = parser.parse_args()
    serve(FakeCrm(port=given.port, lag=given.lag))


if __name__ == "__main__":
    main()
