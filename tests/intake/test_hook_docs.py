"""What docs/hooks.md shows is what the hub takes and says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hub.engine.deployment import HookSettings
from hub.engine.hub import open_hub
from hub.sdk.hooks import hook_of
from hub.sdk.messages import templates
from tests.intake.rig import Desk

PAGE = (Path(__file__).resolve().parents[2] / "docs/hooks.md").read_text(encoding="utf-8")


def test_the_hook_of_the_page_is_a_hook(plain: Desk) -> None:
    found = re.search(r"```yaml hook\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (plain.folder / "connections.yaml").write_text(found[1], encoding="utf-8")
    with open_hub(plain.folder) as hub:
        entry = yaml.safe_load(found[1])["desk"]
        entry["config"] |= {"hook_secret": f"file:{plain.folder}/desk.secret"}
        entry["config"].pop("old_hook_secret")
        hub.deployment.connections["desk"] = entry
        assert list(hook_of(hub.connection("desk")).events) == ["ticket"]


def test_the_codes_of_the_page_exist() -> None:
    codes = set(re.findall(r"`((?:intake|hook|http)\.[a-z_]+)`", PAGE))
    assert len(codes) > 8
    assert codes <= templates("en").keys()


def test_the_days_of_the_page_are_the_defaults() -> None:
    settings = HookSettings()
    assert f"keep_bodies_days = {settings.keep_bodies_days}" in PAGE
    assert f"keep_ids_days = {settings.keep_ids_days}" in PAGE
