//! Keeps one RTSP session per camera alive.
