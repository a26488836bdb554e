//! `ingest` against RTSP servers on this machine: GStreamer's, and bare listeners that misbehave.

mod gst_server;
mod raw_server;
mod streams;
mod trouble;
mod watcher;
