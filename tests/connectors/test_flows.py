"""The flows that ship with the hub fit the connectors that ship with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.engine.flows import load_flow
from hub.mapping import Library
from hub.sdk.registry import discover

MAPPINGS = Path(__file__).parent.parent.parent / "mappings"
FLOWS = sorted((MAPPINGS / "flows").iterdir())


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_a_flow_passes_its_own_tests(path: Path) -> None:
    flow = load_flow(path, Library([MAPPINGS]))
    assert len(flow.mapping._tests) >= 3
    assert [failure.message() for failure in flow.mapping.run_tests()] == []


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_a_flow_reads_and_writes_what_the_connectors_declare(path: Path) -> None:
    flow = load_flow(path, Library([MAPPINGS]))
    found = discover()
    source = found.get(flow.source.connection).manifest
    target = found.get(str(flow.target.connection)).manifest
    assert flow.source.stream in source.streams
    sink = target.sinks[str(flow.target.sink)]
    assert flow.target.delete == "ignore" or getattr(sink, flow.target.delete) is not None


def test_links_point_to_entities_that_a_flow_writes() -> None:
    flows = [load_flow(path, Library([MAPPINGS])) for path in FLOWS]
    written = {flow.target.sink for flow in flows}
    for flow in flows:
        row = {"custcode": "C1", "entry": []}
        assert {entity for entity, _ in flow.mapping.references(row)} <= written
