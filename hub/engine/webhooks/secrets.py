"""The signing secrets of a subscription: kept encrypted, two of them while one is replaced."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from hub.sdk.errors import ConfigError
from hub.sdk.standard_webhooks import new_secret
from hub.store.secrets import Vault, forget_secret
from hub.store.subscriptions import Subscription, change_subscription, secret_place

_NOW, _OLD = "secret", "old_secret"


def signing_secrets(
    connection: Connection, vault: Vault, mine: Subscription, now_ms: int
) -> tuple[str, ...]:
    """The secrets to sign with, the newest first. Raises ConfigError when there is none."""
    place = secret_place(mine.id)
    newest = vault.get(connection, place, _NOW)
    if newest is None:
        raise ConfigError("subscription.no_secret", id=mine.id)
    if mine.old_secret_until is None or mine.old_secret_until <= now_ms:
        return (newest,)
    old = vault.get(connection, place, _OLD)
    return (newest,) if old is None else (newest, old)


def first_secret(connection: Connection, vault: Vault, subscription_id: str, now_ms: int) -> str:
    """A new secret for a new subscription."""
    made = new_secret()
    vault.put(connection, secret_place(subscription_id), _NOW, made, now_ms)
    return made


def rotate_secret(
    connection: Connection, vault: Vault, mine: Subscription, keep_ms: int, now_ms: int
) -> str:
    """A new secret; the present one signs beside it for `keep_ms` more."""
    place = secret_place(mine.id)
    try:
        present = vault.get(connection, place, _NOW)
    except ConfigError:  # sealed by a master key that is no more: a new secret is the way out
        present = None
    made = new_secret()
    until = None if present is None else now_ms + keep_ms
    if present is not None:
        vault.put(connection, place, _OLD, present, now_ms)
    vault.put(connection, place, _NOW, made, now_ms)
    change_subscription(connection, mine.id, old_secret_until=until, updated_at=now_ms)
    return made


def forget_old_secret(connection: Connection, mine: Subscription) -> None:
    """The secret before the present one is of no more use."""
    forget_secret(connection, secret_place(mine.id), _OLD)
    change_subscription(connection, mine.id, old_secret_until=None)
