//! What is known about each camera, merged from the stages: `ingest` says how its session does, `decode` and `infer`
//! say when a picture could not be used, and the pictures themselves say when they show nothing. Keeps the account of
//! every camera's time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flow::{CameraId, CameraState, Coverage, Health, Luma, Minutes, Timestamp};

use crate::picture_health::{Limits, Nothing, PictureHealth};

/// Measured rates alone are published this often; everything else at once.
const PUBLISH_EVERY: Duration = Duration::from_secs(60);

/// The newest health of every camera.
pub struct Board {
    limits: Limits,
    cameras: Mutex<BTreeMap<CameraId, Entry>>,
}

/// Situations that were seen and not told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Of the last 24 hours, beyond a rule's `cap_per_day`.
    pub by_cap: u32,
    /// That second models have rejected, since the camera's state is kept.
    pub by_second_model: u32,
}

impl HeldBack {
    /// In words, each part where there is one.
    fn notes(self) -> impl Iterator<Item = String> {
        let cap = format!("{} situation(s) beyond a rule's cap_per_day are not told", self.by_cap);
        let model = format!("a second model has held back {} situation(s)", self.by_second_model);
        [(self.by_cap, cap), (self.by_second_model, model)]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(_, note)| note)
    }
}

/// A camera's health, and its time by state.
#[derive(Debug, Clone)]
pub struct Known {
    /// As merged from all stages.
    pub health: Health,
    /// What its rules do not tell.
    pub held_back: HeldBack,
    /// Since the program began to watch it.
    pub minutes: Minutes,
}

struct Entry {
    /// As `ingest` put it.
    health: Health,
    /// Pictures that a later stage could not use.
    bad: u64,
    /// How many of them when `ingest` last spoke.
    bad_before: u64,
    /// What was wrong with the last one.
    why: String,
    pictures: PictureHealth,
    /// What the pictures show, if nothing, and since when.
    nothing: Option<(Nothing, Timestamp)>,
    /// What the scene says of the camera, if it is not as it should be, and since when.
    suspended: Option<(String, Timestamp)>,
    /// What its rules do not tell.
    held_back: HeldBack,
    coverage: Coverage,
    published: Option<(Health, Instant)>,
}

impl Entry {
    fn new(health: Health, limits: Limits, now: Instant) -> Self {
        Self {
            coverage: Coverage::new(&health.state, now),
            health,
            bad: 0,
            bad_before: 0,
            why: String::new(),
            pictures: PictureHealth::new(limits),
            nothing: None,
            suspended: None,
            held_back: HeldBack::default(),
            published: None,
        }
    }

    /// What to publish: a stream that flows but cannot be used says so for as long as that goes on.
    fn merged(&self) -> Health {
        let mut health = self.health.clone();
        if !health.state.is_watched() {
            return health;
        }
        let notes = self.held_back.notes().chain([health.note]).filter(|note| !note.is_empty());
        health.note = notes.collect::<Vec<_>>().join("; ");
        let overlay = match (&self.nothing, &self.suspended) {
            (Some((nothing, since)), _) => Some((nothing.state(), nothing.to_string(), *since)),
            (None, Some((why, since))) => Some((CameraState::Suspended(why.clone()), why.clone(), *since)),
            (None, None) => None,
        };
        if let Some((state, reason, since)) = overlay {
            (health.state, health.since) = (state, since);
            let said = std::mem::replace(&mut health.reason, reason);
            if !said.is_empty() {
                health.reason += "; ";
                health.reason += &said;
            }
        } else if self.bad > self.bad_before && health.reason.is_empty() {
            health.reason = format!("{} picture(s) could not be used; the last: {}", self.bad, self.why);
        }
        health
    }

    /// A stream that is over was not watched since its last picture, though that is known only now.
    fn ended(&mut self, health: &Health, now: Instant) {
        let silent =
            health.last_picture.and_then(|last| Timestamp::now().duration_since(last).try_into().ok());
        let since = silent.and_then(|silent: Duration| now.checked_sub(silent));
        if let Some(since) = since.filter(|_| self.health.state.has_pictures()) {
            self.coverage.enter_since(&health.state, since, now);
        }
    }

    /// Brings the account up to date.
    fn settle(&mut self, now: Instant) -> Known {
        let health = self.merged();
        self.coverage.enter(&health.state, now);
        Known { health, held_back: self.held_back, minutes: self.coverage.at(now) }
    }

