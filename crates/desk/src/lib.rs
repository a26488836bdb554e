//! The receiving half, so that a county without a platform has one and an integrator has a reference.
//!
//! ```text
//! broker ==> inbox (QoS 1) -> one transaction: message + case + pictures -> receipt -> PUBACK
//!                                             |
//!                                   page, cases.json (axum)
//! ```
//!
//! Exactly one case per situation, whatever is delivered twice and whoever is killed when:
//!
//! - a message is acknowledged to the broker only after the transaction that stored it; killed in between, the
//!   broker delivers it again;
//! - a message is stored once, by its CloudEvents `source` and `id`; a second delivery changes nothing and is
//!   answered `duplicate`;
//! - a case is opened once per event id, by whichever of `began`, `updated`, `ended` arrives first.
//!
//! A case number is the number of cases before it plus one, given inside that transaction: numbers have no gaps.

#[doc(hidden)]
pub mod fuzz;
mod inbox;
mod page;
mod store;
mod web;

#[cfg(test)]
mod tests;

pub use inbox::Counts;
pub use store::StoreError;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use inbox::Inbox;
use store::Store;

/// What a desk needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the site whose events it takes.
    pub site: String,
    /// The broker.
    pub broker: fleet::Broker,
    /// The database file.
    pub db: PathBuf,
    /// Where the page is served; port 0 for any free one.
    pub listen: SocketAddr,
    /// Bytes of evidence kept in the database at most.
    pub evidence_max_bytes: u64,
    /// Where the pictures are that do not come over MQTT; `None`: the page says where a message says they are.
    pub store: Option<fleet::Store>,
}

impl Options {
    /// As the fleet says; the database is `desk.sqlite` in its data directory.
    pub fn from_fleet(fleet: &fleet::Fleet) -> Self {
        Self {
            site: fleet.site.clone(),
            broker: fleet.broker.clone(),
            db: fleet.data_dir.join("desk.sqlite"),
            listen: fleet.desk.listen,
            evidence_max_bytes: fleet.node.evidence_max_bytes,
            store: fleet.desk.store.clone(),
        }
    }
}

/// A desk that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The site cannot be a level of a topic.
    #[error("site {name:?} {source}")]
    Site {
        /// As given.
        name: String,
        /// What is wrong with it.
        source: flow::IdError,
    },
    /// The database does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store of pictures cannot be used as it is configured.
    #[error("the desk's store: {0}")]
    Pictures(#[from] publish::evidence::StoreError),
    /// The address is in use, or not of this machine.
    #[error("the desk's page cannot be served at {listen}: {source}")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A running desk. Dropping it stops it.
#[derive(Debug)]
pub struct Desk {
    addr: SocketAddr,
    inbox: Arc<inbox::Shared>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Desk {
    /// Opens the database, serves the page, and starts to receive; does not wait for the broker. Called in a
    /// tokio runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        publish::wire::Topic::check_level(&options.site)
            .map_err(|source| StartError::Site { name: options.site.clone(), source })?;
        let remote = options.store.as_ref().map(publish::evidence::Store::open).transpose()?;
        let store = Store::open(&options.db, options.evidence_max_bytes)?.with_remote(remote);
        let store = Arc::new(store);
        let listen = |source| StartError::Listen { listen: options.listen, source };
        let listener = tokio::net::TcpListener::bind(options.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let stop = CancellationToken::new();
        let shared = Arc::new(inbox::Shared::default());
        let inbox = Inbox::new(options.site, options.broker, store.clone(), shared.clone());
        let tasks = vec![
            tokio::spawn(web::serve(listener, store, shared.clone(), stop.clone())),
            tokio::spawn(inbox.run(stop.clone())),
        ];
        Ok(Self { addr, inbox: shared, tasks, stop })
    }

    /// Where the page is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was received since the start.
    pub fn counts(&self) -> Counts {
        self.inbox.counts()
    }

    /// Since when the connection to the broker stands, or why it does not.
    pub fn link(&self) -> Result<flow::Timestamp, String> {
        self.inbox.link()
    }

    /// Stops it: what was received is stored, the rest stays with the broker until the next start.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

#[cfg(test)]
impl Desk {
    /// Ends the tasks as a crash would: the connection breaks off.
    async fn crash(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
