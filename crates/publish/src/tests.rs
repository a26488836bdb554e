//! Tests of the crate as a whole, most of them against a real mosquitto.

mod broker;
mod contract;
mod crash;
mod disk;
mod ear;
mod golden;
