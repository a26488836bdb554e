//! The listener, the mounts and what is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use flow::Timestamp;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Gate;
use super::connection;
use super::host::{HostStats, Hosts, Presence};
use super::mount::{Mount, MountError};
use super::packets::PacketTable;
use super::script::Script;
use crate::Clip;

/// PLAYs that are remembered; the oldest go first.
const MAX_RECORDS: usize = 100_000;
/// How long [`Server::shutdown`] waits for connections to say goodbye.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// How the server treats its clients.
#[derive(Debug, Clone)]
pub struct Options {
    /// A client that is not heard from for so long is dropped; announced in whole seconds, rounded up. Over UDP only
    /// RTSP requests count, over TCP also the client's RTCP.
    pub session_timeout: Duration,
    /// A TCP client that takes nothing for so long is dropped; until then it misses pictures.
    pub stall_timeout: Duration,
    /// Time between sender reports.
    pub report_every: Duration,
    /// Kernel's send buffer per connection, bytes: bounds what slow readers cost.
    pub send_buffer: u32,
    /// Connections at most; more are closed at once.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(10),
            report_every: Duration::from_secs(5),
            send_buffer: 256 << 10,
            max_connections: 65_536,
        }
    }
}

/// What the server has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections now.
    pub connections: u64,
    /// Sessions set up now.
    pub sessions: u64,
    /// PLAYs answered with 200.
    pub plays: u64,
    /// Pictures handed to the network.
    pub pictures: u64,
    /// Pictures that slow readers missed.
    pub pictures_dropped: u64,
    /// Bytes of RTP, RTCP and their framing handed to the network.
    pub bytes: u64,
}

/// When a session began to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayRecord {
    /// Of the mount.
    pub path: String,
    /// The server's address that the client had connected to.
    pub host: IpAddr,
    /// When PLAY was answered.
    pub started: Timestamp,
    /// The clip's position at that moment: 0 with [`Start::OnPlay`](super::Start::OnPlay). What the clip shows at
    /// `t` is sent at `started + t - position` (and every `duration` later again).
    pub position: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) plays: AtomicU64,
    pub(super) pictures: AtomicU64,
    pub(super) pictures_dropped: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// A mount, ready to be played.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) path: String,
    pub(super) mount: Mount,
    pub(super) table: Arc<PacketTable>,
    /// What goes wrong on every connection.
    pub(super) script: Arc<Script>,
    /// Connections that drew random faults so far.
    pub(super) draws: AtomicU64,
    /// Cancelled when it is unmounted.
    pub(super) gone: CancellationToken,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) counters: Counters,
    pub(super) gate: Gate,
    hosts: Hosts,
    /// All datagrams leave from one pair of ports, so that a UDP session costs no socket. What clients send there
    /// is not read: their RTCP says nothing that we act upon.
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    /// Where the running position of live mounts is 0.
    epoch: Instant,
    mounts: RwLock<HashMap<String, Arc<Mounted>>>,
    tables: Mutex<Vec<(Weak<Clip>, Weak<PacketTable>)>>,
    records: Mutex<VecDeque<PlayRecord>>,
    stop: CancellationToken,
}

