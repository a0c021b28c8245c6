"""Sparkplug B: payload, state of the edge nodes, and the hub as a host application."""
