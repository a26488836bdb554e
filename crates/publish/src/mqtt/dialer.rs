//! Finds a broker that answers: addresses in turn, MQTT 5 before 3.1.1, with waits that do not bring all workers of a
//! site back at once; and tells of it once, not at each try.
//!
//! Each search begins with the first address. A connection to another one stays there; [`Dialer::first_is_back`] says
//! when the first can be had again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet::{Address, Broker, MqttVersion};
use tokio::time::Instant;

use super::error::ConnectError;
use super::{Connection, Hello, Session, Version};

/// Longest wait between two rounds of tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Longest wait between two addresses of a round.
const BETWEEN: Duration = Duration::from_millis(200);
/// A connection that stood for so long was a good one: the next search begins without a long wait.
const GOOD: Duration = Duration::from_secs(10);

/// What a 3.1.1 broker cannot do, for the log.
const LACKS: &str = "MQTT 3.1.1 has no reason codes (a message that the broker refuses is lost without a word, or \
                     ends the connection), no message expiry, content type, user properties or will delay, and the \
                     broker decides how long it keeps a session";

/// Connects one client, again and again.
#[derive(Debug)]
pub struct Dialer {
    broker: Broker,
    /// Of the client, for the log: "publisher".
    who: &'static str,
    addresses: Vec<Place>,
    /// Which is tried next.
    next: usize,
    /// Rounds of tries that failed.
    failures: u32,
    /// The place of the connection that was made last, and when.
    at: usize,
    since: Instant,
    told_what_lacks: bool,
    /// Says nothing in the log.
    quiet: bool,
}

#[derive(Debug)]
struct Place {
    address: Address,
    name: String,
    /// It refused 5.0 in so many words.
    only_311: AtomicBool,
    /// What was told of it last: not again until it has changed.
    told: String,
}

