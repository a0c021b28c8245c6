"""The two sides of `bench sync` do the same work."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from bench import handwritten, machine, source, sync
from bench.outcome import FIELDS, Outcome, digest
from hub.mapping import Library, Mapping, load_mapping
from hub.sdk.loading import load_yaml
from tests.project.files import ROOT

MAPPINGS = sync.DEPLOYMENT / "mappings"


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    path = MAPPINGS / "flows" / "bench_sync.yaml"
    return load_mapping(load_yaml(path)["mapping"], where=str(path), library=Library([MAPPINGS]))


def as_stored(mapped: Any) -> dict[str, Any]:
    """A mapped record as the hub's store gives it back."""
    text = msgspec.json.Encoder(decimal_format="string").encode(mapped)
    stored: dict[str, Any] = msgspec.json.decode(text)
    return stored


def test_the_flow_maps_every_field_as_the_hand_written_program_does(mapping: Mapping) -> None:
    pick = random.Random(7)
    for number in range(400):
        body = json.dumps(source.record(number, pick))
        by_hand = handwritten.mapped(json.loads(body, parse_float=Decimal))
        answer = mapping.apply(msgspec.json.Decoder(float_hook=Decimal).decode(body), {})
        assert answer.outcome == "ok", answer.problems
        by_hub = as_stored(answer.data)
        by_hand_named = dict(zip(FIELDS, by_hand, strict=True))
        assert {name: by_hub[name] for name in FIELDS} == by_hand_named
        assert digest([by_hub]) == digest([by_hand_named])


def test_the_tests_inside_the_bench_flow_pass(mapping: Mapping) -> None:
    assert list(mapping.run_tests()) == []


def test_the_digest_sees_one_changed_value_and_no_order() -> None:
    one, two = ({name: f"{name}{n}" for name in FIELDS} for n in range(2))
    assert digest([one, two]) == digest([two, one])
    assert digest([one, two]) != digest([one, {**two, "summary": "other"}])
    assert digest([{**one, "closed": True}]) == digest([{**one, "closed": 1}])


def test_the_hand_written_program_syncs_all_pages_twice_without_doubling(tmp_path: Path) -> None:
    database = handwritten.open_table(tmp_path / "hand.db")
    with sync.source(2500) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert handwritten.sync(client, database) == 2500
            assert database.execute("SELECT count(*) FROM item").fetchone() == (2500,)
    database.close()


def test_the_source_gives_an_empty_page_behind_the_last() -> None:
    with sync.source(1001) as url, httpx.Client(base_url=url) as client:
        sizes = [
            len(client.get("/items", params={"page": page}).json()["items"]) for page in (1, 2, 3)
        ]
    assert sizes == [1000, 1, 0]


def outcome(side: str, **changed: Any) -> Outcome:
    plain = {"side": side, "records": 10, "rows": 10, "cpu_seconds": 1.0, "wall_seconds": 1.0}
    plain |= {"startup_cpu_seconds": 0.1, "startup_wall_seconds": 0.1, "peak_mb": 50.0}
    return Outcome(**{**plain, "written": None, "digest": "same", **changed})


def judged(**second: Any) -> list[str]:
    sides = {side: outcome(side) for side in (sync.HAND, sync.FIRST)}
    unchanged = outcome(sync.SECOND, **{"written": 0, **second})
    return sync.differences([{**sides, sync.SECOND: unchanged}], 10)


def test_equal_sides_have_no_differences() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    "wrong", [{"digest": "other"}, {"rows": 9}, {"records": 9}, {"written": 1}]
)
def test_a_side_that_differs_is_named(wrong: dict[str, Any]) -> None:
    assert len(judged(**wrong)) == 1


def test_a_missed_target_is_seen() -> None:
    slow = {side: outcome(side, records=10) for side in (sync.HAND, sync.FIRST, sync.SECOND)}
    met = {one.name: one.met for one in sync.targets([slow])}
    assert met == {
        "records per CPU-second": False,
        "of the hand-written program": True,
        "unchanged run, times the first": False,
        "peak memory, MB": True,
    }


def test_machine_facts_hold_no_name_of_the_machine_and_no_path() -> None:
    import platform

    facts = json.dumps(machine.facts())
    assert str(ROOT) not in facts
    assert platform.node() not in facts or len(platform.node()) < 4


def test_an_unknown_measurement_is_wrong_usage_with_a_hint() -> None:
    command = [sys.executable, "-m", "bench", "snyc"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean sync?" in done.stderr
