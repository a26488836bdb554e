//! Which message comes next: the part of the outbox that is in memory, read ahead of the broker.
//!
//! Each situation is a line: its first message is sent, the others wait until that has its PUBACK. A line whose first
//! message was refused rests for a while. So that neither a long outage nor a long line fills the memory, only the
//! first [`CAPACITY`] messages are here, of one line at most [`PER_LINE`]; the rest is read when there is room.
//! A pure structure: what it knows came from the database and is told to it by the one thread that owns that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::rows::{Kind, Message, Page};

/// Messages in memory, at most (a group more, for a moment).
pub(super) const CAPACITY: usize = 2_048;
/// Bytes of their bodies, likewise.
const CAPACITY_BYTES: usize = 16 << 20;
/// Messages of one line in memory, at most.
pub(super) const PER_LINE: usize = 32;
/// So many resting lines, and nothing further is read: a broker that refuses that much refuses everything.
const RESTING_MAX: usize = 65_536;

/// A line to be read on from the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hungry {
    pub line: Arc<str>,
    /// Its messages up to here were sent.
    pub after: i64,
}

/// How often a message was acknowledged before, and its id.
type Place = (u32, i64);

fn place(message: &Message) -> Place {
    (message.repeats, message.id)
}

#[derive(Debug, Default)]
pub(super) struct Ahead {
    lines: HashMap<Arc<str>, Line>,
    /// The first message of each line that may be sent: what was not sent yet first, then the oldest first.
    ready: BTreeMap<Place, Arc<str>>,
    under_way: HashSet<Arc<str>>,
    /// Lines that rest, by the time (ms) when that ends.
    resting: BTreeSet<(i64, Arc<str>)>,
    hungry: Vec<Hungry>,
    messages: usize,
    bytes: usize,
    /// All rows up to this id were seen: they are here, or their line knows that it has `more`.
    cursor: i64,
    /// There are rows beyond the cursor.
    behind: bool,
}

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<Message>,
    rests_until: Option<i64>,
    /// Rows of this line were left on disk.
    more: bool,
    /// The last that left the line.
    last: i64,
}

impl Ahead {
    /// Of an outbox with rows to read.
    pub fn new() -> Self {
        Self { behind: true, ..Self::default() }
    }

    /// Takes what was read beyond the cursor.
    pub fn read(&mut self, page: Page) {
        for (message, rests_until) in page.rows {
            self.append(message, rests_until);
        }
        (self.cursor, self.behind) = (page.cursor, !page.end);
    }

    /// Takes rows that were just written, in their order: here if there is room and nothing older was left on disk.
    pub fn written(&mut self, rows: Vec<Message>) {
        if self.behind || !self.has_room() {
            self.behind |= !rows.is_empty();
            return;
        }
        for row in rows {
            self.cursor = row.id;
            self.append(row, 0);
        }
    }

    /// Takes the rows of a line that were left on disk, up to the cursor; `end`: all of them.
    pub fn feed(&mut self, line: &Arc<str>, rows: Vec<Message>, end: bool) {
        let Some(entry) = self.lines.get_mut(line) else { return };
        entry.more = false;
        for row in rows {
            self.append(row, 0);
        }
        let Some(entry) = self.lines.get_mut(line) else { return };
        entry.more |= !end;
        if entry.queue.is_empty() && !entry.more {
            self.lines.remove(line);
        }
    }

    fn append(&mut self, message: Message, rests_until: i64) {
        let key = message.line.clone();
        let line = self.lines.entry(key.clone()).or_default();
        if line.more || line.queue.len() >= PER_LINE {
            line.more = true;
            return;
        }
        self.messages += 1;
        self.bytes += message.payload.len();
        let place = place(&message);
        line.queue.push_back(message);
        if line.queue.len() > 1 || line.rests_until.is_some() || self.under_way.contains(&key) {
            return;
        }
        if rests_until > 0 {
            line.rests_until = Some(rests_until);
            self.resting.insert((rests_until, key));
        } else {
            self.ready.insert(place, key);
        }
    }

