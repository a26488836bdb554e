//! Events to MQTT, at least once; owns the wire format.
