"""The mapping language: fields of one thing to fields of another. No store, no network."""

from __future__ import annotations

from hub.mapping.contract import Contract, ContractFinding, fields_seen
from hub.mapping.examples import TestFailure
from hub.mapping.group import Group
from hub.mapping.library import Library
from hub.mapping.lineage import FieldLineage, Masked, Way
from hub.mapping.lookups import Lookups, LookupTable
from hub.mapping.mapping import Mapping, load_mapping
from hub.mapping.results import FieldProblem, Links, Mapped, Reference, Row, Unusable, show_value

__all__ = [
    "Contract",
    "ContractFinding",
    "FieldLineage",
    "FieldProblem",
    "Group",
    "Library",
    "Links",
    "LookupTable",
    "Lookups",
    "Mapped",
    "Mapping",
    "Masked",
    "Reference",
    "Row",
    "TestFailure",
    "Unusable",
    "Way",
    "fields_seen",
    "load_mapping",
    "show_value",
]
