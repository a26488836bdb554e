//! The connection to the broker: subscribes, and keeps what is retained.
//!
//! A broker may queue only so many messages for a client (mosquitto: 1,000, unless `max_queued_messages` says more) and
//! drops what goes beyond, so a county's 29,720 retained messages need not all arrive at once. Where the fleet says
//! which cameras there are, those that are missing are asked for again by name, some at a time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flow::CameraId;
use publish::mqtt::{Dialer, Hello, Incoming, LostError, Session};
use publish::wire::Topic;
use tokio::sync::mpsc;

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
    /// Further filters to subscribe to.
    wanted: mpsc::Sender<Vec<String>>,
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
        let shared = Arc::new(Shared::default());
        let (wanted, more) = mpsc::channel(8);
        let task = tokio::spawn(listen(site.broker.clone(), filters(&site.name), shared.clone(), more));
        Self { wanted, shared, task }
    }

    /// Waits until everything that is retained has come.
    pub async fn settle(&self, site: &Site) -> anyhow::Result<()> {
        let broker = &site.broker;
        let deadline = Instant::now() + CONNECT;
        loop {
            let link = self.shared.link().clone();
            if link.subscribed {
                break;
            }
            if let Some(trouble) = link.trouble {
                anyhow::bail!("no connection to the broker: {trouble}");
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
            let filters = batch.iter().map(|camera| topic(camera).to_string()).collect();
            if self.wanted.send(filters).await.is_err() {
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

    fn take(&self, incoming: Incoming) {
        match incoming {
            Incoming::SubAck { refusals, .. } => {
                *self.link() = match refusals.into_iter().flatten().next() {
                    Some(reason) => Link {
                        subscribed: false,
                        trouble: Some(format!(
                            "it refuses the subscription: {reason}; expected an access list that lets this user read there"
                        )),
                    },
                    None => Link { subscribed: true, trouble: None },
                };
            }
            Incoming::Publish(message) => self.board().take(&message.topic, &message.payload),
            Incoming::PubAck { .. } => {}
        }
    }
}

/// Until aborted: connects, subscribes, and keeps what comes.
async fn listen(
    broker: fleet::Broker,
    filters: Vec<String>,
    shared: Arc<Shared>,
    mut more: mpsc::Receiver<Vec<String>>,
) {
    let hello = Hello {
        client_id: format!("huiyan-status-{:08x}", fastrand::u32(..)),
        session: Session::Connection,
        receive_maximum: 1,
        max_packet: MAX_PACKET,
        will: None,
    };
    let down = |trouble: &str| {
        *shared.link() = Link { subscribed: false, trouble: Some(trouble.to_owned()) };
    };
    let mut dialer = Dialer::quiet(broker);
    loop {
        let mut connection = dialer.dial(&hello, down).await;
        // What was retained before is told again; what is gone by now must not stay.
        *shared.board() = Board::default();
        let mut subscribe = Some(filters.clone());
        let lost: LostError = loop {
            if let Some(filters) = subscribe.take() {
                let id = connection.fresh_id(|_| false);
                // QoS 0: they are retained, so one that is lost is asked for again.
                connection.subscribe(&filters, false, id);
            }
            tokio::select! {
                incoming = connection.next() => match incoming {
                    Ok(incoming) => shared.take(incoming),
                    Err(error) => break error,
                },
                Some(filters) = more.recv() => subscribe = Some(filters),
            }
        };
        down(&dialer.lost(&lost));
        dialer.pause().await;
    }
}

fn filters(site: &str) -> Vec<String> {
    ["worker/+/status", "open/+/+", "camera/+/health"].map(|rest| format!("huiyan/v1/{site}/{rest}")).to_vec()
}
