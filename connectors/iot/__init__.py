"""Telemetry: ThingsBoard, InfluxDB line protocol, JSON, CloudEvents, MQTT brokers, Sparkplug B."""
