//! One camera: a session after the other, for as long as the program wants it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::Camera;
use flow::CameraState;
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::error::{SessionError, reason};
use crate::health::Reporter;
use crate::session::{Context, Ended, run_once};
use crate::source::Route;
use crate::turns::{Outcome, Seat, Trouble};
use crate::turnstile::Turnstile;
use crate::watching::{Stream, Watching};
use crate::{Backoff, HealthSink, Policy, Sink};

/// Keeps one camera's session alive.
pub(crate) struct Streamer {
    pub camera: Arc<Camera>,
    pub policy: Arc<Policy>,
    pub turnstile: Arc<Turnstile>,
    pub seat: Seat,
    pub account: Arc<Account>,
    pub sink: Sink,
    pub health: HealthSink,
}

impl Streamer {
    /// Runs sessions until cancelled, and waits between them.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut route = Route::new(&self.camera);
        let other = self.camera.other_url.clone().map(|url| Camera { url, ..(*self.camera).clone() });
        let mut watching = Watching::new(&self.camera.look, other.is_some(), self.policy.long_keys_retry);
        let mut reporter = Reporter::new(self.camera.id.clone(), Arc::clone(&self.health));
        let mut backoff = Backoff::default();
        // Why the first of the ways that were tried in a row failed.
        let mut first = None;
        reporter.change(CameraState::Connecting, String::new());
        loop {
            let turn = self.turnstile.enter(self.seat, |trouble| {
                reporter.change(trouble.state.clone(), trouble.reason.clone());
            });
            let Some(mut turn) = cancel.run_until_cancelled(turn).await else { return };
            let camera = match (watching.stream(), &other) {
                (Stream::Other, Some(other)) => other,
                _ => &self.camera,
            };
            let mut streaming_since = None;
            let mut plays = || turn.plays();
            let session = run_once(Context {
                camera,
                policy: &self.policy,
                account: &self.account,
                sink: &self.sink,
                cancel: &cancel,
                reporter: &mut reporter,
                watching: &mut watching,
                route: &route,
                plays: &mut plays,
                streaming_since: &mut streaming_since,
            });
            // Cameras send what they like; should that make the RTSP library panic, it must cost this camera alone.
            let ended = AssertUnwindSafe(session)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(SessionError::Panicked(panic_text(panic.as_ref()))));
            let error = match ended {
                Ok(Ended::Cancelled) => return,
                Ok(Ended::Switched) => continue,
                Err(error) => error,
            };
            let reason = reason(camera, &error);
            let host_waits = turn.failed(outcome(&error, &reason));
            if streaming_since.is_some() {
                route.works();
            }
            if route.failed(&error) {
                tracing::info!(camera = %self.camera.id, via = route.via().name(), "{reason}");
                first.get_or_insert((error.state(), reason));
                continue;
            }
            watching.failed(streaming_since.is_some(), Instant::now());
            if streaming_since.is_some_and(|since| since.elapsed() >= self.policy.steady_after) {
                backoff.reset();
            }
            // Where the host waits, its cameras wait with it.
            let wait = match host_waits {
                true => Duration::ZERO,
                false => backoff.after_failure(&self.policy, error.is_auth(), fastrand::f64()),
            };
            // Where all ways failed, what the first one met says most.
            let (state, reason) = match (first.take(), &error) {
                (Some((state, first)), SessionError::Rtspsrc(_) | SessionError::Silent { .. })
                    if !error.is_auth() =>
                {
                    (state, format!("{first}; then {reason}"))
                }
                _ => (error.state(), reason),
            };
            // A camera that goes on failing in the same way has been told about.
            if reporter.change(state, reason.clone()) {
                tracing::warn!(camera = %self.camera.id, ?wait, host_waits, "{reason}");
            } else {
                tracing::debug!(camera = %self.camera.id, ?wait, host_waits, "{reason}");
            }
            if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }
}

/// What a failed set-up means for the other cameras of the host.
pub(crate) fn outcome(error: &SessionError, reason: &str) -> Outcome {
    let trouble = |what: &str| Trouble { state: error.state(), reason: format!("{what}; {reason}") };
    if error.is_auth() {
        Outcome::LoginRefused(trouble("waits, since its host refused the same log-in twice"))
    } else if error.nobody_answered() {
        Outcome::NoAnswer(trouble("waits, since its host does not answer"))
    } else {
        Outcome::Failed
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
