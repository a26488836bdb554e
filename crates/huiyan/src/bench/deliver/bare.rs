//! The peer: the same messages by rumqttc alone, from memory, without a disk.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};

use publish::Publisher;

use super::load::Load;

/// Messages under way at once; the broker may allow fewer.
const WINDOW: u16 = 128;

/// What was published and has not yet got its packet id: when, and whether it is an event.
type Handed = Arc<Mutex<VecDeque<(Instant, bool)>>>;

/// Publishes so many events with their retained messages, at `rate` events a second or as fast as it goes. Returns the
/// milliseconds from publishing to PUBACK of each event, and how long it took altogether.
pub async fn publish(
    addr: SocketAddr,
    (load, publisher): (&mut Load, &Publisher),
    count: usize,
    rate: Option<f64>,
) -> anyhow::Result<(Vec<f64>, Duration)> {
    let mut options = MqttOptions::new("huiyan-bench-bare", addr.ip().to_string(), addr.port());
    options
        .set_clean_start(true)
        .set_outgoing_inflight_upper_limit(WINDOW)
        .set_keep_alive(Duration::from_secs(30));
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut events) = AsyncClient::new(options, 2 * usize::from(WINDOW));
    while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}

    let bodies: Vec<_> = (0..count).map(|_| load.messages(publisher)).collect::<anyhow::Result<_>>()?;
    let handed = Handed::default();
    let acks = tokio::spawn(acks(events, handed.clone(), 2 * count));
    let began = Instant::now();
    for (n, [event, open]) in bodies.into_iter().enumerate() {
        if let Some(rate) = rate {
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        for (message, is_event) in [(event, true), (open, false)] {
            lock(&handed).push_back((Instant::now(), is_event));
            let (topic, body) = message;
            client.publish(topic, QoS::AtLeastOnce, !is_event, body).await?;
        }
    }
    let ms = tokio::time::timeout(Duration::from_secs(60), acks)
        .await
        .context("rumqttc: PUBACKs are missing after 60 s")???;
    Ok((ms, began.elapsed()))
}

async fn acks(
    mut events: rumqttc::v5::EventLoop,
    handed: Handed,
    mut missing: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut under_way = HashMap::new();
    let mut ms = Vec::with_capacity(missing / 2);
    while missing > 0 {
        match events.poll().await? {
            Event::Outgoing(Outgoing::Publish(id)) => {
                let Some(sent) = lock(&handed).pop_front() else {
                    bail!("rumqttc sent what was not published")
                };
                under_way.insert(id, sent);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                missing -= 1;
                if let Some((at, true)) = under_way.remove(&ack.pkid) {
                    ms.push(1e3 * at.elapsed().as_secs_f64());
                }
            }
            _ => {}
        }
    }
    Ok(ms)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
