"""Credentials can be checked but never read back."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.sdk.telemetry import Sender
from hub.store.database import Store
from hub.store.tables.telemetry import credential
from hub.store.telemetry.credentials import (
    add_certificate,
    add_password,
    add_token,
    find_certificate,
    find_password,
    find_token,
    list_credentials,
    new_token,
    revoke,
    token_lookup,
    verify_password,
)

PUMP = Sender("iot", "pump-7")
GATEWAY = Sender("iot", "gateway-1", gateway=True)


def test_a_token_leads_to_its_sender_until_it_is_revoked(store: Store) -> None:
    token = new_token()
    with store.transaction() as connection:
        mine = add_token(connection, token, GATEWAY, 1)
        add_token(connection, new_token(), PUMP, 1)
        assert find_token(connection, token_lookup(token)) == GATEWAY
        assert find_token(connection, token_lookup(token + "x")) is None
        assert revoke(connection, mine, 2)
        assert not revoke(connection, mine, 3)
        assert find_token(connection, token_lookup(token)) is None
        (shown,) = list_credentials(connection, device="gateway-1")
    assert (shown.sender, shown.name, shown.revoked_at) == (GATEWAY, "", 2)


def test_a_password_is_verified_and_may_be_replaced_after_its_end(store: Store) -> None:
    with store.transaction() as connection:
        first = add_password(connection, "plant", "correct horse", PUMP, 1)
        account = find_password(connection, "plant")
        assert account is not None
        assert account.sender == PUMP
        assert verify_password("correct horse", account.verifier)
        assert not verify_password("correct house", account.verifier)
        revoke(connection, first, 2)
        add_password(connection, "plant", "battery staple", GATEWAY, 3)
        found = find_password(connection, "plant")
    assert found is not None
    assert verify_password("battery staple", found.verifier)


def test_a_certificate_is_found_however_its_fingerprint_is_written(store: Store) -> None:
    with store.transaction() as connection:
        add_certificate(connection, "AB:CD:EF", PUMP, 1)
        assert find_certificate(connection, "abcdef") == PUMP
        assert find_certificate(connection, "abcde") is None


def test_a_credential_in_use_is_not_given_to_another(store: Store) -> None:
    with store.transaction() as connection:
        add_password(connection, "plant", "one", PUMP, 1)
        with pytest.raises(ConfigError, match="plant"):
            add_password(connection, "plant", "two", GATEWAY, 2)
        assert len(list_credentials(connection)) == 1


def test_nothing_that_is_kept_gives_a_secret_away(store: Store) -> None:
    token = new_token()
    with store.transaction() as connection:
        add_token(connection, token, PUMP, 1)
        add_password(connection, "plant", "correct horse", PUMP, 1)
        kept = repr(connection.execute(sa.select(credential)).all())
    assert token not in kept
    assert "correct" not in kept


@pytest.mark.parametrize("name", ["\0", "\ud800", "x" * 100_000, "", "' OR 1=1 --"])
def test_any_name_of_a_stranger_is_simply_unknown(store: Store, name: str) -> None:
    with store.reading() as connection:
        assert find_password(connection, name) is None
        assert find_token(connection, token_lookup(name)) is None


@pytest.mark.parametrize("verifier", ["", "plain", "scrypt$x$8$1$AA==$AA==", "scrypt$4$8$1$!$!"])
def test_a_broken_verifier_admits_nobody(verifier: str) -> None:
    assert not verify_password("", verifier)
