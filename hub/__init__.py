"""An on-premise integration hub: connectors, mappings, flows, deliveries."""

__version__ = "0.1.0"
