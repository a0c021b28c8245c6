"""Secrets kept in the store: AES-256-GCM, one data key per secret, wrapped by the master key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.sdk.errors import ConfigError
from hub.store.tables import secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# `cryptography` costs 6 MB of memory; it is imported only where a secret is sealed or opened.

_NONCE = 12


class Vault:
    """Seals and opens secrets; a row moved to another place does not open."""

    def __init__(self, master_key: bytes) -> None:
        self._master = _cipher(master_key)
        self._key_id = hashlib.sha256(b"hub key id" + master_key).hexdigest()[:16]

    def put(
        self, connection: Connection, connection_id: str, field: str, value: str, now_ms: int
    ) -> None:
        """Keep a secret, replacing an older one."""
        identity = _identity(connection_id, field)
        data_key = os.urandom(32)
        this = _row(connection_id, field)
        connection.execute(secret.delete().where(this))
        connection.execute(
            secret.insert().values(
                connection_id=connection_id,
                field_name=field,
                key_id=self._key_id,
                wrapped_key=_seal(self._master, data_key, identity),
                sealed=_seal(_cipher(data_key), value.encode(), identity),
                updated_at=now_ms,
            )
        )

    def get(self, connection: Connection, connection_id: str, field: str) -> str | None:
        """The secret, or None when it was never set. Raises ConfigError when it does not open."""
        statement = sa.select(secret).where(_row(connection_id, field))
        row = connection.execute(statement).first()
        if row is None:
            return None
        from cryptography.exceptions import InvalidTag

        identity = _identity(connection_id, field)
        try:
            data_key = _open(self._master, row.wrapped_key, identity)
            return _open(_cipher(data_key), row.sealed, identity).decode()
        except InvalidTag as error:
            raise ConfigError("secret.unreadable", connection=connection_id, field=field) from error


def has_secret(connection: Connection, connection_id: str, field: str) -> bool:
    """Whether the secret was ever set; needs no key."""
    statement = sa.select(secret.c.key_id).where(_row(connection_id, field))
    return connection.execute(statement).first() is not None


def secrets_changed_at(connection: Connection) -> dict[str, int]:
    """When a secret of each connection was last set, in milliseconds; needs no key."""
    newest = sa.func.max(secret.c.updated_at)
    found = connection.execute(
        sa.select(secret.c.connection_id, newest).group_by(secret.c.connection_id)
    )
    return {name: int(at) for name, at in found}


def forget_secret(connection: Connection, connection_id: str, field: str) -> None:
    """Delete a secret that is of no more use; needs no key."""
    connection.execute(secret.delete().where(_row(connection_id, field)))


def load_master_key(path: Path) -> bytes:
    """The 32-byte master key from `HUB_MASTER_KEY` (hex) or the deployment's key file (hex)."""
    try:
        text = os.environ.get("HUB_MASTER_KEY") or path.read_text(encoding="ascii")
        key = bytes.fromhex(text.strip())
    except (OSError, ValueError) as error:
        raise ConfigError("secret.master_key", file=path) from error
    if len(key) != 32:
        raise ConfigError("secret.master_key", file=path)
    return key


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _seal(cipher: AESGCM, plain: bytes, identity: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plain, identity)


def _open(cipher: AESGCM, sealed: bytes, identity: bytes) -> bytes:
    return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], identity)


def _identity(connection_id: str, field: str) -> bytes:
    return f"{connection_id}\x1f{field}".encode()


def _row(connection_id: str, field: str) -> sa.ColumnElement[bool]:
    return sa.and_(secret.c.connection_id == connection_id, secret.c.field_name == field)
