//! `ingest` against RTSP servers on this machine: GStreamer's, and bare listeners that misbehave.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test may; the lint knows only functions marked as tests")]

mod bitstreams;
mod codecs;
mod connect;
mod faults;
mod gst_server;
mod gstreamer;
mod lean;
mod lean_trouble;
mod probing;
mod raw_server;
mod scripted;
mod smart;
mod streams;
mod trouble;
mod watcher;
