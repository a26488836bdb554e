//! Who may set up a session next. Pure: times, chance and outcomes come in.
//!
//! ```text
//! subnets (/24, /64), each in turn --> its hosts, each in turn --> a host's log-ins --> the cameras that wait
//!   at most so many set-ups                at most so many           one, until it is known to be right
//! ```
//!
//! Starts go round over subnets and hosts, so that neither a switch nor a recorder meets a burst. A host that does
//! not answer is left alone for a time that doubles, drawn anew each time; then a single camera tries, and the others
//! follow when it gets through. A log-in that a host refuses twice is left alone for long, by all its cameras.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::Camera;
use flow::CameraState;

use crate::Policy;
use crate::backoff::{bound, lengthened};

/// Refusals in a row after which a log-in waits, while cameras of the same host stream with it: then it is the
/// channel that is forbidden, or a password that was changed a moment ago.
const REFUSALS_WHILE_STREAMING: u32 = 4;
/// And while none does.
const REFUSALS: u32 = 2;
/// Starts that may be made up for when the clock was late.
const LATE: Duration = Duration::from_millis(20);

/// Where a camera waits: its log-in at its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat(usize);

/// Names one that waits.
pub(crate) type Ticket = u64;

/// The right to set up a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    seat: Seat,
    /// Of the host: what was tried before a failure became known is no second failure.
    epoch: u64,
}

/// What became of a set-up.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The session plays.
    Playing,
    /// Nothing that answers was found at the host.
    NoAnswer(Trouble),
    /// The log-in was refused.
    LoginRefused(Trouble),
    /// Something else: the host answered.
    Failed,
    /// Given up from our side.
    Cancelled,
}

/// Why many cameras wait: told to each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub state: CameraState,
    pub reason: String,
}

/// What follows from an outcome.
#[derive(Debug, Default)]
pub(crate) struct Consequence {
    /// The host waits: the camera need not, beyond that.
    pub host_waits: bool,
    /// Tell these why they wait.
    pub tell: Vec<Ticket>,
}

/// Who is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This one may begin.
    Go(Ticket, Pass),
    /// Ask again then, or after the next change.
    At(Instant),
    /// Ask again after the next change.
    Nobody,
}

#[derive(Debug, Default)]
struct Subnet {
    setups: usize,
    /// Hosts that may begin something, in turn.
    ring: VecDeque<usize>,
    listed: bool,
}

#[derive(Debug)]
struct Host {
    subnet: usize,
    doors: Vec<usize>,
    setups: usize,
    playing: usize,
    listed: bool,
    /// Set-ups in a row that met nobody; those of one epoch count as one.
    failures: u32,
    epoch: u64,
    until: Option<Instant>,
    trouble: Option<Arc<Trouble>>,
}

/// A log-in at a host.
#[derive(Debug)]
struct Door {
    host: usize,
    has_password: bool,
    waiting: VecDeque<Ticket>,
    setups: usize,
    playing: usize,
    /// Let in since it was last refused.
    proven: bool,
    refused: u32,
    last_refused: Option<Instant>,
    until: Option<Instant>,
    trouble: Option<Arc<Trouble>>,
}

/// All that wait, all that are being set up and all that play.
#[derive(Debug)]
pub(crate) struct Turns {
    policy: Policy,
    random: fastrand::Rng,
    subnets: Vec<Subnet>,
    hosts: Vec<Host>,
    doors: Vec<Door>,
    /// Subnets with a host that may begin something, in turn.
    ring: VecDeque<usize>,
    /// When a host, or one of its log-ins, has waited long enough.
    timers: BTreeSet<(Instant, usize)>,
    setups: usize,
    next_start: Instant,
    next_ticket: Ticket,
}

