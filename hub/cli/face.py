"""What every command needs: the folder, the language, the hub behind it, and how to print."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from hub.engine.inspection import Inspection
    from hub.engine.operations import Operations

Row = Mapping[str, Any]

_WIDE = 240

FAILED, WRONG_USAGE = 1, 2


class Failed(Exception):
    """The command has said what is wrong; end with this exit code."""

    def __init__(self, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(exit_code)


class Face:
    """One command line's view of a deployment."""

    def __init__(self, folder: Path, language: str | None, actor: str | None = None) -> None:
        self.folder = folder
        self.actor = (actor or _login()).encode("utf-8", "replace").decode()
        self.chosen_language = language
        self._language = language

    # --- the hub ------------------------------------------------------------------------------

    @property
    def language(self) -> str:
        """The language asked for, else the deployment's, else English."""
        if self._language is None:
            self._language = self._deployment_language()
        return self._language

    def _deployment_language(self) -> str:
        from hub.engine.deployment import SETTINGS_FILE, open_deployment
        from hub.sdk.errors import HubError

        if not (self.folder / SETTINGS_FILE).is_file():
            return "en"
        try:
            return open_deployment(self.folder).settings.language
        except HubError:
            return "en"

    def inspection(self) -> Inspection:
        """The files of the deployment; the store stays closed."""
        from hub.engine.inspection import Inspection

        return Inspection(self.folder)

    @contextmanager
    def operations(self) -> Iterator[Operations]:
        """The hub in this process, or the `hub serve` that owns the store. Same answers."""
        from hub.engine.hub import open_hub
        from hub.engine.operations import LocalOperations
        from hub.sdk.errors import ConfigError

        with ExitStack() as stack:
            try:
                hub = stack.enter_context(open_hub(self.folder))
            except ConfigError as error:
                if error.code != "store.locked":
                    raise
                from hub.cli.remote import find_server

                server = find_server(self.folder)
                if server is None:
                    raise
                yield stack.enter_context(server)
                return
            yield LocalOperations(hub)

    # --- words --------------------------------------------------------------------------------

    def text(self, code: str, **params: object) -> str:
        """An operator-facing text in the language of this face."""
        from hub.sdk.messages import templates

        # Unlike the params of an error, these are ours: lines and backticks stay as they are.
        return templates(self.language)[code].format_map({k: str(v) for k, v in params.items()})

    def error_text(self, error: Row) -> str:
        """The line of an error that came as a dict, in the language of this face."""
        from hub.sdk.messages import render, templates

        if "params" in error and error["code"] in templates(self.language):
            return render(str(error["code"]), dict(error["params"]), self.language)
        return str(error.get("message") or error["code"])

    def say(self, text: str) -> None:
        """One line for the person at the terminal; standard output is for data."""
        typer.echo(_harmless(text), err=True)

    def complain(self, message: str) -> None:
        """One error line."""
        self.say(self.text("cli.error", message=one_line(message)))

    def fail(self, code: str, **params: object) -> Failed:
        """Print the error line; raise what comes back."""
        self.complain(self.text(code, **params))
        return Failed()

    def misuse(self, code: str, **params: object) -> Failed:
        """The same for a command line that makes no sense."""
        self.complain(self.text(code, **params))
        return Failed(WRONG_USAGE)

    # --- data ---------------------------------------------------------------------------------

    def print_json(self, data: object) -> None:
        """`data` alone on standard output."""
        import msgspec

        # Decimals as numbers: a payload is printed as it came.
        text = msgspec.json.Encoder(decimal_format="number").encode(data)
        sys.stdout.write(msgspec.json.format(text).decode() + "\n")

    def print_table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under translated headings; wide on a pipe, fitted to a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        numeric = [all(isinstance(row[at], int) for row in rows) for at in range(len(columns))]
        for name, number in zip(columns, numeric, strict=True):
            heading = self.text(f"column.{name}")
            table.add_column(heading, justify="right" if number and rows else "left")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        width = None if sys.stdout.isatty() else _WIDE
        console = Console(file=sys.stdout, width=width, highlight=False)
        console.print(table)


def _login() -> str:
    """Who is at the terminal, as the system says: a name for the audit, not a proof."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def one_line(text: str) -> str:
    """Text of other systems as a terminal may show it: no escape codes, no line of its own."""
    return _harmless(" ".join(text.split()))


def _harmless(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "✓" if value else "✗"
    if isinstance(value, list | tuple):
        return ", ".join(one_line(str(one)) for one in value)
    return one_line(str(value))


def face_of(context: typer.Context) -> Face:
    """The face of the running command."""
    face: Face = context.obj
    return face