impl Dialer {
    /// For the client `who`, as the log calls it.
    pub fn new(broker: Broker, who: &'static str) -> Self {
        let place = |address: Address| {
            let name = broker.name(&address);
            Place { address, name, only_311: AtomicBool::new(false), told: String::new() }
        };
        let addresses = broker.addresses().into_iter().map(place).collect();
        if let Some(tls) = &broker.tls
            && who == PUBLISHER
        {
            tls.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        let (next, failures, at, since) = (0, 0, 0, Instant::now());
        Self { broker, who, addresses, next, failures, at, since, told_what_lacks: false, quiet: false }
    }

    /// One that says nothing in the log, for a command that tells its user itself.
    pub fn quiet(broker: Broker) -> Self {
        Self { quiet: true, ..Self::new(broker, "command") }
    }

    /// Tries one address after the other until one answers; `failed` hears of each that did not. May be dropped at
    /// any time.
    pub async fn dial(&mut self, hello: &Hello, mut failed: impl FnMut(&str)) -> Connection {
        loop {
            let index = self.next;
            match self.open(index, hello).await {
                Ok(connection) => return self.connected(index, connection),
                Err(error) => failed(&self.tell(index, &error.to_string())),
            }
            self.next = (index + 1) % self.addresses.len();
            if self.next == 0 {
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(backoff(self.failures)).await;
            } else {
                tokio::time::sleep(BETWEEN.mul_f64(fastrand::f64())).await;
            }
        }
    }

    /// The connection is gone, and why: the next search begins with the first address. Returns what was told.
    pub fn lost(&mut self, why: &dyn std::error::Error) -> String {
        self.failures = if self.since.elapsed() >= GOOD { 0 } else { self.failures.saturating_add(1) };
        self.next = 0;
        self.tell(self.at, &why.to_string())
    }

    /// The connection was given up on purpose: the next search begins with the first address.
    pub fn restart(&mut self) {
        (self.failures, self.next) = (0, 0);
    }

    /// Waits a moment, longer after each failure.
    pub async fn pause(&self) {
        tokio::time::sleep(backoff(self.failures)).await;
    }

    /// Where the last connection leads.
    pub fn place(&self) -> &str {
        &self.addresses[self.at].name
    }

    /// Ends when the connection leads elsewhere than to the first address, and that answers again; looks there every
    /// [`Broker::return_after`], a quarter more or less. To be made once for each connection, and kept: a look takes time.
    pub async fn first_is_back(&self, hello: &Hello) {
        if self.at == 0 {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(self.broker.return_after.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            // A client of its own, as the same one would end the connection that there is. It asks for an answer to
            // a CONNECT: a frozen broker's machine still accepts connections.
            let client_id = format!("{}-look", hello.client_id);
            let look = Hello { client_id, session: Session::Connection, will: None, ..hello.clone() };
            match self.open(0, &look).await {
                Ok(connection) => {
                    connection.close().await;
                    break;
                }
                Err(ConnectError::Refused(reason)) if !matches!(reason.code(), 0x88..=0x8b | 0x97 | 0x9f) => {
                    break;
                }
                Err(error) => tracing::debug!(broker = self.addresses[0].name, %error, "not back yet"),
            }
        }
        tracing::info!(
            broker = self.addresses[0].name,
            "{}: the first address is back; returning to it",
            self.who
        );
    }

    fn connected(&mut self, index: usize, connection: Connection) -> Connection {
        for place in &mut self.addresses {
            place.told.clear();
        }
        (self.at, self.next, self.since) = (index, 0, Instant::now());
        let version = match connection.version() {
            Version::V5 => "5.0",
            Version::V311 => "3.1.1",
        };
        if self.quiet {
            return connection;
        }
        tracing::info!(broker = self.place(), version, "{}: connected to the broker", self.who);
        if connection.version() == Version::V311 && !self.told_what_lacks {
            self.told_what_lacks = true;
            tracing::warn!(broker = self.place(), "{}: {LACKS}", self.who);
        }
        connection
    }

    async fn open(&self, index: usize, hello: &Hello) -> Result<Connection, ConnectError> {
        let place = &self.addresses[index];
        let open = |version| Connection::open(&self.broker, &place.address, version, hello);
        match self.broker.version {
            MqttVersion::V5 => open(Version::V5).await,
            MqttVersion::V311 => open(Version::V311).await,
            MqttVersion::Auto if place.only_311.load(Ordering::Relaxed) => {
                let result = open(Version::V311).await;
                // It may be another broker by the time it answers.
                place.only_311.store(result.is_ok(), Ordering::Relaxed);
                result
            }
            MqttVersion::Auto => match open(Version::V5).await {
                Err(ConnectError::Refused(reason)) if reason.is_version() => {
                    place.only_311.store(true, Ordering::Relaxed);
                    open(Version::V311).await
                }
                // Old brokers hang up on a version that they do not know. So does one that is just starting, so that
                // the next search asks again.
                Err(first @ ConnectError::Unanswered) => open(Version::V311).await.map_err(|_| first),
                other => other,
            },
        }
    }

    fn tell(&mut self, index: usize, why: &str) -> String {
        let place = &mut self.addresses[index];
        let text = format!("{}: {why}", place.name);
        if place.told != why {
            place.told = why.to_owned();
            if self.quiet {
                return self.trouble();
            }
            tracing::warn!("{}: no connection to the broker at {text}", self.who);
        }
        self.trouble()
    }

    /// What is wrong with each address, as far as it is known.
    fn trouble(&self) -> String {
        let known = self.addresses.iter().filter(|place| !place.told.is_empty());
        known.map(|place| format!("{}: {}", place.name, place.told)).collect::<Vec<_>>().join("; ")
    }
}

/// The client that tells of what all clients of a process have in common.
pub(crate) const PUBLISHER: &str = "publisher";

/// How long to wait before trying again: doubles from 0.2 s to 5 s with each failure, of which a random part between
/// half and all is waited: the workers of a site must not return to a restarted broker all at once.
pub fn backoff(failures: u32) -> Duration {
    let longest = Duration::from_millis(200).saturating_mul(1 << failures.min(10)).min(MAX_BACKOFF);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_five_seconds_and_never_beyond() {
        for failures in 0..40 {
            let wait = backoff(failures);
            assert!(wait >= Duration::from_millis(100) && wait <= MAX_BACKOFF, "{failures}: {wait:?}");
        }
        assert!(backoff(39) >= MAX_BACKOFF / 2);
    }
}
