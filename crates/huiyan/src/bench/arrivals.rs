//! When events arrive at a subscriber.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use flow::Timestamp;
use publish::wire::EventMessage;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A subscription to all events; it ends when this is dropped.
pub struct Arrivals {
    took: Arc<Mutex<Vec<Duration>>>,
    task: JoinHandle<()>,
    _client: AsyncClient,
}

impl Arrivals {
    /// Subscribes, and waits until the broker has said yes.
    pub async fn watch(broker: SocketAddr) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new("bench-arrivals", broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, 16);
        client.subscribe("huiyan/v1/+/event/#", QoS::AtMostOnce).await?;
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let event = tokio::time::timeout_at(until, events.poll()).await.context("no broker for 5 s")?;
            if matches!(event?, Event::Incoming(Packet::SubAck(_))) {
                break;
            }
            if Instant::now() > until {
                bail!("the broker did not answer a subscription");
            }
        }
        let took: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let into = took.clone();
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Packet::Publish(message)) = event else { continue };
                let Ok(event) = EventMessage::parse(&message.payload) else { continue };
                let late = Timestamp::now().duration_since(event.time);
                let late = Duration::try_from(late).unwrap_or_default();
                into.lock().unwrap_or_else(PoisonError::into_inner).push(late);
            }
        });
        Ok(Self { took, task, _client: client })
    }

    /// From the capture of the picture that decided to the arrival of the event, of all that arrived so far, the
    /// shortest first.
    pub fn sorted(&self) -> Vec<Duration> {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
        took.sort();
        took
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
