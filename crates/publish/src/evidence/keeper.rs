//! What happens to pictures in the background: those whose time is over are deleted, and where a store is configured,
//! the others go there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flow::{EventId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::outbox::{Outbox, OutboxError, Waiting};

/// How often pictures are looked for whose time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// How often pictures are looked for that are to go to the store.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A store that is down is tried again after at most this long.
const MAX_BACKOFF: Duration = Duration::from_secs(120);
/// Pictures that go to the store in one turn.
const PER_TURN: usize = 8;

/// How the store is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreState {
    /// What it said last, where it is down.
    pub error: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Pictures that it has taken since the start.
    pub stored: u64,
    /// Pictures that it has deleted since the start.
    pub deleted: u64,
}

/// Shared with who asks.
pub(crate) type SharedStoreState = Arc<Mutex<StoreState>>;

/// The background task.
pub(crate) struct Keeper {
    pub outbox: Arc<Outbox>,
    pub store: Option<Store>,
    pub state: SharedStoreState,
}

/// Why a turn did not go through.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("{0}")]
    Store(String),
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Keeper {
    /// Until `stop`. What it leaves undone waits on disk for the next start.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let mut next_sweep = Instant::now();
        let mut failures = 0;
        loop {
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_EVERY;
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "evidence whose time is over is deleted later");
                }
            }
            let mut wait = next_sweep.saturating_duration_since(Instant::now());
            if let Some(store) = &self.store {
                wait = wait.min(match self.turn(store).await {
                    Ok(0) => LOOK_EVERY,
                    Ok(_) => Duration::ZERO,
                    Err(error) => {
                        failures += 1;
                        self.down(&error);
                        backoff(failures)
                    }
                });
                if self.lock().error.is_none() {
                    failures = 0;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Deletes what is due.
    async fn sweep(&self) -> Result<(), TurnError> {
        while self.blocking(|outbox| outbox.sweep(Timestamp::now())).await? > 0 {}
        Ok(())
    }

    /// Carries some pictures to the store, and deletes some there; how many. The first that fails ends the turn: what
    /// one picture meets, the next would meet too.
    async fn turn(&self, store: &Store) -> Result<usize, TurnError> {
        let gone = self.blocking(|outbox| outbox.gone_from_store(PER_TURN)).await?;
        for (event, name) in &gone {
            self.delete(store, *event, name).await?;
        }
        let waiting = self.blocking(|outbox| outbox.waiting_for_store(PER_TURN)).await?;
        for picture in &waiting {
            self.carry(store, picture).await?;
        }
        let count = gone.len() + waiting.len();
        if count > 0 {
            self.up();
        }
        Ok(count)
    }

    async fn carry(&self, store: &Store, picture: &Waiting) -> Result<(), TurnError> {
        let (event, name) = (picture.event, picture.name.clone());
        let files = self.blocking(move |outbox| outbox.picture_files(event, &name)).await?;
        if files.is_empty() && store.get(event, &format!("{}.jpg", picture.name)).await.is_err() {
            // Whoever removed it did so behind our back; the chain will tell.
            tracing::error!(%event, name = picture.name, "an evidence picture is gone before the store had it");
        }
        // The picture last: where it is, the others are.
        for (end, bytes) in files {
            store.put(event, &format!("{}.{end}", picture.name), bytes).await.map_err(TurnError::Store)?;
        }
        let reference = store.reference(event, &format!("{}.jpg", picture.name));
        let picture = picture.clone();
        self.blocking(move |outbox| outbox.stored(&picture, reference)).await?;
        self.lock().stored += 1;
        Ok(())
    }

    async fn delete(&self, store: &Store, event: EventId, name: &str) -> Result<(), TurnError> {
        for end in super::folder::ENDS {
            store.delete(event, &format!("{name}.{end}")).await.map_err(TurnError::Store)?;
        }
        let name = name.to_owned();
        self.blocking(move |outbox| outbox.deleted_from_store(event, &name)).await?;
        self.lock().deleted += 1;
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, TurnError> {
        let outbox = self.outbox.clone();
        Ok(tokio::task::spawn_blocking(move || work(&outbox)).await??)
    }

    fn down(&self, error: &TurnError) {
        let mut state = self.lock();
        let text = error.to_string();
        if state.error.is_none() {
            tracing::warn!(error = text, "the evidence store is down; pictures wait on disk");
            state.since = Some(Timestamp::now());
        }
        state.error = Some(text);
    }

    fn up(&self) {
        let mut state = self.lock();
        if state.error.take().is_some() {
            state.since = None;
            tracing::info!("the evidence store is back");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 1 s, 2 s, 4 s … two minutes, each up to half as much longer: a county's workers do not come back at once.
fn backoff(failures: u32) -> Duration {
    let whole = Duration::from_secs(1 << failures.saturating_sub(1).min(7)).min(MAX_BACKOFF);
    whole.mul_f64(1.0 + fastrand::f64() / 2.0)
}
