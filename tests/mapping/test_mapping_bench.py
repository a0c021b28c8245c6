"""The benchmark compares equal work; its figures are not judged here."""

from __future__ import annotations

import json

import pytest

from bench import mapping as bench


def test_the_compiled_mapping_and_the_one_by_hand_give_the_same_records(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.main(["--rows", "60", "--rounds", "3", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["fields"] == 12
    assert result["ratio"] > 0
