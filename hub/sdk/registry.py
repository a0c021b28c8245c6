"""Finding connectors without importing their code."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import suggestion
from hub.sdk.manifest import Manifest, read_manifest

GROUP = "hub.connectors"


@dataclass(frozen=True, slots=True)
class Connector:
    """One connector: its manifest and where its code lies. `package` is None in a deployment."""

    name: str
    manifest: Manifest
    folder: Path
    package: str | None = None

    def hook(self, name: str) -> Callable[..., Any]:
        """The function `hooks.NAME` of the connector; its code is imported now, not before."""
        function_name = name.removeprefix("hooks.")
        module = self._hooks()
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [n for n in vars(module) if not n.startswith("_")]
            raise ConfigError(
                "connector.no_hook",
                connector=self.name,
                hook=function_name,
                hint=suggestion(function_name, known),
            )
        hook: Callable[..., Any] = function
        return hook

    def telemetry_code(self, name: str) -> Any:
        """`MODULE.NAME` of the connector's package, imported now. Raises ConfigError."""
        module_name, _, attribute = name.rpartition(".")
        try:
            if self.package is None:
                raise ConfigError("connector.not_a_package", connector=self.name, name=name)
            return getattr(importlib.import_module(f"{self.package}.{module_name}"), attribute)
        except HubError:
            raise
        except Exception as error:
            raise ConfigError(
                "connector.broken_code", connector=self.name, folder=self.folder, problem=error
            ) from error

    def _hooks(self) -> ModuleType:
        try:
            if self.package is not None:
                return importlib.import_module(f"{self.package}.hooks")
            return _load(f"_hub_connector_{self.name}_hooks", self.folder / "hooks.py")
        except HubError:
            raise
        except Exception as error:
            raise ConfigError(
                "connector.broken_code", connector=self.name, folder=self.folder, problem=error
            ) from error


@dataclass(frozen=True, slots=True)
class Discovery:
    """All connectors found, and those that cannot be used with the reason."""

    connectors: dict[str, Connector] = field(default_factory=dict)
    broken: dict[str, HubError] = field(default_factory=dict)

    def get(self, name: str) -> Connector:
        """The connector `name`. Raises its own error when broken, ConfigError when unknown."""
        if name in self.connectors:
            return self.connectors[name]
        if name in self.broken:
            raise self.broken[name]
        known = [*self.connectors, *self.broken]
        raise ConfigError("connector.unknown", connector=name, hint=suggestion(name, known))


def discover(extra: Path | None = None) -> Discovery:
    """Installed connectors (entry points) and those in `extra/NAME/connector.yaml`.

    A folder of the deployment replaces an installed connector of the same name.
    """
    found = Discovery()
    for name, folder, package in [*_installed(found), *_deployed(extra)]:
        try:
            connector = _connector(name, folder, package)
        except (HubError, ValueError, OSError, RecursionError) as error:
            found.broken[name] = _as_hub_error(error, name, folder)
            found.connectors.pop(name, None)
        else:
            found.connectors[name] = connector
            found.broken.pop(name, None)
    return found


def _as_hub_error(error: Exception, name: str, folder: Path) -> HubError:
    if isinstance(error, HubError):
        return error
    problem = type(error).__name__
    return ConfigError("connector.unreadable", connector=name, folder=folder, problem=problem)


def _connector(name: str, folder: Path, package: str | None) -> Connector:
    manifest = read_manifest(folder)
    if manifest.connector != name:
        raise ConfigError(
            "connector.wrong_name", folder=folder, declared=manifest.connector, name=name
        )
    return Connector(name, manifest, folder, package)


def _installed(found: Discovery) -> Iterator[tuple[str, Path, str | None]]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        folder = _folder_of(entry)
        if folder is None:
            found.broken[entry.name] = ConfigError(
                "connector.no_package", connector=entry.name, package=entry.value
            )
        else:
            yield entry.name, folder, entry.value


def _folder_of(entry: EntryPoint) -> Path | None:
    """Where the package lies; `find_spec` of a dotted name would import its parents."""
    parts = entry.value.split(".")
    path: list[str] | None = None
    for depth in range(len(parts)):
        try:
            spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: depth + 1]), path)
            if spec is None and depth == 0:
                spec = importlib.util.find_spec(parts[0])
        except (ImportError, ValueError):
            return None
        if spec is None or not spec.submodule_search_locations:
            return None
        path = list(spec.submodule_search_locations)
    return Path(path[0]) if path else None


def _deployed(extra: Path | None) -> Iterator[tuple[str, Path, str | None]]:
    if extra is None or not extra.is_dir():
        return
    for manifest in sorted(extra.glob("*/connector.yaml")):
        yield manifest.parent.name, manifest.parent, None


def _load(name: str, path: Path) -> ModuleType:
    """The module at `path`, imported once per process."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError("yaml.missing", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
