"""All that a connector sees of the hub."""
