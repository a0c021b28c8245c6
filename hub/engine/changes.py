"""Noticing that somebody edited the files of a deployment."""

from __future__ import annotations

from pathlib import Path

from hub.engine.deployment import CONNECTIONS_FILE, Deployment

Fingerprint = frozenset[tuple[str, int, int]]


def fingerprint(deployment: Deployment) -> Fingerprint:
    """The same as long as no connection, connector, flow or lookup table changes."""
    folder = deployment.folder
    paths = [folder / CONNECTIONS_FILE]
    for place in (folder / "connectors", *deployment.mapping_folders):
        paths += place.rglob("*.yaml")
    return frozenset(filter(None, map(_mark, paths)))


def _mark(path: Path) -> tuple[str, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size