    /// The same if it is news.
    fn news(&mut self, now: Instant) -> Option<Known> {
        let known = self.settle(now);
        let news = match &self.published {
            None => true,
            Some((last, at)) => {
                now.saturating_duration_since(*at) >= PUBLISH_EVERY || !is_same(last, &known.health)
            }
        };
        if news {
            self.published = Some((known.health.clone(), now));
        }
        news.then_some(known)
    }
}

/// Nothing but measured values changed, and none of them came or went.
fn is_same(a: &Health, b: &Health) -> bool {
    let known = |h: &Health| (h.fps.is_some(), h.key_interval_s.is_some(), h.clock_offset_s.is_some());
    let said = |h: &Health| (h.state.name(), h.since, h.via);
    known(a) == known(b)
        && said(a) == said(b)
        && same_words(&a.reason, &b.reason)
        && same_words(&a.note, &b.note)
}

/// Texts say measured values as well; another number is no news.
fn same_words(a: &str, b: &str) -> bool {
    fn words(text: &str) -> impl Iterator<Item = char> {
        text.chars().filter(|c| !c.is_ascii_digit() && *c != '.')
    }
    words(a).eq(words(b))
}

impl Board {
    /// A board on which every camera is being connected to, from now on: its time counts, whatever happens.
    pub fn new(cameras: impl Iterator<Item = CameraId>, limits: Limits, now: Instant) -> Self {
        let entry = |camera: CameraId| {
            let health = Health::new(camera.clone(), CameraState::Connecting, "", Timestamp::now());
            (camera, Entry::new(health, limits, now))
        };
        Self { limits, cameras: Mutex::new(cameras.map(entry).collect()) }
    }

    /// Takes what `ingest` says; what should be published.
    pub fn session(&self, health: Health, now: Instant) -> Option<Known> {
        self.with(&health.camera.clone(), now, |entry| {
            // A new session shows its pictures anew; until then the old judgement would be a guess.
            if !health.state.has_pictures() {
                entry.ended(&health, now);
                entry.pictures = PictureHealth::new(self.limits);
                entry.nothing = None;
            }
            entry.health = health;
            let news = entry.news(now);
            entry.bad_before = entry.bad;
            news
        })
    }

    /// Takes a picture that could not be used. To be published where it is news: the first, and then each time that
    /// the number has doubled.
    pub fn bad_picture(&self, camera: &CameraId, why: &str, now: Instant) -> Option<Known> {
        self.with(camera, now, |entry| {
            entry.bad += 1;
            entry.why = why.to_owned();
            entry.bad.is_power_of_two().then(|| entry.settle(now))
        })
    }

    /// Takes a picture that was decoded. To be published where it changes what is said about the camera.
    pub fn picture(&self, camera: &CameraId, luma: &Luma, now: Instant) -> Option<Known> {
        self.with(camera, now, |entry| {
            let nothing = entry.pictures.judge(luma, now);
            if nothing == entry.nothing.map(|(nothing, _)| nothing) {
                return None;
            }
            entry.nothing = nothing.map(|nothing| (nothing, Timestamp::now()));
            entry.news(now)
        })
    }

    /// Takes what the scene says of the camera: why its zones are suspended, if they are, and how many situations are
    /// held back. To be published where it is news.
    pub fn scene(
        &self,
        camera: &CameraId,
        suspended: Option<String>,
        held_back: HeldBack,
        now: Instant,
    ) -> Option<Known> {
        self.with(camera, now, |entry| {
            entry.held_back = held_back;
            entry.suspended = suspended.map(|why| match entry.suspended.take() {
                Some((before, since)) if before == why => (why, since),
                _ => (why, Timestamp::now()),
            });
            entry.news(now)
        })
    }

    /// Everything known, by camera.
    pub fn all(&self, now: Instant) -> Vec<Known> {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        cameras.values_mut().map(|entry| entry.settle(now)).collect()
    }

