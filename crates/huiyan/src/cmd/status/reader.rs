//! The connection to the broker: subscribes, and keeps what is retained.
//!
//! A broker may queue only so many messages for a client (mosquitto: 1,000, unless `max_queued_messages` says more) and
//! drops what goes beyond, so a county's 29,720 retained messages need not all arrive at once. Where the fleet says
//! which cameras there are, those that are missing are asked for again by name, some at a time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flow::CameraId;
use publish::wire::Topic;
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Filter, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};

use super::Site;
use super::board::Board;

/// Nothing has come for so long: all has come.
const QUIET: Duration = Duration::from_millis(400);
/// Nobody waits longer for a broker that never falls quiet.
const SETTLED: Duration = Duration::from_secs(20);
/// To connect and to be told that the subscription stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Cameras asked for by name at a time; far below any broker's queue.
const BATCH: usize = 200;
/// Largest message that is taken: an event with many objects.
const MAX_PACKET: u32 = 1 << 20;

/// Keeps what the broker retains, in the background.
pub struct Reader {
    client: AsyncClient,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    link: Mutex<Link>,
}

/// How the connection is.
#[derive(Debug, Clone, Default)]
struct Link {
    subscribed: bool,
    /// Why there is none.
    trouble: Option<String>,
}

impl Reader {
    /// Connects in the background, again and again.
    pub fn start(site: &Site) -> Self {
        let broker = &site.broker;
        let id = format!("huiyan-status-{:08x}", fastrand::u32(..));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let mut options = MqttOptions::new(id, &broker.host, broker.port);
        options
            .set_keep_alive(Duration::from_secs(20))
            .set_clean_start(true)
            .set_connection_timeout(CONNECT.as_secs())
            .set_network_options(network)
            .set_connect_properties(ConnectProperties {
                session_expiry_interval: Some(0),
                max_packet_size: Some(MAX_PACKET),
                ..ConnectProperties::new()
            });
        if let Some(credentials) = &broker.credentials {
            options.set_credentials(&credentials.user, credentials.password.reveal());
        }
        let (client, mut events) = AsyncClient::new(options, 64);
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn({
            let (client, shared, filters) = (client.clone(), Arc::clone(&shared), filters(&site.name));
            async move {
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(packet)) => shared.packet(packet, &client, &filters),
                        Ok(Event::Outgoing(_)) => {}
                        Err(error) => {
                            *shared.link() = Link { subscribed: false, trouble: Some(error.to_string()) };
                            tokio::time::sleep(publish::backoff(3)).await;
                        }
                    }
                }
            }
        });
        Self { client, shared, task }
    }

    /// Waits until everything that is retained has come.
    pub async fn settle(&self, site: &Site) -> anyhow::Result<()> {
        let broker = format!("mqtt://{}:{}", site.broker.host, site.broker.port);
        let deadline = Instant::now() + CONNECT;
        loop {
            let link = self.shared.link().clone();
            if link.subscribed {
                break;
            }
            if let Some(trouble) = link.trouble {
                anyhow::bail!("no connection to the broker at {broker}: {trouble}");
            }
            if Instant::now() > deadline {
                anyhow::bail!("the broker at {broker} did not answer within {CONNECT:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let deadline = Instant::now() + SETTLED;
        self.quiet(deadline).await;
        self.ask_for_missing(site, deadline).await;
        Ok(())
    }

    async fn quiet(&self, deadline: Instant) {
        let mut since = Instant::now();
        while since.elapsed() < QUIET && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(changed) = self.shared.board().changed {
                since = since.max(changed);
            }
        }
    }

    /// Asks by name for the cameras that did not come; stops where a batch brings nothing, so that a fleet of which
    /// nothing was ever published is not asked for to its end.
    async fn ask_for_missing(&self, site: &Site, deadline: Instant) {
        let Some(cameras) = &site.cameras else { return };
        let missing: Vec<CameraId> = {
            let board = self.shared.board();
            cameras.keys().filter(|id| !board.cameras.contains_key(*id)).cloned().collect()
        };
        let before = self.shared.board().cameras.len();
        // With few messages no queue was full.
        if before < BATCH {
            return;
        }
        for batch in missing.chunks(BATCH) {
            let before = self.shared.board().cameras.len();
            let topic = |camera: &CameraId| Topic::Health { site: site.name.clone(), camera: camera.clone() };
            let filters = batch.iter().map(|camera| Filter::new(topic(camera).to_string(), QoS::AtMostOnce));
            if self.client.subscribe_many(filters).await.is_err() {
                return;
            }
            let patience = Instant::now() + QUIET;
            while self.shared.board().cameras.len() < before + batch.len()
                && Instant::now() < patience.min(deadline)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if Instant::now() > deadline || self.shared.board().cameras.len() == before {
                return;
            }
        }
    }

    /// What is known now.
    pub fn board(&self) -> Board {
        self.shared.board().clone()
    }

    /// Why what is known may be old.
    pub fn trouble(&self) -> Option<String> {
        self.shared.link().trouble.clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().expect("no holder of this lock panics")
    }

    fn link(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().expect("no holder of this lock panics")
    }

    fn packet(&self, packet: Packet, client: &AsyncClient, filters: &[Filter]) {
        match packet {
            Packet::ConnAck(_) => {
                // What was retained before is told again; what is gone by now must not stay.
                *self.board() = Board::default();
                if let Err(error) = client.try_subscribe_many(filters.to_vec()) {
                    self.link().trouble = Some(error.to_string());
                }
            }
            Packet::SubAck(ack) => {
                let refused =
                    ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                *self.link() = match refused {
                    Some(code) => Link {
                        subscribed: false,
                        trouble: Some(format!(
                            "the broker refuses the subscription ({code:?}): check its access list"
                        )),
                    },
                    None => Link { subscribed: true, trouble: None },
                };
            }
            Packet::Publish(message) => {
                self.board().take(&String::from_utf8_lossy(&message.topic), &message.payload);
            }
            Packet::Disconnect(bye) => {
                *self.link() = Link { subscribed: false, trouble: Some(format!("{:?}", bye.reason_code)) };
            }
            _ => {}
        }
    }
}

/// QoS 0: they are retained, so one that is lost is asked for again.
fn filters(site: &str) -> Vec<Filter> {
    let filter = |rest: &str| Filter::new(format!("huiyan/v1/{site}/{rest}"), QoS::AtMostOnce);
    ["worker/+/status", "open/+/+", "camera/+/health"].map(filter).to_vec()
}
