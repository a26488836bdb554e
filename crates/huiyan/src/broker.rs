//! An MQTT 5 broker inside this process, for `huiyan demo`. A county has its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Starts a broker on `port` of 127.0.0.1, or on a free one for 0, and waits until it answers. It runs until the
/// process ends: `rumqttd` offers no way to stop it.
pub fn start(port: u16) -> anyhow::Result<SocketAddr> {
    let listen = free_address(port)?;
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        // Evidence pictures travel over it.
        max_payload_size: 4 << 20,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "demo".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let config = Config {
        router: RouterConfig {
            max_connections: 64,
            max_outgoing_packet_count: 200,
            // Bounds what the broker keeps for a slow subscriber.
            max_segment_size: 16 << 20,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("demo".to_owned(), server)])),
        ..Config::default()
    };
    std::thread::Builder::new().name("broker".into()).spawn(move || {
        if let Err(error) = rumqttd::Broker::new(config).start() {
            tracing::error!(%listen, "the demo's broker stopped: {error}");
        }
    })?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect_timeout(&listen, Duration::from_millis(200)).is_err() {
        if Instant::now() > deadline {
            bail!("the demo's broker does not answer on {listen} after 5 s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(listen)
}

fn free_address(port: u16) -> anyhow::Result<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let probe = TcpListener::bind(wanted).with_context(|| {
        format!("cannot listen on {wanted} for the demo's broker; choose another --mqtt-port")
    })?;
    Ok(probe.local_addr()?)
}
