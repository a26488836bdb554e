//! Tests of the crate as a whole, most of them against a real mosquitto.

pub(crate) mod make;

mod broker;
mod disk;
mod golden;
