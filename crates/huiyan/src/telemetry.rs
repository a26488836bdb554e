//! What the program tells about itself: numbers for Prometheus, traces for OpenTelemetry.

pub mod metrics;
pub mod traces;