    fn with<T>(&self, camera: &CameraId, now: Instant, work: impl FnOnce(&mut Entry) -> T) -> T {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        let entry = cameras.entry(camera.clone()).or_insert_with(|| {
            let health = Health::new(camera.clone(), CameraState::Connecting, "", Timestamp::now());
            Entry::new(health, self.limits, now)
        });
        work(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> (Board, CameraId, Instant) {
        let camera = CameraId::new("c").unwrap();
        let now = Instant::now();
        (Board::new([camera.clone()].into_iter(), Limits::default(), now), camera, now)
    }

    fn streaming(camera: &CameraId) -> Health {
        Health {
            fps: Some(8.0),
            key_interval_s: Some(2.0),
            ..Health::new(camera.clone(), CameraState::Streaming, "", Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn a_flood_of_bad_pictures_is_told_now_and_then() {
        let (board, camera, now) = board();
        board.session(streaming(&camera), now);
        let told = (0..1000).filter_map(|_| board.bad_picture(&camera, "no picture came out", now)).count();
        assert_eq!(told, 10);
        assert!(board.all(now)[0].health.reason.starts_with("1000 picture(s)"));
    }

    #[test]
    fn a_stream_that_cannot_be_used_says_so_until_it_can() {
        let (board, camera, now) = board();
        let speaks = || board.session(streaming(&camera), now).map(|known| known.health.reason);
        assert_eq!(speaks().as_deref(), Some(""));
        board.bad_picture(&camera, "no picture came out", now);
        assert!(speaks().unwrap().contains("no picture came out"));
        assert_eq!(speaks().as_deref(), Some(""), "none since ingest last spoke");
        assert_eq!(speaks(), None, "no news");
    }

    #[test]
    fn rates_alone_are_published_once_a_minute() {
        let (board, camera, now) = board();
        let at = |seconds| now + Duration::from_secs(seconds);
        let told = (1..=12).filter(|n| {
            let reason = format!("key pictures are {n}.0 s apart");
            let health = Health { fps: Some(*n as f32), reason, ..streaming(&camera) };
            board.session(health, at(n * 10)).is_some()
        });
        assert_eq!(told.collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn a_black_picture_overlays_streaming_alone_and_goes_away_by_itself() {
        let (board, camera, now) = board();
        let at = |seconds| now + Duration::from_secs(seconds);
        let grey = |level: u8| Luma::from_cells(4, 3, (0..12).map(|n| level + n % 2).collect()).unwrap();
        board.session(streaming(&camera), at(1));
        let told: Vec<_> = (1..=100).filter_map(|s| board.picture(&camera, &grey(17), at(s))).collect();
        assert_eq!(told.len(), 1, "told once");
        assert_eq!(told[0].health.state, CameraState::Dark);
        assert_eq!(board.all(at(100))[0].health.state.name(), "dark");
        // Rates that come in between do not change it; a session that breaks off does.
        let between = board.session(streaming(&camera), at(101));
        assert!(between.is_none_or(|known| known.health.state == CameraState::Dark));
        let broken = Health {
            last_picture: Some(Timestamp::now() - Duration::from_secs(4)),
            ..Health::new(camera.clone(), CameraState::NoData, "gone", Timestamp::UNIX_EPOCH)
        };
        assert_eq!(board.session(broken, at(110)).unwrap().health.state, CameraState::NoData);
        board.session(streaming(&camera), at(120));
        assert_eq!(board.all(at(120))[0].health.state, CameraState::Streaming);
        // Whatever it was called, the time adds up.
        let minutes = board.all(at(130))[0].minutes;
        assert_eq!(minutes.total(), Duration::from_secs(130));
        assert_eq!(minutes.by_state().map(|(_, spent)| spent).sum::<Duration>(), minutes.total());
        assert_eq!(minutes.of("connecting"), Duration::from_secs(1));
        // The last picture came four seconds before that was noticed.
        assert!((13..=14).contains(&minutes.of("no_data").as_secs()), "{minutes:?}");
        assert!((44..=46).contains(&minutes.of("dark").as_secs()), "{minutes:?}");
    }

    #[test]
    fn a_moved_camera_is_suspended_and_what_is_held_back_is_noted() {
        let (board, camera, now) = board();
        board.session(streaming(&camera), now);
        let told = board
            .scene(&camera, Some("the camera has moved".to_owned()), HeldBack::default(), now)
            .unwrap()
            .health;
        assert_eq!((told.state.name(), told.reason.as_str()), ("suspended", "the camera has moved"));
        assert!(
            board.scene(&camera, Some("the camera has moved".to_owned()), HeldBack::default(), now).is_none(),
            "no news"
        );
        let held_back = HeldBack { by_cap: 3, by_second_model: 0 };
        let told = board.scene(&camera, None, held_back, now).unwrap().health;
        assert_eq!(told.state, CameraState::Streaming);
        assert_eq!(told.note, "3 situation(s) beyond a rule's cap_per_day are not told");
        let held_back = HeldBack { by_second_model: 1, ..held_back };
        let told = board.scene(&camera, None, held_back, now).unwrap();
        assert!(told.health.note.ends_with("not told; a second model has held back 1 situation(s)"));
        assert_eq!(told.held_back, held_back, "the numbers, for who counts");
        let more = HeldBack { by_second_model: 2, ..held_back };
        assert!(board.scene(&camera, None, more, now).is_none(), "another number alone is no news");
        assert_eq!(board.all(now)[0].held_back, more);
    }
}
