"""Any history of an edge node, right or mad, played through its state machine."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.sparkplug.births import Metric
from connectors.iot.sparkplug.state import (
    Arrival,
    Count,
    EdgeNode,
    Effect,
    Keep,
    Rebirth,
    Refuse,
)


def kept(effects: list[Effect]) -> list[Arrival]:
    return [one.arrival for one in effects if isinstance(one, Keep)]


@dataclass
class Plant:
    """A node that is always right about what its aliases mean, and the truth about each message."""

    seq: int = 0
    clock: int = 1_000_000
    bd_seq: int = 0
    devices: dict[str, bool] = field(default_factory=dict)
    sent: list[Arrival] = field(default_factory=list)

    def send(self, kind: str, device: str = "", metrics: tuple[Metric, ...] = ()) -> None:
        self.clock += 1
        number: int | None = self.seq
        if kind == "NBIRTH":
            number, self.seq = 0, 0
        if kind == "NDEATH":
            number = None
        else:
            self.seq = (self.seq + 1) % 256
        bd_seq = self.bd_seq if kind in ("NBIRTH", "NDEATH") else None
        self.sent.append(
            Arrival(kind, device, number, self.clock, bd_seq, metrics, 10, len(self.sent))
        )

    def birth(self, shift: int) -> None:
        self.shift = shift
        self.devices = {}
        self.send("NBIRTH", metrics=tuple(Metric(f"n{i}", i + shift, 10) for i in range(3)))

    def play(self, step: str) -> None:
        device = step[-1]
        if step == "restart":
            self.send("NDEATH")
            self.bd_seq += 1
            self.birth(self.shift)
        elif step == "rebirth":
            self.birth(self.shift)
        elif step.startswith("dbirth"):
            metrics = tuple(Metric(f"{device}{i}", 10 + ord(device) * 10 + i, 10) for i in range(2))
            self.devices[device] = True
            self.send("DBIRTH", device, metrics)
        elif step.startswith("ddeath") and self.devices.pop(device, False):
            self.send("DDEATH", device)
        elif step == "ndata":
            self.send("NDATA", metrics=(Metric("", self.shift), Metric("", self.shift + 2)))
        elif step.startswith("ddata") and device in self.devices:
            self.send("DDATA", device, (Metric("", 11 + ord(device) * 10),))

    def meaning(self, arrival: Arrival) -> list[str]:
        if arrival.kind == "NDATA":
            return ["n0", "n2"]
        return [f"{arrival.device}1"] if arrival.kind == "DDATA" else []


STEPS = st.lists(
    st.sampled_from(
        [
            "ndata",
            "ndata",
            "ddata a",
            "ddata b",
            "dbirth a",
            "dbirth b",
            "ddeath a",
            "rebirth",
            "restart",
        ]
    ),
    max_size=40,
)


def played(steps: list[str]) -> Plant:
    plant = Plant()
    plant.birth(1)
    for step in steps:
        plant.play(step)
    return plant


def outcome(node: EdgeNode, arrivals: list[tuple[float, Arrival]]) -> list[tuple[float, Effect]]:
    found: list[tuple[float, Effect]] = []
    now = 0.0
    for at, arrival in arrivals:
        while now + 0.25 < at:
            now += 0.25
            found += [(now, one) for one in node.tick(now)]
        now = max(now, at)
        found += [(now, one) for one in node.on(arrival, now)]
    for _ in range(600):
        now += 0.25
        found += [(now, one) for one in node.tick(now)]
    return found


@given(STEPS)
def test_in_order_and_complete_everything_is_kept_at_once_and_nothing_asked(
    steps: list[str],
) -> None:
    plant = played(steps)
    node = EdgeNode()
    effects = []
    for arrival in plant.sent:
        found = node.on(arrival, 0)
        assert kept(found) == [arrival]
        effects += found
    assert not any(isinstance(one, Rebirth | Count) for one in effects)
    for one in effects:
        if isinstance(one, Keep) and one.arrival.kind.endswith("DATA"):
            assert [known.name for known in one.known] == plant.meaning(one.arrival)


@given(STEPS, st.data())
def test_whatever_is_lost_doubled_or_late_each_message_ends_once_and_never_under_a_wrong_name(
    steps: list[str], draw: st.DataObject
) -> None:
    plant = played(steps)
    arrivals: list[tuple[float, Arrival]] = []
    for number, arrival in enumerate(plant.sent):
        fate = draw.draw(st.sampled_from(["there", "there", "there", "lost", "twice", "late"]))
        if fate == "lost":
            continue
        delay = draw.draw(st.floats(0, 8)) if fate == "late" else 0.0
        arrivals.append((number * 0.5 + delay, arrival))
        if fate == "twice":
            copy = Arrival(
                arrival.kind,
                arrival.device,
                arrival.seq,
                arrival.timestamp,
                arrival.bd_seq,
                arrival.metrics,
                arrival.size,
                arrival.raw,
            )
            arrivals.append((number * 0.5 + draw.draw(st.floats(0, 8)), copy))
    arrivals.sort(key=lambda one: one[0])
    commands = draw.draw(st.booleans())
    node = EdgeNode(commands=commands)
    found = outcome(node, arrivals)

    ended = Counter(id(one.arrival) for _, one in found if isinstance(one, Keep | Refuse))
    assert all(number == 1 for number in ended.values())
    for _, arrival in arrivals:
        if arrival.kind not in ("NDEATH", "DDEATH"):
            assert ended[id(arrival)] == 1
    for _, one in found:
        if isinstance(one, Keep) and one.arrival.kind.endswith("DATA"):
            assert [known.name for known in one.known] == plant.meaning(one.arrival)
    times = [at for at, one in found if isinstance(one, Rebirth)]
    assert all(b - a >= 30 for a, b in itertools.pairwise(times))
    assert commands or not times
    assert node.waiting == 0


@given(STEPS, st.data())
def test_messages_that_swap_places_within_the_reorder_time_change_nothing(
    steps: list[str], draw: st.DataObject
) -> None:
    plant = played([one for one in steps if one not in ("rebirth", "restart")])
    first, *rest = plant.sent
    arrivals = [
        (number * 0.1 + draw.draw(st.floats(0, 1.5)), arrival)
        for number, arrival in enumerate(rest, start=1)
    ]
    arrivals.sort(key=lambda one: one[0])
    found = outcome(EdgeNode(reorder=2.0), [(0.0, first), *arrivals])
    assert [one.arrival for _, one in found if isinstance(one, Keep)] == plant.sent
    assert not any(isinstance(one, Rebirth | Refuse | Count) for _, one in found)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA"]),
            st.sampled_from(["", "a", "b"]),
            st.one_of(st.none(), st.integers(0, 255)),
            st.one_of(st.none(), st.integers(0, 5)),
            st.one_of(st.none(), st.integers(0, 2)),
            st.lists(
                st.tuples(
                    st.sampled_from(["", "x"]),
                    st.one_of(st.none(), st.integers(0, 3)),
                    st.integers(0, 3),
                ),
                max_size=3,
            ),
            st.floats(0, 40),
        ),
        max_size=40,
    )
)
def test_no_history_however_mad_loses_or_doubles_a_message(
    history: list[
        tuple[
            str, str, int | None, int | None, int | None, list[tuple[str, int | None, int]], float
        ]
    ],
) -> None:
    node = EdgeNode()
    now, arrivals, effects = 0.0, [], []
    for kind, device, seq, at, bd, metrics, pause in history:
        now += pause
        arrival = Arrival(kind, device, seq, at, bd, [Metric(*one) for one in metrics], 1)
        arrivals.append(arrival)
        effects += node.tick(now) + node.on(arrival, now)
    for _ in range(10):
        now += 31
        effects += node.tick(now)
    ended = Counter(id(one.arrival) for one in effects if isinstance(one, Keep | Refuse))
    assert max(ended.values(), default=1) == 1
    assert all(ended[id(one)] == 1 for one in arrivals if not one.kind.endswith("DEATH"))
    assert node.waiting == 0
    assert node.idle(now) is not node.born
