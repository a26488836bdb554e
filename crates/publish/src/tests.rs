//! Tests of the crate as a whole, most of them against a real mosquitto.

mod access;
mod addresses;
mod again;
mod broker;
mod clients;
mod contract;
mod corpus;
mod crash;
mod disk;
mod ear;
mod evidence;
mod golden;
mod half_open;
mod old;
mod onvif;
mod refusals;
mod store;
mod tls;
mod trouble;
