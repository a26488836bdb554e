//! Connects to a camera once, watches it for a few seconds, and says what it sends: for `huiyan probe`.
//!
//! A probe goes the way that a session goes (`crate::source`), so that what it finds is what the worker will
//! meet; it differs in that it takes every picture and passes none on.

pub(crate) mod describe;
mod hello;
mod odd;
mod seen;
pub(crate) mod units;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Camera, Transport};
use flow::{CameraId, CameraState, Via};
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::Policy;
use crate::account::Account;
use crate::error::{SessionError, reason};
use crate::health::Reporter;
use crate::session::{Context, End, or_cancelled};
use crate::source::{self, Event, Route, Source, Video};
use crate::streamer::{outcome, panic_text};
use crate::turns::{Seat, Trouble};
use crate::turnstile::{Turn, Turnstile};
use crate::watching::Watching;
use watch::Watch;

pub use crate::sps::Sps;
pub use describe::Track;
pub use hello::Hello;
pub use seen::{KeyInterval, ParameterSets, Seen};
pub use watch::KeyKind;

/// How long a probe watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At most, from PLAY on.
    pub watch: Duration,
    /// It ends sooner once so many key pictures have come,
    pub keys: usize,
    /// but not before this.
    pub at_least: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { watch: Duration::from_secs(15), keys: 3, at_least: Duration::from_secs(4) }
    }
}

/// What became of one camera.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Probed {
    /// Whose.
    pub camera: CameraId,
    /// Its address.
    pub url: String,
    /// How its media were asked for, in the end.
    pub transport: &'static str,
    /// What the server says of itself, where it answers in RTSP.
    pub server: Option<Hello>,
    /// What it sends, or why it cannot be watched.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a camera sends, or why it cannot be watched.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It sends pictures.
    Seen(Box<Seen>),
    /// It does not.
    Failed(Failure),
}

/// Why a camera cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// The state in which its health would be: `auth_failed`, `refused`, `no_data`, `unsupported` or `broken`.
    pub state: &'static str,
    /// In short, the same for all cameras that fail in the same way.
    pub kind: String,
    /// The whole of it, with camera and address.
    pub reason: String,
}

/// A sender report comes every 5 s (RFC 3550 6.2), give or take a half.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(7_500);
/// Packets wait no longer than this in the kernel: a probe measures times.
const LATENCY: Duration = Duration::from_millis(20);

/// Probes cameras, with the consideration for their hosts that a worker has: set-ups take turns, a host that does not
/// answer is not tried for each of its cameras, and a login that it refuses twice is not tried again.
#[derive(Debug)]
pub struct Prober {
    cameras: Vec<Arc<Camera>>,
    seats: Vec<Seat>,
    policy: Policy,
    limits: Limits,
    turnstile: Arc<Turnstile>,
    cancel: CancellationToken,
}

/// Why there is nothing to say of a camera.
enum Nothing {
    Cancelled,
    /// Its host is left alone.
    NotTried(Trouble),
    Failed(SessionError),
}

impl From<End> for Nothing {
    fn from(end: End) -> Self {
        match end {
            // A probe switches to no other stream.
            End::Cancelled | End::Switched => Self::Cancelled,
            End::Failed(error) => Self::Failed(error),
        }
    }
}