    /// The cursor, where rows beyond it are to be read now.
    pub fn wants_rows(&self) -> Option<i64> {
        (self.behind && self.has_room() && self.resting.len() < RESTING_MAX).then_some(self.cursor)
    }

    /// Rows were written that were not told one by one.
    pub fn more_on_disk(&mut self) {
        self.behind = true;
    }

    /// The cursor.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Lines to read on now.
    pub fn take_hungry(&mut self) -> Vec<Hungry> {
        std::mem::take(&mut self.hungry)
    }

    /// One that could not be read on.
    pub fn hungry_again(&mut self, hungry: Hungry) {
        self.hungry.push(hungry);
    }

    /// Whether [`take_hungry`](Self::take_hungry) would give any.
    pub fn is_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    fn has_room(&self) -> bool {
        self.messages < CAPACITY && self.bytes < CAPACITY_BYTES
    }

    /// Up to `n` messages to send now, one per line, what was sent before last. They are under way from now on.
    pub fn take(&mut self, n: usize, now: i64) -> Vec<Message> {
        self.wake_rested(now);
        let mut taken = Vec::with_capacity(n.min(self.ready.len()));
        while taken.len() < n
            && let Some((_, key)) = self.ready.pop_first()
        {
            if let Some(first) = self.lines.get(&key).and_then(|line| line.queue.front()) {
                taken.push(Message { sent: Some(Instant::now()), ..first.clone() });
                self.under_way.insert(key);
            }
        }
        taken
    }

