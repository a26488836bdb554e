//! What waits for a second model's word before it begins, and what that model has rejected.

use std::time::Duration;

use fleet::Confirm;
use flow::{Event, NormBox, Timestamp};

use super::situation::Situation;
use crate::story::Story;

/// Rejected things that are remembered in one zone.
const MAX_DOUBTS: usize = 64;

/// Things, each with since when it stands: a later time means that it has moved.
pub(crate) type Subject = Vec<(u64, Timestamp)>;

/// A situation that would begin with the look just taken.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub subject: Subject,
    /// Around its things, and what else belongs to them.
    pub place: NormBox,
    pub begun: Begun,
    /// Its first event, as it will be told.
    pub event: Event,
    pub answered: bool,
}

/// A situation, ready to be opened.
#[derive(Debug, Clone)]
pub(crate) enum Begun {
    Things(Situation),
    Zone(Story),
}

impl Candidate {
    pub fn new(subject: Subject, place: NormBox, begun: Begun, event: Event) -> Self {
        Self { subject, place, begun, event, answered: false }
    }

    pub fn has(&self, thing: u64) -> bool {
        self.subject.iter().any(|(id, _)| *id == thing)
    }
}

/// What a second model has rejected and still stands. Saved with the camera's state.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Doubts {
    list: Vec<Doubt>,
    /// Situations held back so far; each counts once, however often it was asked about.
    rejected: u32,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Doubt {
    subject: Subject,
    tries: u32,
    asked: Timestamp,
}

impl Doubt {
    fn is_about(&self, subject: &Subject) -> bool {
        subject.iter().all(|thing| self.subject.contains(thing))
    }
}

impl Doubts {
    /// Whether nobody is asked about these things now: they were rejected so often, or not long ago, and nothing has
    /// joined them since.
    pub fn silence(&self, confirm: &Confirm, subject: &Subject, now: Timestamp) -> bool {
        let rested = |doubt: &Doubt| since(doubt.asked, now) >= confirm.again_after;
        let about = self.list.iter().filter(|doubt| doubt.is_about(subject));
        about.into_iter().any(|doubt| doubt.tries >= confirm.tries || !rested(doubt))
    }

    /// These things were rejected.
    pub fn reject(&mut self, subject: &Subject, now: Timestamp) {
        if let Some(doubt) = self.list.iter_mut().find(|doubt| doubt.is_about(subject)) {
            (doubt.tries, doubt.asked) = (doubt.tries + 1, now);
            return;
        }
        self.rejected = self.rejected.saturating_add(1);
        // With more things beside them it is another question.
        self.list.retain(|doubt| !doubt.subject.iter().all(|thing| subject.contains(thing)));
        self.list.push(Doubt { subject: subject.clone(), tries: 1, asked: now });
        let excess = self.list.len().saturating_sub(MAX_DOUBTS);
        self.list.drain(..excess);
    }

    /// Forgets what has left: `stands` says whether this thing still stands since then.
    pub fn forget(&mut self, stands: impl Fn(u64, Timestamp) -> bool) {
        for doubt in &mut self.list {
            doubt.subject.retain(|(thing, since)| stands(*thing, *since));
        }
        self.list.retain(|doubt| !doubt.subject.is_empty());
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    pub fn rejected(&self) -> u32 {
        self.rejected
    }
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(then).unsigned_abs()
}

/// Around all of them; `None` where there are none.
pub(crate) fn around<'b>(boxes: impl IntoIterator<Item = &'b NormBox>) -> Option<NormBox> {
    let union = |a: NormBox, b: NormBox| {
        let (x0, y0) = (a.x0().min(b.x0()), a.y0().min(b.y0()));
        NormBox::clamped(x0, y0, a.x1().max(b.x1()), a.y1().max(b.y1())).unwrap_or(a)
    };
    boxes.into_iter().copied().reduce(union)
}

/// The box with `margin` of its width and height more on every side, within the picture.
pub(crate) fn widened(place: &NormBox, margin: f32) -> NormBox {
    let (dx, dy) = (place.width() * margin, place.height() * margin);
    let wide = NormBox::clamped(place.x0() - dx, place.y0() - dy, place.x1() + dx, place.y1() + dy);
    wide.unwrap_or(*place)
}

#[cfg(test)]
mod tests {
    use flow::{ClassName, ModelId};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn who_is_rejected_is_asked_about_again_until_the_tries_are_used_up() {
        let confirm = Confirm::new(ModelId::new("m").unwrap(), vec![ClassName::new("vendor")]);
        let (mut doubts, cart) = (Doubts::default(), vec![(1, at(0))]);
        assert!(!doubts.silence(&confirm, &cart, at(10)));
        for n in 0..3 {
            let now = 10 + 30 * n;
            assert!(!doubts.silence(&confirm, &cart, at(now)));
            doubts.reject(&cart, at(now));
            assert!(doubts.silence(&confirm, &cart, at(now + 29)));
        }
        assert!(doubts.silence(&confirm, &cart, at(100_000)), "three times is enough");
        assert_eq!(doubts.rejected(), 1);
        // What joins makes it another question; what is left of that group is none.
        let with_goods = vec![(1, at(0)), (2, at(50))];
        assert!(!doubts.silence(&confirm, &with_goods, at(101)));
        doubts.reject(&with_goods, at(101));
        assert!(doubts.silence(&confirm, &cart, at(102)) && doubts.silence(&confirm, &with_goods, at(102)));
        assert_eq!(doubts.rejected(), 2);
        // It has moved: it stands since later.
        doubts.forget(|thing, since| thing == 2 && since == at(50));
        assert!(!doubts.silence(&confirm, &cart, at(103)));
        doubts.forget(|_, _| false);
        assert!(!doubts.silence(&confirm, &with_goods, at(103)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut doubts = Doubts::default();
        (0..1_000).for_each(|thing| doubts.reject(&vec![(thing, at(0))], at(1)));
        assert_eq!(doubts.list.len(), MAX_DOUBTS);
    }

    #[test]
    fn the_crop_is_around_all_of_it_and_stays_in_the_picture() {
        let boxes = [[0.1, 0.1, 0.2, 0.3], [0.15, 0.2, 0.5, 0.4]]
            .map(|[a, b, c, d]| NormBox::new(a, b, c, d).unwrap());
        let all = around(&boxes).unwrap();
        assert_eq!(all.to_array(), [0.1, 0.1, 0.5, 0.4]);
        let wide = widened(&all, 0.5).to_array();
        assert!(wide.iter().zip([0.0, 0.0, 0.7, 0.55]).all(|(a, b)| (a - b).abs() < 1e-6), "{wide:?}");
        assert_eq!(around(&[]), None);
    }
}
