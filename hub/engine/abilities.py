"""Whether the sink of a flow can do what the flow will ask of it, told before a run begins."""

from __future__ import annotations

from hub.engine.flows import Flow
from hub.sdk.errors import ConfigError
from hub.sdk.manifest import Sink


def require_abilities(flow: Flow, sink: Sink) -> None:
    """Raises ConfigError when the sink cannot remove records the way the flow wants it."""
    policy = flow.target.delete
    requests = {"delete": sink.delete, "deactivate": sink.deactivate}
    if policy in requests and requests[policy] is None:
        raise ConfigError("flow.cannot_remove", file=flow.path, policy=policy, sink=flow.target.ref)
