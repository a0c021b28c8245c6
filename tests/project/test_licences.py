"""Every package we install has a licence that fits ours."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest

from tests.project.files import pins

# Copyleft that reaches into a work that merely uses the package (GPL, AGPL) is never on this list.
ALLOWED = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|Unlicense|0BSD|Zlib)",
    re.IGNORECASE,
)
EXCEPTIONS = {  # dependency, used unmodified as a package of its own
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
}


def test_every_locked_package_has_a_licence_we_allow() -> None:
    refused = []
    for name, version in pins("requirements-dev.lock").items():
        try:
            licence = licence_of(distribution(name))
        except PackageNotFoundError:
            continue  # for another platform
        if not allowed(name, licence):
            refused.append(f"{name} {version}: {licence}")
    assert refused == []


def allowed(name: str, licence: str) -> bool:
    if name in EXCEPTIONS:
        return EXCEPTIONS[name] in licence or "Lesser General Public" in licence
    copyleft = re.search(r"\b[AL]?GPL|General Public", licence)
    choice = re.search(r"\bOR\b", licence)
    return bool(ALLOWED.search(licence)) and (not copyleft or bool(choice))


def licence_of(package: Distribution) -> str:
    """What the package says of itself: SPDX expression, else classifiers, else the free field."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    marks = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    return "; ".join(marks) or (metadata.get("License") or "nothing said").splitlines()[0]


@pytest.mark.parametrize(
    ("licence", "fits"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("MPL-2.0 AND MIT", True),
        ("MIT OR GPL-2.0-only", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("MIT AND LGPL-2.1-only", False),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("nothing said", False),
    ],
)
def test_licences_are_told_apart(licence: str, fits: bool) -> None:
    assert allowed("some-package", licence) is fits
