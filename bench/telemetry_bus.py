"""Telemetry through NATS JetStream, beside the inbox table: accepting, projecting, CPU, disk.

For each store and each way: raw messages are kept through the port in this process (without HTTP),
then a projector of its own works them off. Two loads: 100 readings per message from 2,500 machines,
and a fleet of 20,000 machines with 4 metrics each that send one reading of each per message - the
hard case, as every series takes part in every round. Needs a NATS server (`--bus`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine
from bench.hooks import store_at
from bench.killing.cluster import NoServer
from bench.telemetering.bodies import json_bodies
from bench.telemetering.site import ROOT, Broken, Site, _resident
from hub.engine.deployment import open_deployment
from hub.engine.telemetry import Projectors
from hub.sdk.telemetry import Message, Sender
from hub.telemetry.bus import Bus, BusAt
from hub.telemetry.bus_keeper import BusKeeper
from hub.telemetry.bus_state import bus_positions, look
from hub.telemetry.ingest import Ingest

STORES = ("sqlite", "postgres")
WAYS = ("table", "bus")
_SENDERS = 2_000
_TICKS = 100


class Load(NamedTuple):
    """`rounds` messages of each machine; the first `settle` of them are not measured."""

    name: str
    machines: int
    readings: int
    settle: int
    rounds: int


LOADS = (Load("batches", 2_500, 100, 1, 4), Load("fleet", 20_000, 4, 1, 3))


class Way:
    """One store, with or without the bus."""

    def __init__(self, site: Site, bus: str | None) -> None:
        self.site = site
        if bus is not None:
            with (site.folder / "hub.toml").open("a", encoding="utf-8") as file:
                file.write(
                    f'[telemetry]\nbus = "{bus}"\nbus_name = "bench-{secrets.token_hex(4)}"\n'
                )
        self.deployment = open_deployment(site.folder)
        at = self.deployment.telemetry_bus
        self.bus = None if at is None else Bus(BusAt(*at))
        keeper = None if self.bus is None else BusKeeper(self.bus)
        parts = 1 if site.inbox.embedded else self.deployment.settings.telemetry.parts
        self.ingest = Ingest(lambda: site.inbox, parts, keeper=keeper)

    def waiting(self) -> int:
        if self.bus is None:
            return self.site.waiting()
        reached = bus_positions(self.site.readings)
        return sum(one.waiting for one in self.bus.run(lambda link: look(link, reached)))

    def close(self) -> None:
        self.ingest.close()
        if self.bus is not None:
            self.bus.run(lambda link: link.jetstream.delete_stream(link.at.stream))
            self.bus.close()


def accept(way: Way, bodies: list[tuple[str, bytes]]) -> dict[str, float]:
    """Keep everything, many senders at once."""
    now = int(time.time() * 1000)
    rest = iter(bodies)

    async def sender() -> None:
        for name, body in rest:
            await way.ingest.keep(Message(Sender("iot", name), "iot.thingsboard", body, now))

    async def all_of_them() -> None:
        await asyncio.gather(*(sender() for _ in range(_SENDERS)))

    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(all_of_them())
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    return {"messages_per_second": len(bodies) / seconds, "per_cpu_second": len(bodies) / spent}


def project(way: Way, load: Load, messages: int, rounds: int) -> dict[str, float]:
    """Work off what waits; the clock runs from the first commit on."""
    projectors = Projectors(way.deployment)
    projectors.start()
    try:
        while (left := way.waiting()) >= messages:
            time.sleep(0.02)
        (pid,) = projectors.pids
        began, cpu, peak = time.perf_counter(), _cpu(pid), 0.0
        while way.waiting():
            peak = max(peak, _resident(pid))
            time.sleep(0.1)
        seconds, spent = time.perf_counter() - began, _cpu(pid) - cpu
    finally:
        projectors.stop()
    kept, wanted = way.site.count(1), rounds * load.machines * load.readings
    if kept != wanted:
        raise Broken(f"{load.name}: {kept:,} readings are there, {wanted:,} were sent")
    readings = left * load.readings
    return {
        "projected_per_second": readings / seconds,
        "projected_per_cpu_second": readings / max(spent, 0.01),
        "projector_mb": peak,
        "bytes_per_reading": way.site.bytes_stored() / kept,
    }


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure(store: str, load: Load, bus: str | None) -> dict[str, float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        url, _ = stack.enter_context(store_at(store, folder))
        site = stack.enter_context(closing(Site(folder / "hub", url, 0)))
        way = stack.enter_context(closing(Way(site, bus)))
        made = json_bodies(load.readings, load.machines, 1)
        first = list(islice(made, load.machines * load.settle))
        rest = list(islice(made, load.machines * load.rounds))
        accept(way, first)
        began = project(way, load, len(first), load.settle)
        found = accept(way, rest)
        found |= project(way, load, len(rest), load.settle + load.rounds)
        found["first_round_per_second"] = began["projected_per_second"]
    return {key: round(value, 1) for key, value in found.items()}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench telemetry_bus", description=__doc__)
    parser.add_argument("--bus", default="nats://127.0.0.1:4222")
    parser.add_argument("--store", action="append", choices=STORES)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--load", action="append", choices=[load.name for load in LOADS])
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    before = machine.facts()
    found: dict[str, Any] = {}
    try:
        for load in LOADS:
            for store in options.store or STORES:
                for way in options.way or WAYS:
                    if options.load and load.name not in options.load:
                        continue
                    name = f"{load.name}, {store}, {way}"
                    found[name] = measure(store, load, options.bus if way == "bus" else None)
                    print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    except (Broken, NoServer) as problem:
        print(f"bench telemetry_bus: {problem}", file=sys.stderr)
        return 1
    part = options.store or options.way or options.load
    path = machine.save(
        "telemetry_bus.local" if part else "telemetry_bus", {"cases": found}, before
    )
    if options.json:
        print(json.dumps({"machine": before, "cases": found}))
    print(f"saved {path.relative_to(ROOT)}", file=sys.stderr)
    return 0
