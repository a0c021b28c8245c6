"""The `hub` command. Every failure ends as one line on stderr and exit code 1 or 2."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, cast

import typer

from hub.cli import (
    audit,
    connections,
    connectors,
    dead_letters,
    deployment,
    devices,
    flows,
    inbox,
    mapping,
    records,
    runs,
    serve,
    subscriptions,
    telemetry,
    workers,
)
from hub.cli.face import FAILED, WRONG_USAGE, Face, Failed

INTERRUPTED = 130

_GLOBAL_OPTIONS = ("--dir", "--lang", "--as")

app = typer.Typer(
    name="hub",
    help="Integration hub: connectors, flows, runs and records of one deployment folder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (deployment, runs, mapping, serve, workers):
    part.register(app)
app.add_typer(connectors.app, name="connector")
app.add_typer(connections.app, name="connection")
app.add_typer(flows.app, name="flow")
app.add_typer(records.app, name="records")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(subscriptions.app, name="subscription")
app.add_typer(inbox.app, name="inbox")
app.add_typer(audit.app, name="audit")
app.add_typer(devices.app, name="devices")
app.add_typer(telemetry.app, name="telemetry")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hub {version('integration-hub')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Option("--dir", envvar="HUB_DIR", metavar="PATH", help="The deployment folder."),
    ] = Path(),
    language: Annotated[
        str | None,
        typer.Option("--lang", envvar="HUB_LANG", metavar="zh|en", help="Language of messages."),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option("--as", envvar="HUB_USER", metavar="NAME", help="Who the audit names."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if language not in (None, "zh", "en"):
        raise typer.BadParameter(f"--lang {language} is neither zh nor en")
    context.obj = Face(folder, language, actor)


class _Complaint(Protocol):
    """What typer raises for a command line it cannot read."""

    ctx: Any

    def format_message(self) -> str: ...


# Typer carries its own click; its class of usage errors is only reachable through a subclass.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    _speak_utf8()
    _keep_logs_quiet()
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; without this, Python complains once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    if threading.active_count() > 1:
        # A job that waits for a slow system must not hold up the end: it is durable.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(given: Sequence[str]) -> int:
    """The exit code of one command line."""
    from hub.sdk.errors import HubError

    arguments = _globals_first(given)
    face = _face_of(arguments)
    if strange := next((word for word in arguments if not _is_text(word)), None):
        face.complain(face.text("cli.not_utf8", word=strange.encode("utf-8", "replace").decode()))
        return WRONG_USAGE
    try:
        result = app(arguments, prog_name="hub", standalone_mode=False)
    except Failed as error:
        return error.exit_code
    except HubError as error:
        face.complain(error.message(face.language))
        return FAILED
    except _UsageError as error:
        _explain_usage(face, cast("_Complaint", error))
        return WRONG_USAGE
    except (KeyboardInterrupt, typer.Abort):
        face.complain(face.text("cli.interrupted"))
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("HUB_DEBUG"):
            raise
        kind, problem = type(error).__name__, str(error) or "-"
        face.complain(face.text("cli.unexpected", kind=kind, problem=problem))
        return FAILED
    if result == INTERRUPTED:  # typer's own word for Ctrl-C
        face.complain(face.text("cli.interrupted"))
    return result if isinstance(result, int) else 0


def _is_text(word: str) -> bool:
    """Whether an argument came as UTF-8; Python smuggles other bytes in as half pairs."""
    return word.isascii() or not any("\ud800" <= one <= "\udfff" for one in word)


def _explain_usage(face: Face, error: _Complaint) -> None:
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a command: the help is the answer
        face.say(message)
        return
    command = error.ctx.command_path if error.ctx is not None else "hub"
    message = " ".join(message.rstrip(".").split())
    face.complain(face.text("cli.usage", message=message, command=command))


def _face_of(arguments: Sequence[str]) -> Face:
    """The folder and language for messages, also when the rest cannot be understood."""
    found: dict[str, str] = {}
    for name, value in zip(arguments[::2], arguments[1::2], strict=False):
        if name not in _GLOBAL_OPTIONS:
            break
        found[name] = value
    folder = found.get("--dir") or os.environ.get("HUB_DIR") or "."
    language = found.get("--lang") or os.environ.get("HUB_LANG")
    return Face(Path(folder), language if language in ("zh", "en") else None)


def _globals_first(arguments: Sequence[str]) -> list[str]:
    """`--dir`, `--lang` and `--as` may stand anywhere; typer wants them before the command."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in _GLOBAL_OPTIONS and equals:
            first += [name, value]
        elif word in _GLOBAL_OPTIONS:
            first += [word, *[value for value in [next(words, None)] if value is not None]]
        else:
            rest.append(word)
    return [*first, *rest]


def _keep_logs_quiet() -> None:
    """Errors are told once, by the command; HUB_DEBUG=1 shows the log as well."""
    if os.environ.get("HUB_DEBUG"):
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    else:
        logging.getLogger("hub").addHandler(logging.NullHandler())


def _speak_utf8() -> None:
    """Text is UTF-8 on every machine, pipes and Windows consoles included."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            errors = "strict" if stream is sys.stdin else "backslashreplace"
            stream.reconfigure(encoding="utf-8", errors=errors)
