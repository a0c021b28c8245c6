"""The parts of `bench telemetry`."""
