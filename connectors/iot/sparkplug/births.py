"""What births announce: names and datatypes by alias, per node and device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """A metric as it came: `name` "" and `datatype` 0 when it leaves them out."""

    name: str
    alias: int | None
    datatype: int = 0


class Known(NamedTuple):
    """What a metric is, once resolved."""

    name: str
    datatype: int


@dataclass(slots=True)
class Birth:
    """The metrics of a node or device, as its last birth announced them."""

    timestamp: int = 0
    by_alias: dict[int, Known] = field(default_factory=dict)
    by_name: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Sequence[Metric], timestamp: int) -> Birth:
        birth = cls(timestamp)
        for metric in metrics:
            if metric.name:
                birth.by_name[metric.name] = metric.datatype
                if metric.alias is not None:
                    birth.by_alias[metric.alias] = Known(metric.name, metric.datatype)
        return birth

    def saved(self) -> dict[str, Any]:
        aliases = {known.name: alias for alias, known in self.by_alias.items()}
        metrics = [[name, aliases.get(name), kind] for name, kind in self.by_name.items()]
        return {"timestamp": self.timestamp, "metrics": metrics}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Birth:
        """Raises ValueError, TypeError or KeyError for what `saved` did not write."""
        metrics = [
            Metric(str(name), None if alias is None else int(alias), int(kind))
            for name, alias, kind in saved["metrics"]
        ]
        return cls.of(metrics, int(saved["timestamp"]))


def resolve(
    metrics: Sequence[Metric], own: Birth, others: Sequence[Birth]
) -> tuple[Known, ...] | None:
    """What each metric is; None when one has an alias that nobody announced.

    An alias is looked for at its own node or device first: version 3.0 wants it unique within the
    edge node, but older nodes count anew for every device.
    """
    found = []
    for name, alias, datatype in metrics:
        if name or alias is None:
            found.append(Known(name, datatype or own.by_name.get(name, 0)))
            continue
        known = own.by_alias.get(alias)
        if known is None:
            known = next((one.by_alias[alias] for one in others if alias in one.by_alias), None)
        if known is None:
            return None
        found.append(Known(known.name, datatype or known.datatype))
    return tuple(found)
