//! The addresses that the server is reached at, each a host with its own count: a recorder, as far as clients can tell.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What clients do at one address of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostStats {
    /// Connections now.
    pub connections: u64,
    /// Connections now that have not had their answer to PLAY.
    pub setting_up: u64,
    /// The most of these at the same time.
    pub setting_up_peak: u64,
    /// PLAYs answered with 200.
    pub plays: u64,
    /// Connections refused because the host was down.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Host {
    connections: AtomicU64,
    setting_up: AtomicU64,
    setting_up_peak: AtomicU64,
    plays: AtomicU64,
    refused: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Cancelled when all connections are to be reset; another one takes its place.
    cut: CancellationToken,
    down_until: Option<Instant>,
}

impl Host {
    /// Counts a connection until what is given back is dropped; `None`: the host is down.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Presence> {
        let state = lock(&self.state);
        if state.down_until.is_some_and(|until| now < until) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let setting_up = self.setting_up.fetch_add(1, Ordering::Relaxed) + 1;
        self.setting_up_peak.fetch_max(setting_up, Ordering::Relaxed);
        Some(Presence { host: Arc::clone(self), address, setting_up: true, cut: state.cut.clone() })
    }

    /// Resets all connections, and further ones until `down_until`. How many there were.
    pub(super) fn cut(&self, down_until: Option<Instant>) -> u64 {
        let mut state = lock(&self.state);
        state.down_until = down_until;
        // Counted first: they go as soon as they hear of it.
        let connections = self.connections.load(Ordering::Relaxed);
        std::mem::take(&mut state.cut).cancel();
        connections
    }

    fn stats(&self) -> HostStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HostStats {
            connections: read(&self.connections),
            setting_up: read(&self.setting_up),
            setting_up_peak: read(&self.setting_up_peak),
            plays: read(&self.plays),
            refused: read(&self.refused),
        }
    }
}

/// A connection at a host.
#[derive(Debug)]
pub(super) struct Presence {
    host: Arc<Host>,
    /// Of the host.
    pub(super) address: IpAddr,
    setting_up: bool,
    /// Cancelled when the connection is to be reset.
    pub(super) cut: CancellationToken,
}

impl Presence {
    /// PLAY was answered.
    pub(super) fn plays(&mut self) {
        self.host.plays.fetch_add(1, Ordering::Relaxed);
        self.set_up_is_over();
    }

    fn set_up_is_over(&mut self) {
        if std::mem::take(&mut self.setting_up) {
            self.host.setting_up.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.set_up_is_over();
        self.host.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All hosts that were ever met.
#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<BTreeMap<IpAddr, Arc<Host>>>);

impl Hosts {
    pub(super) fn at(&self, address: IpAddr) -> Arc<Host> {
        Arc::clone(lock(&self.0).entry(address.to_canonical()).or_default())
    }

    /// All of them, or the one at `address`.
    pub(super) fn some(&self, address: Option<IpAddr>) -> Vec<Arc<Host>> {
        match address {
            Some(address) => vec![self.at(address)],
            None => lock(&self.0).values().cloned().collect(),
        }
    }

    pub(super) fn stats(&self) -> BTreeMap<IpAddr, HostStats> {
        lock(&self.0).iter().map(|(address, host)| (*address, host.stats())).collect()
    }

    /// Peaks begin anew at what is now.
    pub(super) fn reset_peaks(&self) {
        for host in lock(&self.0).values() {
            host.setting_up_peak.store(host.setting_up.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
