"""The MQTT listener: devices and gateways connect to the hub as they would to ThingsBoard."""
