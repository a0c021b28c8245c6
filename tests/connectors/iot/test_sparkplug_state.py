from __future__ import annotations

import json
from collections import Counter

from connectors.iot.sparkplug.births import Known, Metric
from connectors.iot.sparkplug.state import (
    HELD_MESSAGES,
    Arrival,
    Count,
    EdgeNode,
    Effect,
    Keep,
    Rebirth,
    Refuse,
    Save,
)


def nbirth(seq: int = 0, bd_seq: int = 1, at: int = 1000, **aliases: int) -> Arrival:
    metrics = [Metric(name, alias, 10) for name, alias in aliases.items()]
    return Arrival("NBIRTH", seq=seq, bd_seq=bd_seq, timestamp=at, metrics=metrics)


def dbirth(seq: int, device: str = "p", at: int = 1000, **aliases: int) -> Arrival:
    metrics = [Metric(name, alias, 10) for name, alias in aliases.items()]
    return Arrival("DBIRTH", device, seq=seq, timestamp=at, metrics=metrics)


def data(seq: int, *aliases: int, device: str = "", at: int = 2000) -> Arrival:
    kind = "DDATA" if device else "NDATA"
    return Arrival(kind, device, seq, at, metrics=[Metric("", one) for one in aliases])


def kept(effects: list[Effect]) -> list[Arrival]:
    return [one.arrival for one in effects if isinstance(one, Keep)]


def names(effects: list[Effect]) -> list[str]:
    return [known.name for one in effects if isinstance(one, Keep) for known in one.known]


def counts(effects: list[Effect]) -> Counter[str]:
    return Counter(one.outcome for one in effects if isinstance(one, Count))


def asked(effects: list[Effect]) -> int:
    return sum(isinstance(one, Rebirth) for one in effects)


def test_data_is_named_by_the_birth() -> None:
    node = EdgeNode()
    assert kept(node.on(nbirth(t=1, p=2), 0))
    effects = node.on(data(1, 2, 1), 0)
    assert effects == [Keep(effects[0].arrival, (Known("p", 10), Known("t", 10)))]  # type: ignore[union-attr]


def test_a_datatype_of_its_own_and_a_name_of_its_own_are_left_alone() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    metrics = [Metric("", 1, 9), Metric("t", None), Metric("new", None, 3), Metric("t", 77)]
    (effect,) = node.on(Arrival("NDATA", seq=1, metrics=metrics), 0)
    assert isinstance(effect, Keep)
    assert effect.known == (("t", 9), ("t", 10), ("new", 3), ("t", 10))


def test_a_device_uses_its_own_aliases_first_and_the_nodes_next() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1, n=5), 0)
    node.on(dbirth(1, "a", t_a=1), 0)
    node.on(dbirth(2, "b", t_b=1), 0)
    assert names(node.on(data(3, 1, 5, device="b"), 0)) == ["t_b", "n"]
    assert names(node.on(data(4, 1, device="a"), 0)) == ["t_a"]
    assert names(node.on(data(5, 1), 0)) == ["t"]


def test_messages_out_of_order_are_put_in_order() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    third, second, first = data(3, 1), data(2, 1), data(1, 1)
    assert node.on(third, 0.1) == []
    assert node.on(second, 0.2) == []
    assert kept(node.on(first, 0.3)) == [first, second, third]
    assert node.tick(10) == []


def test_a_gap_that_stays_is_counted_and_a_rebirth_asked_for() -> None:
    node = EdgeNode(reorder=2)
    node.on(nbirth(t=1), 0)
    later = [data(3, 1), data(4, 1)]
    assert node.on(later[0], 1) == []
    assert node.on(later[1], 2) == []
    assert node.tick(2.9) == []
    effects = node.tick(3.0)
    assert kept(effects) == later
    assert counts(effects) == {"seq_gap": 1, "rebirth_asked": 1}
    assert asked(effects) == 1
    assert kept(node.on(data(5, 1), 4)), "it goes on after the gap"
    late = node.on(data(2, 1), 5)
    assert len(kept(late)) == 1, "what was missing is kept when it comes late"
    assert kept(node.on(data(6, 1), 5)), "and the sequence stands"


def test_the_sequence_wraps() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    for number in range(1, 600):
        assert len(kept(node.on(data(number % 256, 1), 0))) == 1
    assert node.tick(100) == []


def test_data_before_birth_is_held_until_the_birth() -> None:
    node = EdgeNode()
    early = [data(7, 1), data(8, 1)]
    effects = node.on(early[0], 0) + node.on(early[1], 0)
    assert (kept(effects), asked(effects)) == ([], 1)
    effects = node.on(nbirth(t=1, at=3000), 1)
    assert kept(effects)[1:] == early
    assert names(effects) == ["t", "t", "t"]


def test_data_of_a_device_waits_for_the_device() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    early = data(1, 9, device="p")
    assert asked(node.on(early, 0)) == 1
    assert kept(node.on(nbirth(t=1, at=2500), 1))[1:] == []
    assert early in kept(node.on(dbirth(1, "p", x=9, at=2500), 1))


def test_an_alias_that_no_birth_named_is_held_and_a_rebirth_asked_for() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    strange = data(1, 99)
    effects = node.on(strange, 1)
    assert (kept(effects), asked(effects)) == ([], 1)
    assert len(kept(node.on(data(2, 1), 1))) == 1, "those behind it do not wait"
    effects = node.on(nbirth(t=1, x=99, at=2500), 2)
    assert kept(effects)[1:] == [strange]
    assert names(effects)[-1] == "x"