impl Shared {
    pub(super) fn mounted(&self, path: &str) -> Option<Arc<Mounted>> {
        self.mounts.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    pub(super) fn record(&self, record: PlayRecord) {
        self.counters.plays.fetch_add(1, Ordering::Relaxed);
        let mut records = lock(&self.records);
        if records.len() == MAX_RECORDS {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// The running position of a live mount in its clip.
    pub(super) fn live_position(&self, now: Instant, offset: Duration, duration: Duration) -> Duration {
        let running = (now.saturating_duration_since(self.epoch) + offset).as_nanos();
        Duration::from_nanos((running % duration.as_nanos().max(1)) as u64)
    }

    /// The clip's table: made once for as long as anything uses it.
    pub(super) fn table(&self, path: &str, clip: &Arc<Clip>) -> Result<Arc<PacketTable>, MountError> {
        let mut tables = lock(&self.tables);
        tables.retain(|(_, table)| table.strong_count() > 0);
        let known = tables.iter().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(clip)));
        if let Some(table) = known.and_then(|(_, table)| table.upgrade()) {
            return Ok(table);
        }
        let table = PacketTable::new(clip).ok_or_else(|| MountError::Clip { path: path.into() })?;
        let table = Arc::new(table);
        tables.push((Arc::downgrade(clip), Arc::downgrade(&table)));
        Ok(table)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An RTSP server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
}

impl Server {
    /// Listens on `addr` (port 0: any free one) with the default [`Options`]; connections run on the present tokio
    /// runtime.
    ///
    /// # Errors
    /// Those of the sockets: one TCP and two UDP ports are taken.
    pub async fn bind(addr: SocketAddr) -> std::io::Result<Self> {
        Self::bind_with(addr, Options::default()).await
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub async fn bind_with(addr: SocketAddr, options: Options) -> std::io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Connections inherit it.
        socket.set_send_buffer_size(options.send_buffer)?;
        socket.bind(addr)?;
        let listener = socket.listen(4_096)?;
        let address = listener.local_addr()?;
        let (rtp, rtcp) = udp_pair(addr.ip()).await?;
        let shared = Arc::new(Shared {
            options,
            counters: Counters::default(),
            gate: Gate::new(),
            hosts: Hosts::default(),
            rtp,
            rtcp,
            epoch: Instant::now(),
            mounts: RwLock::default(),
            tables: Mutex::default(),
            records: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, shared.clone(), tasks.clone()));
        Ok(Self { shared, address, tasks })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `rtsp://host:port/path`, without credentials; for a server on all addresses the loopback one.
    pub fn url(&self, path: &str) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("rtsp://{address}/{}", path.trim_matches('/'))
    }

    /// The same at another of the server's addresses: one that listens on `0.0.0.0` is reached at 127.0.0.1, 127.0.0.2
    /// and so on, and looks like as many hosts.
    pub fn url_at(&self, host: IpAddr, path: &str) -> String {
        format!("rtsp://{}/{}", SocketAddr::new(host, self.address.port()), path.trim_matches('/'))
    }

    /// Serves `mount` under `path`. What was mounted there before goes away, with its sessions.
    ///
    /// # Errors
    /// A path that no URL can hold, or a clip that no client could decode.
    pub fn mount(&self, path: &str, mount: Mount) -> Result<(), MountError> {
        let path = path.trim_matches('/');
        let good = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
        if path.is_empty() || !path.chars().all(good) {
            return Err(MountError::Path { path: path.into() });
        }
        let table = self.shared.table(path, &mount.clip)?;
        let script = Script::new(&mount.faults, |clip| self.shared.table(path, clip))?;
        let gone = self.shared.stop.child_token();
        let (path, script, draws) = (path.to_owned(), Arc::new(script), AtomicU64::new(0));
        let mounted = Arc::new(Mounted { path: path.clone(), mount, table, script, draws, gone });
        let mut mounts = self.shared.mounts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = mounts.insert(path, mounted) {
            before.gone.cancel();
        }
        Ok(())
    }

    /// Takes a mount away and ends its sessions. Whether there was one.
    pub fn unmount(&self, path: &str) -> bool {
        let mut mounts = self.shared.mounts.write().unwrap_or_else(PoisonError::into_inner);
        let before = mounts.remove(path.trim_matches('/'));
        if let Some(before) = &before {
            before.gone.cancel();
        }
        before.is_some()
    }

    /// Resets all connections at once, as when a recorder or a switch restarts. `host`: only those at this address of
    /// the server. How many there were.
    pub fn cut(&self, host: Option<IpAddr>) -> u64 {
        self.shared.hosts.some(host).iter().map(|host| host.cut(None)).sum()
    }

    /// The same, and for so long every new connection there is reset as well. Without `host`, addresses that nobody has
    /// connected to before are not concerned.
    pub fn take_down(&self, host: Option<IpAddr>, time: Duration) -> u64 {
        let until = Instant::now() + time;
        self.shared.hosts.some(host).iter().map(|host| host.cut(Some(until))).sum()
    }

    /// What clients did at each of the server's addresses.
    pub fn hosts(&self) -> BTreeMap<IpAddr, HostStats> {
        self.shared.hosts.stats()
    }

    /// Sets [`HostStats::setting_up_peak`] back to what is being set up now.
    pub fn reset_peaks(&self) {
        self.shared.hosts.reset_peaks();
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections: read(&counters.connections),
            sessions: read(&counters.sessions),
            plays: read(&counters.plays),
            pictures: read(&counters.pictures),
            pictures_dropped: read(&counters.pictures_dropped),
            bytes: read(&counters.bytes),
        }
    }

    /// When which session began to play, oldest first; the last 100,000.
    pub fn plays(&self) -> Vec<PlayRecord> {
        lock(&self.shared.records).iter().cloned().collect()
    }

    /// Stops listening, closes all connections and waits for them (2 s at most).
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.stats().connections, "RTSP connections still open at shutdown");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    let stop = shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &shared, &tasks),
            Err(error) => {
                // Out of file descriptors, most likely: others may end soon.
                tracing::warn!(%error, "RTSP connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, tasks: &TaskTracker) {
    let counters = &shared.counters;
    if counters.connections.load(Ordering::Relaxed) >= shared.options.max_connections as u64 {
        tracing::warn!(%peer, limit = shared.options.max_connections, "RTSP connection closed: too many");
        return;
    }
    let Some(presence) = present(&stream, shared) else {
        // Sends RST. If that cannot be had, the client sees an ordinary end.
        let _ = stream.set_zero_linger();
        return;
    };
    counters.connections.fetch_add(1, Ordering::Relaxed);
    let shared = shared.clone();
    tasks.spawn(async move {
        let stop = shared.stop.clone();
        let end = stop.run_until_cancelled(connection::serve(&shared, stream, peer, presence)).await;
        shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
        tracing::debug!(%peer, ?end, "RTSP connection ended");
    });
}

/// Counts the connection at the address that the client has connected to; `None`: it is down, or the client gone.
fn present(stream: &TcpStream, shared: &Shared) -> Option<Presence> {
    let address = stream.local_addr().ok()?.ip();
    shared.hosts.at(address).enter(address, Instant::now())
}

/// An even port for RTP and the next one for RTCP (RFC 3550 section 11).
async fn udp_pair(ip: IpAddr) -> std::io::Result<(UdpSocket, UdpSocket)> {
    let mut last = None;
    for _ in 0..64 {
        let rtp = UdpSocket::bind((ip, 0)).await?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 || port == u16::MAX {
            continue;
        }
        match UdpSocket::bind((ip, port + 1)).await {
            Ok(rtcp) => return Ok((rtp, rtcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("no even UDP port found in 64 tries")))
}
