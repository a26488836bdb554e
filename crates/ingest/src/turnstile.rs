//! Lets cameras wait for their turn to set up a session. Whose turn it is, [`Turns`] decides; here are the tasks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fleet::Camera;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Policy;
use crate::turns::{Next, Outcome, Pass, Seat, Ticket, Trouble, Turns};

/// Shared by all cameras.
#[derive(Debug)]
pub(crate) struct Turnstile {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    turns: Turns,
    waiting: HashMap<Ticket, watch::Sender<Signal>>,
}

/// What one that waits is told.
#[derive(Debug, Clone)]
enum Signal {
    Wait(Option<Arc<Trouble>>),
    Go(Pass),
}

impl Turnstile {
    /// For these cameras; the seats are theirs in the same order.
    pub(crate) fn new<'a>(policy: &Policy, cameras: impl Iterator<Item = &'a Camera>) -> (Self, Vec<Seat>) {
        let (turns, seats) = Turns::new(policy, cameras, now(), fastrand::Rng::new());
        let state = Mutex::new(State { turns, waiting: HashMap::new() });
        (Self { state, changed: Notify::new() }, seats)
    }

    /// Lets one after the other begin, until cancelled. Without it, nobody's turn comes.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            let next = self.let_in();
            let pause = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.changed.notified() => {}
                () = pause => {}
            }
        }
    }

    /// Waits for a turn; `on_trouble` hears why that takes long.
    pub(crate) async fn enter(&self, seat: Seat, mut on_trouble: impl FnMut(&Trouble)) -> Turn<'_> {
        let (mut waiting, trouble) = {
            let mut state = self.lock();
            let (ticket, trouble) = state.turns.ask(seat, now());
            let (sender, signal) = watch::channel(Signal::Wait(trouble.clone()));
            state.waiting.insert(ticket, sender);
            (Waiting { turnstile: self, seat, ticket, signal, over: false }, trouble)
        };
        self.changed.notify_one();
        if let Some(trouble) = trouble {
            on_trouble(&trouble);
        }
        loop {
            // The sender lives in `state.waiting` until it has sent `Go`.
            let _ = waiting.signal.changed().await;
            let signal = waiting.signal.borrow_and_update().clone();
            match signal {
                Signal::Wait(trouble) => trouble.iter().for_each(|trouble| on_trouble(trouble)),
                Signal::Go(pass) => {
                    waiting.over = true;
                    return Turn { turnstile: self, pass, phase: Phase::SettingUp };
                }
            }
        }
    }

    /// Lets all begin that may, and says when to look again.
    fn let_in(&self) -> Option<Instant> {
        let mut state = self.lock();
        loop {
            match state.turns.next(now()) {
                Next::Go(ticket, pass) => {
                    let sender = state.waiting.remove(&ticket);
                    if sender.is_none_or(|waiting| waiting.send(Signal::Go(pass)).is_err()) {
                        state.turns.ended(pass, Outcome::Cancelled, now());
                    }
                }
                Next::At(at) => return Some(at),
                Next::Nobody => return None,
            }
        }
    }

    fn ended(&self, pass: Pass, outcome: Outcome) -> bool {
        let mut state = self.lock();
        let consequence = state.turns.ended(pass, outcome, now());
        if !consequence.tell.is_empty() {
            let trouble = state.turns.trouble(pass.seat());
            for waiting in consequence.tell.iter().filter_map(|ticket| state.waiting.get(ticket)) {
                waiting.send_replace(Signal::Wait(trouble.clone()));
            }
        }
        drop(state);
        self.changed.notify_one();
        consequence.host_waits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is under this lock is whole between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Leaves the line when the camera gives up.
struct Waiting<'a> {
    turnstile: &'a Turnstile,
    seat: Seat,
    ticket: Ticket,
    signal: watch::Receiver<Signal>,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.turnstile.lock();
        if state.waiting.remove(&self.ticket).is_some() {
            return state.turns.forget(self.seat, self.ticket);
        }
        drop(state);
        let signal = self.signal.borrow().clone();
        if let Signal::Go(pass) = signal {
            self.turnstile.ended(pass, Outcome::Cancelled);
        }
    }
}

/// Held while a session is being set up and while it plays.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turnstile: &'a Turnstile,
    pass: Pass,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    SettingUp,
    Playing,
    Over,
}