def test_nothing_explains_it_for_a_minute_then_it_is_refused() -> None:
    node = EdgeNode()
    lost = data(7, 1)
    node.on(lost, 0)
    assert not any(isinstance(one, Refuse) for one in node.tick(59))
    (refused, counted) = [one for one in node.tick(61) if not isinstance(one, Rebirth)][:2]
    assert isinstance(refused, Refuse)
    assert refused.arrival is lost
    assert counted == Count("no_birth")


def test_at_most_a_thousand_messages_are_held() -> None:
    node = EdgeNode()
    effects = [one for number in range(HELD_MESSAGES + 5) for one in node.on(data(0, 1), 0)]
    assert sum(isinstance(one, Refuse) for one in effects) == 5
    assert node.waiting == HELD_MESSAGES


def test_held_messages_are_bounded_by_size_too() -> None:
    node = EdgeNode()
    for _ in range(50):
        node.on(Arrival("NDATA", seq=1, metrics=[Metric("", 1)], size=1_000_000), 0)
    assert node.waiting <= 16


def test_a_rebirth_is_asked_for_once_in_thirty_seconds() -> None:
    node = EdgeNode()
    times = []
    for tenth in range(700):
        now = tenth / 10
        effects = node.on(data(0, 1), now) + node.tick(now)
        times += [now] * asked(effects)
    assert times == [0.0, 30.0, 60.0]


def test_without_commands_nothing_is_asked() -> None:
    node = EdgeNode(commands=False)
    assert asked(node.on(data(0, 1), 0) + node.tick(50) + node.tick(100)) == 0


def test_a_death_of_another_life_is_ignored() -> None:
    node = EdgeNode()
    node.on(nbirth(bd_seq=4, t=1), 0)
    assert node.on(Arrival("NDEATH", bd_seq=3), 0) == [Count("stale_death")]
    assert kept(node.on(data(1, 1), 0))
    node.on(dbirth(2, "p", x=3), 0)
    death = Arrival("NDEATH", bd_seq=4)
    assert node.on(death, 0) == [Keep(death, (), ("p",)), Save()]
    assert node.saved() is None
    assert node.on(death, 0) == [Count("stale_death")]


def test_after_a_death_data_waits_for_a_birth() -> None:
    node = EdgeNode()
    node.on(nbirth(t=1), 0)
    node.on(Arrival("NDEATH", bd_seq=1), 1)
    effects = node.on(data(1, 1), 2)
    assert (kept(effects), asked(effects)) == ([], 1)


def test_a_dead_device_takes_no_data_and_its_siblings_do() -> None:
    node = EdgeNode()
    node.on(nbirth(), 0)
    node.on(dbirth(1, "p", x=1), 0)
    node.on(dbirth(2, "q", y=2), 0)
    assert kept(node.on(Arrival("DDEATH", "p", 3, 3000), 0))
    assert not kept(node.on(data(4, 1, device="p"), 0))
    assert kept(node.on(data(5, 2, device="q"), 0))


def test_an_alias_that_means_something_else_after_a_rebirth() -> None:
    node = EdgeNode()
    node.on(nbirth(temperature=1, pressure=2), 0)
    assert names(node.on(data(1, 1), 0)) == ["temperature"]
    node.on(nbirth(at=3000, pressure=1, temperature=2), 0)
    assert names(node.on(data(1, 1, at=3001), 0)) == ["pressure"]


def test_what_waits_behind_a_gap_keeps_the_meaning_it_had() -> None:
    node = EdgeNode()
    node.on(nbirth(temperature=1), 0)
    old, new = data(5, 1, at=1500), data(6, 1, at=4000)
    node.on(old, 0)
    node.on(new, 0)
    effects = node.on(nbirth(at=3000, pressure=1), 0.5)
    effects += node.tick(5)
    said = {id(one.arrival): one.known[0].name for one in effects if isinstance(one, Keep)}
    assert (said[id(old)], said[id(new)]) == ("temperature", "pressure")


# --- over a restart ---


def restarted(node: EdgeNode, *, commands: bool) -> EdgeNode:
    again = EdgeNode(commands=commands)
    again.restore(json.loads(json.dumps(node.saved())))
    return again


def born() -> EdgeNode:
    node = EdgeNode()
    node.on(nbirth(bd_seq=7, t=1), 0)
    node.on(dbirth(1, "p", x=2), 0)
    return node


def test_without_commands_a_restarted_hub_goes_on_with_the_births_it_knows() -> None:
    node = restarted(born(), commands=False)
    node.lost_touch(0)
    assert names(node.on(data(100, 2, device="p"), 0)) == ["x"]
    assert names(node.on(data(101, 1), 0)) == ["t"]
    assert kept(node.on(Arrival("NDEATH", bd_seq=7), 0))


def test_a_restarted_hub_asks_for_births_and_waits_for_them() -> None:
    node = restarted(born(), commands=True)
    assert asked(node.lost_touch(0)) == 1
    early = data(100, 1)
    assert not kept(node.on(early, 0.1))
    effects = node.on(nbirth(at=5000, bd_seq=7, other=1), 0.2)
    assert early in kept(effects)
    assert names(effects) == ["other", "other"]


def test_when_no_birth_comes_the_old_ones_are_taken_for_true() -> None:
    node = restarted(born(), commands=True)
    node.lost_touch(0)
    early = [data(100, 1), data(101, 2, device="p")]
    for one in early:
        node.on(one, 1)
    effects = node.tick(61.5)
    assert kept(effects) == early
    assert names(effects) == ["t", "x"]
    assert not any(isinstance(one, Refuse) for one in effects)
    assert kept(node.on(data(102, 1), 62))


def test_a_death_in_doubt_shows_that_the_births_were_true() -> None:
    node = restarted(born(), commands=True)
    node.lost_touch(0)
    early = data(100, 1)
    node.on(early, 1)
    death = Arrival("NDEATH", bd_seq=7)
    assert kept(node.on(death, 2)) == [early, death]
