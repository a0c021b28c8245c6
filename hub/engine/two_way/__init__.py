"""Flows in both directions over the same objects (docs/two-way.md)."""
