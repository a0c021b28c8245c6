"""The referee of the kill loop sees what is wrong, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.killing.journal import Journal, lines_of
from bench.killing.referee import Verdict, judge
from tests.project.files import ROOT


class Story:
    """A journal told in short words: rows and events of ticket K, versions v1, v2, …"""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)

    def row(self, content: str, key: str = "K") -> Story:
        self.journal.row("ticket", key, content)
        return self

    def sent(self, content: str, *, thanked: bool = True) -> Story:
        self.journal.sending("ticket", "K", content, f"event {content}")
        if thanked:
            self.journal.thanked(f"event {content}", 0.0)
        return self

    def done(self, content: str, target_id: str = "T1", key: str = "K") -> Story:
        self.journal.effect("ticket", key, content, target_id)
        return self

    def verdict(self) -> Verdict:
        return judge(lines_of(self.journal.path))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "journal.jsonl")


def found(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "doubled", "out_of_order", "invented")
    return {name: n for name in names if (n := getattr(verdict, name))}


def test_every_version_done_once_in_order_is_clean(story: Story) -> None:
    verdict = story.sent("v1").done("v1").sent("v2").done("v2").verdict()
    assert verdict.clean
    assert (verdict.events, verdict.effects, verdict.superseded) == (2, 2, 0)


def test_an_event_that_was_thanked_for_and_never_done_is_lost(story: Story) -> None:
    verdict = story.sent("v1").done("v1").sent("v2").verdict()
    assert found(verdict) == {"lost": 1}
    assert "owed 'v2', the target holds 'v1'" in verdict.wrong[0]


def test_a_row_that_the_target_never_got_is_lost(story: Story) -> None:
    assert found(story.row("v1").verdict()) == {"lost": 1}


def test_an_event_nobody_was_thanked_for_is_not_owed_but_may_be_done(story: Story) -> None:
    story.sent("v1").done("v1").sent("v2", thanked=False)
    assert story.verdict().clean
    assert story.done("v2").verdict().clean


def test_a_version_that_took_effect_twice_is_doubled(story: Story) -> None:
    assert found(story.sent("v1").done("v1").done("v1").verdict()) == {"doubled": 1}


def test_two_objects_for_one_key_are_doubled(story: Story) -> None:
    story.sent("v1").done("v1", "T1").sent("v2").done("v2", "T2")
    assert found(story.verdict()) == {"doubled": 1}


def test_an_older_version_after_a_newer_one_is_out_of_order_and_loses_the_newer(
    story: Story,
) -> None:
    story.sent("v1").sent("v2").done("v2").done("v1")
    assert found(story.verdict()) == {"lost": 1, "out_of_order": 1}


def test_content_that_nobody_sent_is_invented(story: Story) -> None:
    assert found(story.sent("v1").done("v1").done("v9").verdict()) == {"invented": 1}


def test_an_effect_before_the_first_sending_is_invented(story: Story) -> None:
    assert found(story.done("v1").sent("v1").done("v1").verdict()) == {"invented": 1}


def test_a_version_overtaken_inside_the_hub_is_superseded_not_lost(story: Story) -> None:
    verdict = story.sent("v1").sent("v2").sent("v3").done("v3").verdict()
    assert verdict.clean
    assert verdict.superseded == 2


def test_keys_do_not_stand_in_for_each_other(story: Story) -> None:
    story.row("v1", "A").row("v1", "B").done("v1", "T1", "A")
    assert found(story.verdict()) == {"lost": 1}


def test_a_line_that_is_still_being_written_is_not_read(story: Story) -> None:
    story.sent("v1").done("v1")
    with story.journal.path.open("ab") as file:
        file.write(b'{"what": "effect", "sink": "tic')
    assert story.verdict().clean


@pytest.mark.parametrize(("lost", "code"), [(False, 0), (True, 1)])
def test_the_process_says_its_verdict_in_json_and_in_its_exit_code(
    story: Story, lost: bool, code: int
) -> None:
    story.sent("v1")
    if not lost:
        story.done("v1")
    command = [sys.executable, "-m", "bench.killing.referee", str(story.journal.path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert (done.returncode, said["clean"], said["lost"]) == (code, not lost, int(lost))


def test_a_journal_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.killing.referee", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
