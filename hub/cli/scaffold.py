"""A connector and a flow to start from: `hub connector new`."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Any

from hub.engine.deployment import SETTINGS_FILE
from hub.sdk.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_CONNECTOR = Template("""\
# Connector $name: a JSON API read page by page, no code. Correct what is marked with <-.
connector: $name
version: 0.1.0
contract: 1
title: {zh: $name, en: $name}
config:
  base_url: {type: url, default: "$base_url"}
  # token: secret               # an account's secret: `hub connection set-secret NAME token`
# auth: {kind: bearer}          # or api_key, basic, token, hmac, oauth2
limits: {rate: 5/s}
envelope:                       # <- what success looks like IN THE BODY; HTTP 200 proves nothing
  ok: {path: items, is: list}   #    or {path: code, in: [0]}; a bare list: {path: $$, is: list}
streams:
  items:
    key: [id]                   # <- fields that identify a row
    request: {get: /items}      # <- path behind base_url; {get: /items, params: {a: 1}} adds more
    data: items                 # <- where the rows are; $$ when the body itself is the list
    page: {kind: number, param: page, size_param: size, size: 100, total: total}
    # <- other pagers (leave `total` out when the API does not say it):
    # page: {kind: offset, param: offset, size_param: limit, size: 100, total: total}
    # page: {kind: cursor, param: cursor, next: next, size_param: limit}
    # page: {kind: link, size_param: per_page}
    # page: {kind: none}
""")

_FLOW = Template("""\
# Flow ${name}_items: rows of $name into the hub's own store. Correct what is marked with <-.
flow: ${name}_items
from: {connection: $name, stream: items}
mapping:
  key: [id]
  fields:
    id: id | required           # <- target field: source field | steps
    name: name | trim           # <-
to: {entity: ${name}_item}
""")


def write_connector(folder: Path, name: str, base_url: str) -> dict[str, Any]:
    """Write both files and say where they are. Raises ConfigError; never overwrites."""
    if not (folder / SETTINGS_FILE).is_file():
        raise ConfigError("deployment.missing", folder=folder)
    if not _NAME.fullmatch(name):
        raise ConfigError("connector.name_form", name=name)
    if not re.fullmatch(r"https?://[^/\s\"\\][^\s\"\\]*", base_url):
        raise ConfigError("connection.bad_url", where="--base-url", url=base_url)
    files = {
        folder / "connectors" / name / "connector.yaml": _CONNECTOR,
        folder / "mappings" / "flows" / f"{name}_items.yaml": _FLOW,
    }
    for path in files:
        if path.exists():
            raise ConfigError("connector.exists", file=path)
    try:
        for path, template in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            text = template.substitute(name=name, base_url=base_url.rstrip("/"))
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("store.unwritable", file=folder, reason=error.strerror) from error
    connector_file, flow_file = files
    return {
        "connector": name,
        "connector_file": str(connector_file),
        "flow": f"{name}_items",
        "flow_file": str(flow_file),
    }