impl Prober {
    /// A prober of these cameras. `cancel` ends what is under way.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(cameras: Vec<Arc<Camera>>, policy: Policy, limits: Limits, cancel: CancellationToken) -> Self {
        let (turnstile, seats) = Turnstile::new(&policy, cameras.iter().map(|camera| &**camera));
        let turnstile = Arc::new(turnstile);
        tokio::spawn(Arc::clone(&turnstile).run(cancel.clone()));
        Self { cameras, seats, policy, limits, turnstile, cancel }
    }

    /// Watches the camera at this place of the list. With `any_transport` the other one is tried where the camera's own
    /// brings no pictures. `None`: cancelled, or there is no such place.
    pub async fn probe(&self, place: usize, any_transport: bool) -> Option<Probed> {
        let mut camera = Camera::clone(self.cameras.get(place)?);
        let seat = *self.seats.get(place)?;
        let mut server = None;
        let mut result = self.by_any_route(&camera, seat, &mut server).await;
        if let Err(Nothing::Failed(error)) = &result
            && any_transport
            && may_be_the_transport(error)
        {
            let other = match camera.transport {
                Transport::Tcp => Transport::Udp,
                Transport::Udp => Transport::Tcp,
            };
            let first = std::mem::replace(&mut camera.transport, other);
            match self.by_any_route(&camera, seat, &mut server).await {
                // Neither way: what was said first is what was asked for.
                Err(Nothing::Failed(_) | Nothing::NotTried(_)) => camera.transport = first,
                second => result = second,
            }
        }
        let outcome = match result {
            Ok(seen) => Outcome::Seen(Box::new(seen)),
            Err(Nothing::Cancelled) => return None,
            Err(Nothing::Failed(error)) => Outcome::Failed(failure(&camera, &error)),
            Err(Nothing::NotTried(trouble)) => Outcome::Failed(Failure {
                state: trouble.state.name(),
                kind: match trouble.state {
                    CameraState::AuthFailed => "not tried: its host refused the login twice".to_owned(),
                    _ => "not tried: its host does not answer".to_owned(),
                },
                reason: trouble.reason,
            }),
        };
        let transport = match camera.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        Some(Probed { camera: camera.id, url: camera.url.to_string(), transport, server, outcome })
    }

    /// Waits for a turn, but not for a host that is left alone.
    async fn turn(&self, seat: Seat) -> Result<Turn<'_>, Nothing> {
        let (hears, mut heard) = tokio::sync::watch::channel(None);
        let turn = self.turnstile.enter(seat, |trouble| _ = hears.send(Some(trouble.clone())));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Nothing::Cancelled),
            turn = turn => Ok(turn),
            trouble = heard.wait_for(Option::is_some) => match trouble.ok().and_then(|told| told.clone()) {
                Some(trouble) => Err(Nothing::NotTried(trouble)),
                None => Err(Nothing::Cancelled),
            },
        }
    }

    /// Tries the ways of receiving until one does.
    async fn by_any_route(
        &self,
        camera: &Camera,
        seat: Seat,
        server: &mut Option<Hello>,
    ) -> Result<Seen, Nothing> {
        let mut route = Route::new(camera);
        loop {
            let mut turn = self.turn(seat).await?;
            if server.is_none() {
                *server = self.hello(camera, camera.credentials.is_some()).await?;
            }
            // As in a streamer: whatever a camera makes a library do costs this camera alone.
            let once = AssertUnwindSafe(self.once(camera, &route, &mut turn)).catch_unwind().await;
            let once = once
                .unwrap_or_else(|panic| Err(End::Failed(SessionError::Panicked(panic_text(panic.as_ref())))));
            let error = match once {
                Err(End::Failed(error)) => error,
                other => return Ok(other?),
            };
            if error.is_auth() && camera.credentials.is_none() {
                *server = self.hello(camera, true).await?;
            }
            turn.failed(outcome(&error, &reason(camera, &error)));
            if !route.failed(&error) {
                return Err(Nothing::Failed(error));
            }
            tracing::debug!(camera = %camera.id, via = route.via().name(), "{}", reason(camera, &error));
        }
    }

    async fn hello(&self, camera: &Camera, password: bool) -> Result<Option<Hello>, End> {
        or_cancelled(&self.cancel, hello::hello(camera, password, self.policy.describe)).await
    }

    async fn once(&self, camera: &Camera, route: &Route, turn: &mut Turn<'_>) -> Result<Seen, End> {
        // What a session has around it; a probe passes nothing on, and nobody is told.
        let account = Account::default();
        let sink: crate::Sink = Arc::new(|_| Ok(()));
        let mut reporter = Reporter::new(camera.id.clone(), Arc::new(|_| {}));
        let mut watching = Watching::new(&camera.look, false, self.policy.long_keys_retry);
        let context = Context {
            watching: &mut watching,
            camera,
            policy: &self.policy,
            account: &account,
            sink: &sink,
            cancel: &self.cancel,
            reporter: &mut reporter,
            route,
            plays: &mut || {},
            streaming_since: &mut None,
        };
        let (video, mut source) = Box::pin(source::open(&context, route.via())).await?;
        turn.plays();
        source.set_latency(LATENCY);
        let seen = self.watch(&video, &mut source, camera, route.via()).await;
        source.close(&context).await;
        seen
    }

    async fn watch(
        &self,
        video: &Video,
        source: &mut Source,
        camera: &Camera,
        via: Via,
    ) -> Result<Seen, End> {
        let began = Instant::now();
        let mut watch = Watch::new(video, self.policy.max_access_unit, began);
        // A camera may send nothing before its first key picture, and that may be late.
        let limit = self.limits.watch;
        let over = tokio::time::sleep(limit);
        tokio::pin!(over);
        let broke_off = loop {
            let keys = watch.keys.len() >= self.limits.keys && began.elapsed() >= self.limits.at_least;
            if keys && (!watch.offsets.is_empty() || began.elapsed() >= REPORT_EVERY) {
                break None;
            }
            let ready = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(End::Cancelled),
                () = &mut over => break None,
                ready = source.ready() => ready,
            };
            let taken = ready.and_then(|()| {
                source.take(&mut |event| {
                    match event {
                        Event::Packet(packet) => watch.packet(&packet)?,
                        Event::Clock(clock) => watch.clock(&clock),
                    }
                    Ok(())
                })
            });
            if let Err(error) = taken {
                break Some(error);
            }
        };
        match broke_off {
            // Some pictures and then an end are a finding; none are a failure.
            Some(error) if watch.pictures == 0 => Err(error.into()),
            None if watch.pictures == 0 => Err(nothing(&watch, limit, camera, source.garbage()).into()),
            broke_off => {
                let broke_off = broke_off.map(|error| reason(camera, &error));
                Ok(seen::summary(&watch, video, via, camera, broke_off))
            }
        }
    }
}

