//! All cameras of a worker.

use std::sync::Arc;

use fleet::Camera;
use flow::{CameraId, Flow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::account::{self, Account};
use crate::streamer::Streamer;
use crate::turnstile::Turnstile;
use crate::{HealthSink, Policy, Sink};

/// The running sessions. Dropping it ends them at once; [`Ingest::shutdown`] waits for them to say goodbye.
#[derive(Debug)]
pub struct Ingest {
    accounts: Vec<(CameraId, Arc<Account>)>,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    policy: Arc<Policy>,
}

impl Ingest {
    /// Starts a task per camera on the current tokio runtime and returns at once; sessions start at
    /// [`Policy::starts_per_second`]. Cancelling `cancel` ends them as well.
    ///
    /// Pictures carry the (estimated) time of arrival of their last packet as `captured`: the host's clock, later than the
    /// exposure by what the camera's encoder and the network take.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        cameras: impl IntoIterator<Item = Arc<Camera>>,
        policy: Policy,
        sink: Sink,
        health: HealthSink,
        cancel: &CancellationToken,
    ) -> Self {
        let cameras: Vec<_> = cameras.into_iter().collect();
        let (turnstile, seats) = Turnstile::new(&policy, cameras.iter().map(|camera| &**camera));
        let turnstile = Arc::new(turnstile);
        let mut ingest = Self {
            accounts: Vec::with_capacity(cameras.len()),
            tasks: JoinSet::new(),
            cancel: cancel.child_token(),
            policy: Arc::new(policy),
        };
        ingest.tasks.spawn(turnstile.clone().run(ingest.cancel.clone()));
        for (camera, seat) in cameras.into_iter().zip(seats) {
            let account = Arc::new(Account::default());
            ingest.accounts.push((camera.id.clone(), Arc::clone(&account)));
            let streamer = Streamer {
                camera,
                policy: Arc::clone(&ingest.policy),
                turnstile: Arc::clone(&turnstile),
                seat,
                account,
                sink: Arc::clone(&sink),
                health: Arc::clone(&health),
            };
            ingest.tasks.spawn(streamer.run(ingest.cancel.clone()));
        }
        ingest
    }

    /// Pictures received, passed on, and dropped by reason (`not_key`, `too_soon`, `await_key`, `damaged`,
    /// `no_parameters`, `overflow`), all cameras together.
    pub fn counters(&self) -> Flow {
        account::total(self.accounts.iter().map(|(_, account)| &**account))
    }

    /// The same for each camera, in the order in which they were given.
    pub fn camera_counters(&self) -> impl Iterator<Item = (&CameraId, Flow)> {
        self.accounts.iter().map(|(camera, account)| (camera, account.flow()))
    }

    /// Ends all sessions with TEARDOWN and waits for them, [`Policy::shutdown`] at most. Gives the final counters
    /// and how many sessions had to be cut off.
    pub async fn shutdown(mut self) -> (Flow, usize) {
        self.cancel.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(self.policy.shutdown, all_ended).await;
        let cut_off = self.tasks.len();
        if in_time.is_err() {
            tracing::warn!(sessions = cut_off, "sessions did not end within {:?}", self.policy.shutdown);
            self.tasks.shutdown().await;
        }
        (self.counters(), cut_off)
    }
}
