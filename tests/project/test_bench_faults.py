"""`bench faults` names what it is told to name: a few cases end well, and a broken hub is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest

from bench import faults, machine
from bench.fault_cases import sources, targets
from bench.fault_cases.rows import GOOD, Row, Verdict
from hub.sdk import egress, pagers
from hub.store.runs import RunState
from tests.project.files import ROOT

SOURCES = {f"{case.name} ({case.source})": case for case in sources.SOURCE_CASES}
SINKS = {case.name: case for case in targets.SINK_CASES}


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("429 without Retry-After (rest)", Verdict.COMPLETE),
        ("200 + expired token (U8)", Verdict.COMPLETE),
        ("wrong total, ends with a page (rest)", Verdict.LOUD),
        ("bad row: a field is missing (U8)", Verdict.LOUD),
        ("gzip bomb (rest)", Verdict.LOUD),
    ],
)
def test_a_source_fault_ends_as_promised(name: str, verdict: Verdict) -> None:
    row = sources.try_source(SOURCES[name])
    assert row.verdict is verdict, row
    assert (row.expected, row.found, row.most_effects) == (450, 450, 1)
    assert bool(row.code) is (verdict is Verdict.LOUD)


def test_a_sink_fault_leaves_one_effect_or_a_question() -> None:
    rows = targets.try_sinks(SINKS["lost answer after commit"])
    assert [row.where for row in rows] == [kind.name for kind in targets.KINDS]
    assert [row.verdict for row in rows] == [*[Verdict.EXACTLY_ONCE] * 3, Verdict.REVIEW]


# --- a referee that cannot be fooled ----------------------------------------------------------


def test_a_pager_that_trusts_a_total_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagers._Stepping, "may_go_on", lambda *_: False)
    row = sources.try_source(SOURCES["wrong total, ends with a page (rest)"])
    assert (row.verdict, row.found) == (Verdict.LOST, 300)


def test_a_client_that_mixes_answers_up_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        egress.GuardedTransport, "handle_request", httpx.HTTPTransport.handle_request
    )
    rows = targets.try_sinks(SINKS["duplicate answer"])
    assert Verdict.INVENTED in {row.verdict for row in rows}


def test_a_fault_that_never_happens_is_no_success() -> None:
    case = SOURCES["503 (rest)"]
    row = sources.try_source(replace(case, do=lambda _: None))
    assert row.verdict is Verdict.NOT_TRIED


class _Book:
    """A target with these effects and duplicates."""

    def __init__(self, effects: dict[str, int], tries: int = 2, *, twice: bool = False) -> None:
        self._effects, self.tries, self.kind, self.crm = effects, tries, targets.KINDS[3], self
        self._twice = twice

    def effects(self) -> dict[str, int]:
        return self._effects

    def duplicates(self, name: str) -> list[str]:
        return ["A"] if self._twice else []


class _Run:
    def __init__(self, state: RunState = RunState.DONE) -> None:
        self.state = state


@pytest.mark.parametrize(
    ("book", "asked", "state", "verdict"),
    [
        (_Book({"A": 1, "B": 1}), set(), RunState.DONE, Verdict.EXACTLY_ONCE),
        (_Book({"A": 1}), {"B"}, RunState.DONE, Verdict.REVIEW),
        (_Book({"A": 1, "B": 1}), {"B"}, RunState.DONE, Verdict.REVIEW),
        (_Book({"A": 1}), set(), RunState.DONE, Verdict.LOST),
        (_Book({"A": 2, "B": 1}), {"A"}, RunState.DONE, Verdict.DOUBLED),
        (_Book({"A": 1, "B": 1}, twice=True), set(), RunState.DONE, Verdict.DOUBLED),
        (_Book({"A": 1, "B": 1, "C": 1}), set(), RunState.DONE, Verdict.INVENTED),
        (_Book({"A": 1, "B": 1}), set(), RunState.DELIVERING, Verdict.WRONG),
        (_Book({"A": 1, "B": 1}, tries=3), {"B"}, RunState.DONE, Verdict.WRONG),
    ],
)
def test_the_verdict_on_a_target(
    book: Any, asked: set[str], state: RunState, verdict: Verdict
) -> None:
    run: Any = _Run(state)
    assert targets._verdict(book, ["A", "B"], asked, run)[0] is verdict


def test_a_question_is_no_answer_where_the_target_can_tell() -> None:
    book: Any = _Book({"A": 1})
    book.kind = targets.KINDS[0]
    run: Any = _Run()
    assert targets._verdict(book, ["A", "B"], {"B"}, run)[0] is Verdict.WRONG


def test_one_bad_row_makes_the_whole_bad() -> None:
    row = Row("f", "w", Verdict.COMPLETE, 1, 1, 1, 1, 0.1)
    for verdict in Verdict:
        result = faults.judged([(0, [row]), (1, [replace(row, verdict=verdict)])], "sqlite", 1.0)
        assert result["good"] is (verdict in GOOD)
        assert len(result["bad"]) == int(verdict not in GOOD)


# --- the command ------------------------------------------------------------------------------


def test_names_of_cases_are_told_apart() -> None:
    assert len(SOURCES) == len(sources.SOURCE_CASES)
    assert len(SINKS) == len(targets.SINK_CASES)
    assert faults.chosen(None) == list(range(len(faults.cases())))
    assert len(faults.chosen("*KILL*")) == 3


def test_a_pattern_that_fits_nothing_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "bench", "faults", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench faults: no fault fits 'nothing'")


def test_the_kept_result_has_every_case_and_nothing_bad() -> None:
    kept = json.loads((machine.RESULTS / "faults.json").read_text(encoding="utf-8"))
    result = kept["result"]
    assert (result["good"], result["bad"]) == (True, [])
    named = {(row["fault"], row["where"]) for row in result["sources"]}
    assert named == {(case.name, case.source) for case in sources.SOURCE_CASES}
    named = {(row["fault"], row["where"]) for row in result["sinks"]}
    assert named == {(case.name, kind.name) for case in SINKS.values() for kind in targets.KINDS}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_every_fault_ends_as_promised(store: str) -> None:
    from rich.console import Console

    tried = faults.measure(faults.chosen(None), store, Console(quiet=True))
    assert faults.judged(tried, store, 0.0)["bad"] == []