fn nothing(watch: &Watch, limit: Duration, camera: &Camera, garbage: u64) -> SessionError {
    match watch.last_damage {
        None if garbage > 0 && watch.packets == 0 => SessionError::OnlyGarbage { limit, bytes: garbage },
        Some(source) => SessionError::OnlyDamaged { limit, damaged: watch.damaged, source },
        None if watch.undecodable > 0 => {
            SessionError::NoParameters(u32::try_from(watch.undecodable).unwrap_or(u32::MAX))
        }
        None => SessionError::NoPicture { limit, udp: camera.transport == Transport::Udp },
    }
}

/// It may be the transport that is refused, or that something in between does not let through.
fn may_be_the_transport(error: &SessionError) -> bool {
    match error {
        SessionError::NoPicture { .. } => true,
        other => matches!(other.state(), CameraState::Unsupported(text) if text.contains("transport")),
    }
}

fn failure(camera: &Camera, error: &SessionError) -> Failure {
    let state = error.state();
    let kind = match (&state, error) {
        (_, SessionError::Unreachable { .. }) => "nobody answers".to_owned(),
        (CameraState::AuthFailed, _) => "wants another login".to_owned(),
        (CameraState::NoData, _) => "sends no pictures".to_owned(),
        (CameraState::Unsupported(text) | CameraState::Broken(text), _) => text.clone(),
        (_, error) => match error.status() {
            Some(404) => "has no such path (RTSP status 404)".to_owned(),
            Some(status) => format!("says no (RTSP status {status})"),
            None => "refuses the connection".to_owned(),
        },
    };
    Failure { state: state.name(), kind, reason: reason(camera, error) }
}
