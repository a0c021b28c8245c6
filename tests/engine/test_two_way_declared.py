"""What is wrong with a two-way declaration is said in one line, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.engine.inspection import Inspection
from hub.sdk.messages import render
from hub.store.runs import RunState
from tests.engine.offices import BACK, FORTH, Office
from tests.engine.two_way_rig import Make

POLICY = ["two_way", "policy"]


def change(folder: Path, name: str, path: list[str], value: Any) -> None:
    """Set what stands at `path` in a flow file; None takes it out."""
    file = folder / "mappings" / "flows" / f"{name}.yaml"
    _set(file, path, value)


def _set(file: Path, path: list[str], value: Any) -> None:
    whole = place = yaml.safe_load(file.read_text(encoding="utf-8"))
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    if value is None:
        del place[path[-1]]
    file.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8")


def problems(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Inspection(folder).lint_flow(name)["problems"]
    return found


def test_a_sound_pair_has_no_problems(make: Make) -> None:
    folder = make().deployment.folder
    assert problems(folder, FORTH) == problems(folder, BACK) == []


WRONG: list[tuple[str, list[str], Any, str]] = [
    (FORTH, ["two_way", "polcy"], {}, "unknown key.*did you mean 'policy'"),
    (FORTH, [*POLICY, "owner"], "middle", "names middle, which is neither of the two connections"),
    (FORTH, [*POLICY, "owner"], "lef", "did you mean 'left'"),
    (FORTH, [*POLICY, "default"], "newest", "newest"),
    (FORTH, [*POLICY, "default"], "owner:crm", "names crm, which is neither"),
    (FORTH, [*POLICY, "fields"], {"fone": "max"}, "names fone, which neither direction maps"),
    (FORTH, [*POLICY, "fields"], {"phone": "latest"}, "latest needs two_way.clock of left"),
    (FORTH, [*POLICY, "fields"], {"phone": "human_wins"}, "human_wins needs two_way.human of left"),
    (FORTH, ["two_way", "clock"], {"left": {"path": "at", "zone": "Mars"}}, "zone Mars is not"),
    (FORTH, ["two_way", "with"], "right_to_lefd", "right_to_lefd.*did you mean"),
    (FORTH, ["two_way", "with"], FORTH, "names this flow itself"),
    (FORTH, POLICY, None, "0 of this flow and right_to_left declare"),
    (BACK, POLICY, {"owner": "left"}, "2 of this flow and"),
    (BACK, ["two_way"], None, "goes both ways with right_to_left, which does not say so"),
    (BACK, ["mapping", "group"], {"by": ["id"]}, "cannot go both ways"),
    (BACK, ["to", "connection"], "right", "the two must meet in one connection"),
]


@pytest.mark.parametrize(("flow", "path", "value", "words"), WRONG)
def test_what_does_not_fit_is_one_clear_line(
    make: Make, flow: str, path: list[str], value: Any, words: str
) -> None:
    folder = make().deployment.folder
    change(folder, flow, path, value)
    import re

    found = problems(folder, FORTH)
    assert re.search(words, found[0]["message"]), found
    assert "\n" not in found[0]["message"]
    assert re.search("[一-鿿]", render(found[0]["code"], found[0]["params"], "zh"))


@pytest.mark.parametrize("part", ["update", "show", "verify", "id"])
def test_a_sink_that_cannot_be_looked_at_or_changed_by_id_stops_both_directions(
    make: Make, left: Office, right: Office, part: str
) -> None:
    hub = make()
    folder = hub.deployment.folder
    _set(folder / "connections.yaml", ["right", "sinks", "thing", part], None)
    for name in (FORTH, BACK):
        (found,) = problems(folder, name)
        assert f"needs `{part}` in sink right/thing" in found["message"]
    hub.refresh()
    left.add(name="a")
    run = hub.run(FORTH)
    assert (run.state, run.error_code) == (RunState.FAILED, "two_way.sink")
    assert right.writes == 0


def test_a_list_that_is_not_the_one_of_the_sink_is_named(make: Make) -> None:
    folder = make().deployment.folder
    _set(folder / "connections.yaml", ["left", "streams", "thing", "key"], ["name"])
    (found,) = problems(folder, FORTH)
    assert found["code"] == "two_way.stream"


def test_what_was_wished_waits_while_the_partner_does_not_load(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a")
    run = hub.run(FORTH, deliver=False)
    back = hub.deployment.folder / "mappings" / "flows" / f"{BACK}.yaml"
    sound = back.read_text(encoding="utf-8")
    back.write_text("broken: [", encoding="utf-8")
    hub.refresh()
    hub.deliver(FORTH, rounds=2)
    assert right.writes == 0
    back.write_text(sound + "\n", encoding="utf-8")
    hub.refresh()
    hub.deliver(FORTH)
    assert (hub.look(run.id).state, right.writes) == (RunState.DONE, 1)


def test_a_partner_that_no_longer_loads_stops_the_flow_instead_of_letting_it_overwrite(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a")
    change(hub.deployment.folder, BACK, ["mapping", "fields"], {"ref": "id | nonsense"})
    hub.refresh()
    assert hub.run(FORTH).state == RunState.FAILED
    assert right.writes == 0
