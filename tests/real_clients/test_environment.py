"""Making the environments of real clients."""

from __future__ import annotations

import pytest

from tests.real_clients import environment
from tests.real_clients.environment import client_environment, run_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_client_sees_its_packages_and_nothing_of_this_project() -> None:
    python = client_environment("six", "six==1.17.0")
    script = """
import importlib.util, six, sys
print(six.__version__, importlib.util.find_spec("hub"), importlib.util.find_spec("pytest"))
"""
    assert run_client(python, script).split() == ["1.17.0", "None", "None"]


def test_what_cannot_be_installed_skips_with_the_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"no environment for nobody: .+"):
        client_environment("nobody", "six==0.0.999", seconds=60)


def test_where_real_clients_are_asked_for_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TEST_REQUIRE", "real_clients")
    monkeypatch.setattr(environment, "_outcome", lambda *_: environment.NotMade("no network"))
    with pytest.raises(pytest.fail.Exception, match="no network"):
        client_environment("nobody", "six==0.0.999")