impl Turns {
    /// For these cameras; the seats are theirs in the same order.
    pub(crate) fn new<'a>(
        policy: &Policy,
        cameras: impl Iterator<Item = &'a Camera>,
        now: Instant,
        random: fastrand::Rng,
    ) -> (Self, Vec<Seat>) {
        let mut turns = Self {
            policy: policy.clone(),
            random,
            subnets: Vec::new(),
            hosts: Vec::new(),
            doors: Vec::new(),
            ring: VecDeque::new(),
            timers: BTreeSet::new(),
            setups: 0,
            next_start: now,
            next_ticket: 0,
        };
        let (mut subnets, mut hosts, mut doors) = (HashMap::new(), HashMap::new(), HashMap::new());
        let seats = cameras.map(|camera| {
            let name = camera.url.host_str().unwrap_or_default();
            let subnet = *subnets.entry(Network::of(name)).or_insert_with(|| turns.add_subnet());
            let address = (name, camera.url.port().unwrap_or(554));
            let host = *hosts.entry(address).or_insert_with(|| turns.add_host(subnet));
            let login = camera.credentials.as_ref().map(|c| (c.user.as_str(), c.password.reveal()));
            Seat(*doors.entry((host, login)).or_insert_with(|| turns.add_door(host, login.is_some())))
        });
        let seats = seats.collect();
        (turns, seats)
    }

    /// Gets in line. Gives also why it will have to wait, if that is known.
    pub(crate) fn ask(&mut self, seat: Seat, now: Instant) -> (Ticket, Option<Arc<Trouble>>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let door = &mut self.doors[seat.0];
        door.waiting.push_back(ticket);
        let host = door.host;
        self.list(host, now);
        (ticket, self.trouble(seat))
    }

    /// Why those in this place wait.
    pub(crate) fn trouble(&self, seat: Seat) -> Option<Arc<Trouble>> {
        let door = &self.doors[seat.0];
        door.trouble.clone().or_else(|| self.hosts[door.host].trouble.clone())
    }

    /// Leaves the line.
    pub(crate) fn forget(&mut self, seat: Seat, ticket: Ticket) {
        self.doors[seat.0].waiting.retain(|waiting| *waiting != ticket);
    }

    /// Lets the next one begin, if somebody may.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        while let Some(&(at, host)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.list(host, now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        if self.setups >= self.policy.setups.max(1) || self.ring.is_empty() {
            return timer.map_or(Next::Nobody, Next::At);
        }
        if now < self.next_start {
            return Next::At(timer.map_or(self.next_start, |timer| timer.min(self.next_start)));
        }
        match self.pick(now) {
            Some((ticket, pass)) => {
                let spacing = Duration::from_secs(1) / self.policy.starts_per_second.max(1);
                let earliest = now.checked_sub(LATE).unwrap_or(now);
                self.next_start = self.next_start.max(earliest) + spacing;
                Next::Go(ticket, pass)
            }
            None => timer.map_or(Next::Nobody, Next::At),
        }
    }

    /// A set-up is over. After [`Outcome::Playing`] the session has to be reported as [`Self::left`] once.
    pub(crate) fn ended(&mut self, pass: Pass, outcome: Outcome, now: Instant) -> Consequence {
        let door_index = pass.seat.0;
        let host_index = self.doors[door_index].host;
        let subnet = self.hosts[host_index].subnet;
        self.doors[door_index].setups -= 1;
        self.hosts[host_index].setups -= 1;
        self.subnets[subnet].setups -= 1;
        self.setups -= 1;
        let consequence = match outcome {
            Outcome::Cancelled => Consequence::default(),
            Outcome::NoAnswer(trouble) => self.no_answer(host_index, pass.epoch, trouble, now),
            Outcome::Failed => self.answered(host_index),
            Outcome::LoginRefused(trouble) => {
                self.answered(host_index);
                self.login_refused(door_index, trouble, now)
            }
            Outcome::Playing => {
                self.answered(host_index);
                let door = &mut self.doors[door_index];
                (door.proven, door.refused, door.until, door.trouble) = (true, 0, None, None);
                door.playing += 1;
                self.hosts[host_index].playing += 1;
                Consequence::default()
            }
        };
        self.list(host_index, now);
        self.list_subnet(subnet);
        consequence
    }

    /// A session that played is over.
    pub(crate) fn left(&mut self, seat: Seat) {
        let door = &mut self.doors[seat.0];
        door.playing -= 1;
        self.hosts[door.host].playing -= 1;
    }

    fn answered(&mut self, host: usize) -> Consequence {
        let host = &mut self.hosts[host];
        host.epoch += u64::from(host.failures > 0);
        (host.failures, host.until, host.trouble) = (0, None, None);
        Consequence::default()
    }

    fn no_answer(&mut self, index: usize, epoch: u64, trouble: Trouble, now: Instant) -> Consequence {
        let host = &mut self.hosts[index];
        // While other cameras of the host stream, it is there: this is the camera's own trouble.
        if host.playing > 0 {
            return Consequence::default();
        }
        if epoch == host.epoch {
            let wait = bound(&self.policy, host.failures).mul_f64(self.random.f64());
            host.failures = host.failures.saturating_add(1);
            host.epoch += 1;
            host.until = Some(now + wait);
            host.trouble = Some(Arc::new(trouble));
            self.timers.insert((now + wait, index));
        }
        let waiting = host.doors.iter().flat_map(|door| self.doors[*door].waiting.iter().copied());
        Consequence { host_waits: true, tell: waiting.collect() }
    }

    fn login_refused(&mut self, index: usize, trouble: Trouble, now: Instant) -> Consequence {
        let door = &mut self.doors[index];
        if !door.has_password {
            return Consequence::default();
        }
        let long_ago = |last: Instant| now.saturating_duration_since(last) > self.policy.auth_wait;
        if door.playing > 0 && door.last_refused.is_some_and(long_ago) {
            door.refused = 0;
        }
        door.refused = door.refused.saturating_add(1);
        door.last_refused = Some(now);
        door.proven = false;
        let limit = if door.playing > 0 { REFUSALS_WHILE_STREAMING } else { REFUSALS };
        if door.refused < limit {
            return Consequence::default();
        }
        let until = now + lengthened(self.policy.auth_wait, self.random.f64());
        door.until = Some(until);
        door.trouble = Some(Arc::new(trouble));
        self.timers.insert((until, door.host));
        Consequence { host_waits: false, tell: door.waiting.iter().copied().collect() }
    }

    /// The next subnet's next host's next camera.
    fn pick(&mut self, now: Instant) -> Option<(Ticket, Pass)> {
        while let Some(index) = self.ring.pop_front() {
            let subnet = &mut self.subnets[index];
            subnet.listed = false;
            if subnet.setups >= self.policy.setups_per_subnet.max(1) {
                continue;
            }
            let Some(host_index) = subnet.ring.pop_front() else { continue };
            self.hosts[host_index].listed = false;
            let door = self.open_door(host_index, now);
            let picked = door.and_then(|door| Some((door, self.doors[door].waiting.pop_front()?)));
            if let Some((door, _)) = picked {
                self.doors[door].setups += 1;
                self.hosts[host_index].setups += 1;
                self.subnets[index].setups += 1;
                self.setups += 1;
            }
            self.list(host_index, now);
            self.list_subnet(index);
            if let Some((door, ticket)) = picked {
                return Some((ticket, Pass { seat: Seat(door), epoch: self.hosts[host_index].epoch }));
            }
        }
        None
    }

    /// A log-in of the host by which somebody may begin now.
    fn open_door(&self, host: usize, now: Instant) -> Option<usize> {
        let host = &self.hosts[host];
        let limit = if host.failures > 0 { 1 } else { self.policy.setups_per_host.max(1) };
        if host.setups >= limit || host.until.is_some_and(|until| now < until) {
            return None;
        }
        host.doors.iter().copied().find(|door| {
            let door = &self.doors[*door];
            let may_try = door.proven || !door.has_password || door.setups == 0;
            !door.waiting.is_empty() && may_try && door.until.is_none_or(|until| now >= until)
        })
    }

    fn list(&mut self, host: usize, now: Instant) {
        if self.hosts[host].listed || self.open_door(host, now).is_none() {
            return;
        }
        let subnet = self.hosts[host].subnet;
        self.hosts[host].listed = true;
        self.subnets[subnet].ring.push_back(host);
        self.list_subnet(subnet);
    }

    fn list_subnet(&mut self, index: usize) {
        let subnet = &mut self.subnets[index];
        let has_room = subnet.setups < self.policy.setups_per_subnet.max(1);
        if !subnet.listed && has_room && !subnet.ring.is_empty() {
            subnet.listed = true;
            self.ring.push_back(index);
        }
    }

    fn add_subnet(&mut self) -> usize {
        self.subnets.push(Subnet::default());
        self.subnets.len() - 1
    }

    fn add_host(&mut self, subnet: usize) -> usize {
        self.hosts.push(Host {
            subnet,
            doors: Vec::new(),
            setups: 0,
            playing: 0,
            listed: false,
            failures: 0,
            epoch: 0,
            until: None,
            trouble: None,
        });
        self.hosts.len() - 1
    }

    fn add_door(&mut self, host: usize, has_password: bool) -> usize {
        self.doors.push(Door {
            host,
            has_password,
            waiting: VecDeque::new(),
            setups: 0,
            playing: 0,
            proven: false,
            refused: 0,
            last_refused: None,
            until: None,
            trouble: None,
        });
        self.hosts[host].doors.push(self.doors.len() - 1);
        self.doors.len() - 1
    }
}

impl Pass {
    pub(crate) fn seat(self) -> Seat {
        self.seat
    }
}

/// What shares a switch, as far as addresses tell: a /24, a /64, or what has the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 3]),
    V6([u16; 4]),
    Named(String),
}

impl Network {
    fn of(host: &str) -> Self {
        match host.trim_matches(['[', ']']).parse().map(|address: IpAddr| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
            Err(_) => Self::Named(host.to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