impl Turn<'_> {
    /// PLAY was answered: the next one may begin.
    pub(crate) fn plays(&mut self) {
        if self.phase == Phase::SettingUp {
            self.phase = Phase::Playing;
            self.turnstile.ended(self.pass, Outcome::Playing);
        }
    }

    /// The session failed. `outcome` says how its set-up ended, and counts only if it never played. `true`: the host
    /// waits, so the camera need not beyond that.
    pub(crate) fn failed(mut self, outcome: Outcome) -> bool {
        if self.phase != Phase::SettingUp {
            return false;
        }
        self.phase = Phase::Over;
        self.turnstile.ended(self.pass, outcome)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match self.phase {
            Phase::SettingUp => drop(self.turnstile.ended(self.pass, Outcome::Cancelled)),
            Phase::Playing => self.turnstile.lock().turns.left(self.pass.seat()),
            Phase::Over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flow::CameraState;

    use super::*;
    use crate::testing::camera;

    fn turnstile(policy: Policy, urls: &[&str]) -> (Arc<Turnstile>, Vec<Seat>) {
        let cameras: Vec<_> = urls.iter().map(|url| camera("c", url)).collect();
        let (turnstile, seats) = Turnstile::new(&policy, cameras.iter());
        let turnstile = Arc::new(turnstile);
        tokio::spawn(turnstile.clone().run(CancellationToken::new()));
        (turnstile, seats)
    }

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn starts_are_spaced_and_a_slow_host_holds_up_only_itself() {
        let policy = Policy { starts_per_second: 10, setups_per_host: 2, ..Policy::default() };
        let (turnstile, seats) = turnstile(policy, &["rtsp://10.0.0.1/a", "rtsp://10.0.0.2/b"]);
        let began = tokio::time::Instant::now();
        let first = turnstile.enter(seats[0], |_| {}).await;
        let second = turnstile.enter(seats[0], |_| {}).await;
        let apart = began.elapsed();
        assert!((Duration::from_millis(80)..=Duration::from_millis(110)).contains(&apart), "{apart:?}");
        let third = tokio::time::timeout(Duration::from_secs(60), turnstile.enter(seats[0], |_| {})).await;
        assert!(third.is_err(), "two at a time at one host");
        drop(tokio::time::timeout(PATIENCE, turnstile.enter(seats[1], |_| {})).await.expect("not held up"));
        drop((first, second));
        drop(tokio::time::timeout(PATIENCE, turnstile.enter(seats[0], |_| {})).await.expect("free again"));
        assert!(turnstile.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_for_a_host_hear_why_and_go_on_when_it_answers() {
        let policy = Policy { setups_per_host: 1, ..Policy::default() };
        let (turnstile, seats) = turnstile(policy, &["rtsp://10.0.0.1/a"]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let first = turnstile.enter(seats[0], |_| {}).await;
        let other = {
            let (turnstile, seat, heard) = (turnstile.clone(), seats[0], heard.clone());
            tokio::spawn(async move {
                let mut turn =
                    turnstile.enter(seat, |trouble| heard.lock().unwrap().push(trouble.reason.clone())).await;
                turn.plays();
            })
        };
        tokio::task::yield_now().await;
        let trouble = Trouble { state: CameraState::Refused, reason: "closed".into() };
        assert!(first.failed(Outcome::NoAnswer(trouble)), "the host waits");
        tokio::time::timeout(PATIENCE, other).await.expect("its turn comes").unwrap();
        assert_eq!(*heard.lock().unwrap(), ["closed"]);
        assert!(turnstile.enter(seats[0], |_| panic!("all is well")).await.phase == Phase::SettingUp);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_up_while_it_is_let_in_leaves_no_trace() {
        let policy = Policy { setups_per_host: 1, ..Policy::default() };
        let (turnstile, seats) = turnstile(policy, &["rtsp://10.0.0.1/a"]);
        let seat = seats[0];
        for _ in 0..20 {
            let enter = turnstile.enter(seat, |_| {});
            tokio::select! {
                biased;
                () = async { for _ in 0..fastrand::u8(..4) { tokio::task::yield_now().await } } => {}
                turn = enter => drop(turn),
            }
        }
        let turn = tokio::time::timeout(PATIENCE, turnstile.enter(seat, |_| {})).await.expect("still free");
        drop(turn);
        assert!(turnstile.lock().waiting.is_empty());
    }
}