    fn wake_rested(&mut self, now: i64) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.resting.pop_first() else { return };
            let Some(line) = self.lines.get_mut(&key) else { continue };
            line.rests_until = None;
            if let Some(first) = line.queue.front() {
                self.ready.insert(place(first), key);
            }
        }
    }

    /// A message left: the next of its line may be sent.
    pub fn gone(&mut self, message: &Message) {
        let Some(line) = self.lines.get_mut(&message.line) else { return };
        if line.queue.front().is_none_or(|first| first.id != message.id) {
            return;
        }
        line.queue.pop_front();
        line.last = message.id;
        self.messages -= 1;
        self.bytes -= message.payload.len();
        self.under_way.remove(&message.line);
        self.advance(&message.line);
    }

    fn advance(&mut self, key: &Arc<str>) {
        let Some(line) = self.lines.get(key) else { return };
        match line.queue.front() {
            Some(first) => drop(self.ready.insert(place(first), key.clone())),
            None if line.more => self.hungry.push(Hungry { line: key.clone(), after: line.last }),
            None => drop(self.lines.remove(key)),
        }
    }

    /// A message under way was refused: its line rests until `until`. A picture steps out of its situation's line, whose
    /// event does not wait for it.
    pub fn refused(&mut self, message: &Message, until: i64) {
        let picture = message.kind == Kind::Evidence && message.line.as_ref() == message.event;
        if picture {
            self.gone(message);
            self.append(Message { line: message.line_of_its_own(), ..message.clone() }, until);
        } else if self.under_way.remove(&message.line)
            && let Some(line) = self.lines.get_mut(&message.line)
        {
            line.rests_until = Some(until);
            self.resting.insert((until, message.line.clone()));
        }
    }

    /// The connection is gone: what was under way is to be sent again.
    pub fn disconnected(&mut self) {
        for key in std::mem::take(&mut self.under_way) {
            if let Some(first) = self.lines.get(&key).and_then(|line| line.queue.front()) {
                self.ready.insert(place(first), key);
            }
        }
    }

    /// These rows were removed from the disk unsent. One that is under way stays until its PUBACK.
    pub fn removed(&mut self, line: &str, ids: &[i64]) {
        let Some((key, line)) = self.lines.get_key_value(line).map(|(key, _)| key.clone()).and_then(|key| {
            let line = self.lines.get_mut(&key)?;
            Some((key, line))
        }) else {
            return;
        };
        let sent = self.under_way.contains(&key);
        let first = line.queue.front().map(place);
        let (messages, bytes) = (&mut self.messages, &mut self.bytes);
        line.queue.retain(|message| {
            let stays = !ids.contains(&message.id) || (sent && Some(place(message)) == first);
            if !stays {
                *messages -= 1;
                *bytes -= message.payload.len();
            }
            stays
        });
        let now = line.queue.front().map(place);
        if now == first || sent {
            return;
        }
        if let Some(first) = first {
            self.ready.remove(&first);
        }
        if line.rests_until.is_some() && now.is_some() {
            return;
        }
        if let Some(until) = line.rests_until.take() {
            self.resting.remove(&(until, key.clone()));
        }
        self.advance(&key);
    }

    /// When the next resting line is due, ms since 1970.
    #[cfg(test)]
    pub fn next_due(&self) -> Option<i64> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Every message is in exactly one place, and the sums agree.
    #[cfg(test)]
    fn check_invariants(&self) {
        let messages: usize = self.lines.values().map(|line| line.queue.len()).sum();
        let bytes: usize = self.lines.values().flat_map(|l| &l.queue).map(|m| m.payload.len()).sum();
        assert_eq!((self.messages, self.bytes), (messages, bytes));
        for (key, line) in &self.lines {
            assert!(line.queue.len() <= PER_LINE);
            let first = line.queue.front().map(place);
            let places = [
                first.is_some_and(|id| self.ready.get(&id) == Some(key)),
                self.under_way.contains(key),
                line.rests_until.is_some_and(|until| self.resting.contains(&(until, key.clone()))),
                self.hungry.iter().any(|h| h.line == *key),
            ];
            assert_eq!(places.iter().filter(|there| **there).count(), 1, "{key}: {places:?}");
            assert!(line.queue.iter().zip(line.queue.iter().skip(1)).all(|(a, b)| a.id < b.id));
        }
        let heads = self.ready.len() + self.under_way.len() + self.resting.len() + self.hungry.len();
        assert_eq!(heads, self.lines.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: i64, event: &str, kind: Kind) -> Message {
        Message {
            id,
            line: event.into(),
            event: event.into(),
            sequence: 0,
            kind,
            topic: format!("t/{id}"),
            payload: bytes::Bytes::from_static(b"body"),
            sha256: None,
            repeats: 0,
            submitted: None,
            stored: None,
            sent: None,
        }
    }

    fn event(id: i64, event: &str) -> Message {
        message(id, event, Kind::Event)
    }

    fn ids(messages: &[Message]) -> Vec<i64> {
        messages.iter().map(|m| m.id).collect()
    }

    fn page(messages: Vec<Message>, end: bool) -> Page {
        let cursor = messages.last().map_or(0, |m| m.id);
        Page { rows: messages.into_iter().map(|m| (m, 0)).collect(), cursor, end }
    }

    fn with(messages: Vec<Message>) -> Ahead {
        let mut ahead = Ahead::new();
        ahead.read(page(messages, true));
        ahead.check_invariants();
        ahead
    }

    #[test]
    fn one_message_of_each_line_is_under_way_and_the_oldest_come_first() {
        let mut ahead = with(vec![event(1, "a"), event(2, "b"), event(3, "a"), event(4, "c")]);
        assert_eq!(ids(&ahead.take(2, 0)), [1, 2]);
        assert_eq!(ids(&ahead.take(9, 0)), [4]);
        ahead.check_invariants();
        ahead.gone(&event(1, "a"));
        assert_eq!(ids(&ahead.take(9, 0)), [3]);
        // All that was under way comes again, in order; what was acknowledged does not.
        ahead.disconnected();
        assert_eq!(ids(&ahead.take(9, 0)), [2, 3, 4]);
        [event(2, "b"), event(3, "a"), event(4, "c")].iter().for_each(|m| ahead.gone(m));
        ahead.check_invariants();
        assert_eq!((ahead.lines.len(), ahead.messages, ahead.bytes), (0, 0, 0));
    }

    #[test]
    fn what_was_sent_before_waits_for_what_is_new_but_for_its_own_line() {
        let repeated = |id, line: &str, repeats| Message { repeats, ..event(id, line) };
        let mut ahead =
            with(vec![repeated(1, "a", 2), repeated(2, "b", 1), event(3, "b"), event(4, "c"), event(5, "a")]);
        assert_eq!(ids(&ahead.take(1, 0)), [4]);
        assert_eq!(ids(&ahead.take(1, 0)), [2]);
        ahead.gone(&repeated(2, "b", 1));
        assert_eq!(ids(&ahead.take(9, 0)), [3, 1], "3 is new, 5 follows 1");
        ahead.check_invariants();
        ahead.removed("a", &[5]);
        ahead.disconnected();
        assert_eq!(ids(&ahead.take(9, 0)), [3, 4, 1]);
    }

    #[test]
    fn a_refused_event_holds_up_its_line_and_a_refused_picture_does_not() {
        let mut ahead =
            with(vec![message(1, "a", Kind::Evidence), event(2, "a"), event(3, "b"), event(4, "b")]);
        ahead.take(2, 0);
        ahead.refused(&message(1, "a", Kind::Evidence), 500);
        ahead.refused(&event(3, "b"), 600);
        ahead.check_invariants();
        assert_eq!(ids(&ahead.take(9, 499)), [2]);
        assert_eq!(ahead.next_due(), Some(500));
        let picture = ahead.take(9, 500);
        assert_eq!(ids(&picture), [1], "the picture by itself");
        assert_eq!(ids(&ahead.take(9, 600)), [3]);
        // Refused once more, it rests once more.
        ahead.refused(&picture[0], 900);
        ahead.check_invariants();
        assert_eq!(ids(&ahead.take(9, 900)), [1]);
    }

    #[test]
    fn what_was_replaced_is_not_sent_unless_it_is_under_way() {
        let mut ahead = with(vec![event(1, "a"), event(2, "a"), event(3, "b"), event(4, "b")]);
        ahead.removed("a", &[2]);
        ahead.removed("b", &[3]);
        ahead.removed("nobody", &[7]);
        ahead.check_invariants();
        assert_eq!(ids(&ahead.take(9, 0)), [1, 4]);
        ahead.removed("a", &[1]);
        ahead.check_invariants();
        ahead.gone(&event(1, "a"));
        ahead.check_invariants();
        // The last of a resting line.
        ahead.refused(&event(4, "b"), 500);
        ahead.removed("b", &[4]);
        ahead.check_invariants();
        assert!(ahead.lines.is_empty() && ahead.next_due().is_none());
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten_or_overtaken() {
        // A disk with a long line, many short ones, and a broker that sometimes breaks off.
        let mut disk: Vec<Message> = (1..=9_000)
            .map(|id| event(id, &if id % 3 == 0 { "long".into() } else { format!("s{}", id / 9) }))
            .collect();
        let mut ahead = Ahead::new();
        let mut sent: HashMap<String, Vec<i64>> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(6);
        let mut written = 3_000;
        while !disk.is_empty() {
            if random.u8(..) < 40 && written < 9_000 {
                let new = disk.iter().filter(|m| m.id > written && m.id <= written + 60).cloned().collect();
                written += 60;
                ahead.written(new);
            }
            if let Some(cursor) = ahead.wants_rows() {
                let visible = || disk.iter().filter(|m| m.id > cursor && m.id <= written);
                let rows: Vec<_> = visible().take(200).cloned().collect();
                let end = rows.len() < 200;
                let read = page(rows, end);
                ahead.read(Page { cursor: read.cursor.max(cursor), ..read });
            }
            for Hungry { line, after } in ahead.take_hungry() {
                let here = |m: &&Message| m.line == line && m.id > after && m.id <= ahead.cursor();
                let rows: Vec<_> = disk.iter().filter(here).take(PER_LINE).cloned().collect();
                let end = rows.len() < PER_LINE;
                ahead.feed(&line, rows, end);
            }
            for message in ahead.take(random.usize(..40), 0) {
                if random.u8(..) < 3 {
                    ahead.disconnected();
                    break;
                }
                sent.entry(message.event.clone()).or_default().push(message.id);
                ahead.gone(&message);
                disk.retain(|m| m.id != message.id);
            }
            ahead.check_invariants();
            assert!(ahead.messages < CAPACITY + 200);
        }
        assert_eq!(sent.values().map(Vec::len).sum::<usize>(), 9_000);
        assert!(sent.values().all(|ids| ids.is_sorted()));
    }
}
