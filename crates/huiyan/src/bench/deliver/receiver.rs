//! A subscriber whose session the broker keeps: what arrives, and how often.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use flow::EventId;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::task::JoinHandle;

/// How often each event was heard.
type Heard = HashMap<(EventId, u32), u8>;

pub struct Receiver {
    heard: Arc<Mutex<Heard>>,
    messages: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Subscribes to everything of `site`; returns once the broker has confirmed it. With room for so many events.
    pub async fn start(addr: SocketAddr, site: &str, events: usize) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new("huiyan-bench-receiver", addr.ip().to_string(), addr.port());
        options.set_clean_start(false).set_keep_alive(Duration::from_secs(30));
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(3_600),
            receive_maximum: Some(1_000),
            max_packet_size: Some(4 << 20),
            ..ConnectProperties::new()
        });
        let (client, mut mqtt) = AsyncClient::new(options, 16);
        client.subscribe(format!("huiyan/v1/{site}/#"), QoS::AtLeastOnce).await?;
        let subscribed = async {
            while !matches!(mqtt.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), subscribed).await.context("no SUBACK")??;
        let heard = Arc::new(Mutex::new(Heard::with_capacity(events)));
        let messages = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(listen(client, mqtt, heard.clone(), messages.clone()));
        Ok(Self { heard, messages, task })
    }

    /// Messages of every kind.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Different events.
    pub fn events(&self) -> usize {
        self.lock().len()
    }

    /// Of these events, how many were never heard, and how many more than once.
    pub fn judge(&self, events: impl Iterator<Item = (EventId, u32)>) -> (usize, usize) {
        let heard = self.lock();
        let counts = events.map(|event| heard.get(&event).copied().unwrap_or(0));
        counts.fold((0, 0), |(lost, doubled), n| (lost + usize::from(n == 0), doubled + usize::from(n > 1)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client lives as long as its event loop, which ends without one.
async fn listen(
    client: AsyncClient,
    mut mqtt: EventLoop,
    heard: Arc<Mutex<Heard>>,
    messages: Arc<AtomicU64>,
) {
    let _client = client;
    loop {
        match mqtt.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                messages.fetch_add(1, Ordering::Relaxed);
                if let Some(event) = event_of(&publish) {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    let count = heard.entry(event).or_default();
                    *count = count.saturating_add(1);
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Of an event's message: its id, which is among the user properties.
fn event_of(publish: &Publish) -> Option<(EventId, u32)> {
    if !publish.topic.windows(7).any(|part| part == b"/event/") {
        return None;
    }
    let id = publish.properties.as_ref()?.user_properties.iter().find(|(name, _)| name == "id")?;
    let (event, sequence) = id.1.split_once('.')?;
    Some((EventId::parse(event).ok()?, sequence.parse().ok()?))
}
