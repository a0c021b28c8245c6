"""The filters that every command about many dead letters takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

Kind = Literal["record", "held", "delivery", "review"]
State = Literal["open", "replaying", "resolved", "discarded", "all"]
Filters = dict[str, str]


def _option(name: str, help_text: str, kind: object = str, metavar: str | None = None) -> object:
    """An option that may be left out."""
    return Annotated[kind | None, typer.Option(name, help=help_text, metavar=metavar)]  # type: ignore[operator]


_FILTERS: dict[str, object] = {
    "flow": _option("--flow", "Only of this flow."),
    "connection": _option("--connection", "Only from or to this connection."),
    "sink": _option("--sink", "Only to this sink, e.g. crm/customer."),
    "kind": _option("--kind", "Only of this kind.", Kind),
    "field": _option("--field", "Only about this field."),
    "code": _option("--code", "Only with this error code."),
    "vendor_code": _option("--vendor-code", "Only with this code of the target."),
    "text": _option("--text", "Only with this in a key."),
    "since": _option("--since", "Opened since: a time, or 24h.", metavar="TIME"),
    "until": _option("--until", "Opened before.", metavar="TIME"),
}
InState = Annotated[State, typer.Option("--state", help="Which ones.")]


def takes_filters(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every filter as an option; those given are its argument `filters`."""

    @wraps(command)
    def filtered(**given: Any) -> None:
        named = {name: given.pop(name) for name in _FILTERS}
        filters = {name: text for name, text in named.items() if text is not None}
        command(filters=filters, **given)

    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, keyword, default=None, annotation=annotation)
        for name, annotation in _FILTERS.items()
    ]
    kept = [one.replace(kind=keyword) for one in own.parameters.values() if one.name != "filters"]
    filtered.__signature__ = own.replace(parameters=[*options, *kept])  # type: ignore[attr-defined]
    filtered.__annotations__ = {one.name: one.annotation for one in [*options, *kept]}
    return filtered
