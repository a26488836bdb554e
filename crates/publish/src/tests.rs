//! Tests of the crate as a whole, most of them against a real mosquitto.

mod access;
mod addresses;
mod broker;
mod clients;
mod contract;
mod crash;
mod trouble;
mod disk;
mod evidence;
mod ear;
mod golden;
mod onvif;
mod old;
mod refusals;
mod tls;
mod store;
