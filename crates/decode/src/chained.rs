//! One camera's stream, decoded in full: which access units may be decoded, and which picture is whose.

use std::collections::VecDeque;
use std::time::Instant;

use flow::{AccessUnit, Codec, FrameId, Pixels, Role, SessionId, Timestamp};

use crate::Fault;
use crate::counters::Reason;
use crate::decoder::{Decoder, Mode, Step};
use crate::device::Means;
use crate::nal::{self, Entry};
use crate::renumber::Renumber;

/// A decoder holds back 16 pictures at most (H.264 section A.3.1, H.265 section A.4.2: MaxDpbSize); an access unit
/// that is still without a picture after twice as many never gets one.
const MAX_WAITING: usize = 32;

/// Pictures that are shown before a recovery point may follow it in the stream by as many as a decoder can reorder. The
/// decoder leaves them out once the one at the recovery point is out.
const MAX_LEADING: u64 = 16;

/// What became of an access unit.
pub(crate) enum Outcome {
    /// A picture to pass on.
    Picture(FrameId, Timestamp, Pixels),
    /// None, for a reason that needs no report.
    Dropped(Reason),
    /// None, and the camera should hear why.
    Refused(FrameId, Reason, Fault),
}

/// An access unit whose picture has not come out yet.
struct Waiting {
    number: u64,
    id: FrameId,
    captured: Timestamp,
    deliver: bool,
    damage: Option<String>,
    bytes: usize,
    /// It may have no picture: it came before the stream was whole, or leads a recovery point.
    excused: bool,
}

/// Between entering a stream at a recovery point and its first whole picture.
struct Recovering {
    /// Pictures that others refer to, up to the recovery point.
    left: u32,
    /// The access unit at the recovery point. What comes out before its picture is not whole.
    point: Option<u64>,
    /// One of the pictures that were held back was wanted.
    owed: bool,
}

/// The decoder of one camera's stream.
pub(crate) struct Chained {
    session: SessionId,
    codec: Codec,
    decoder: Decoder,
    waiting: VecDeque<Waiting>,
    /// Until the next key picture there is nothing to build on.
    needs_key: bool,
    recovering: Option<Recovering>,
    /// The last access unit that may lead the recovery point at which the stream was entered.
    leading_until: u64,
    /// For H.264 that was entered at another picture than IDR.
    renumber: Option<Renumber>,
    pub(crate) last_used: Instant,
}

impl Chained {
    pub(crate) fn new(means: &Means, unit: &AccessUnit) -> Result<Self, Fault> {
        let decoder = Decoder::new(means, unit.codec, Mode::Chained);
        let decoder = decoder.map_err(|e| Fault::Failed(e.to_string()))?;
        Ok(Self {
            session: unit.session,
            codec: unit.codec,
            decoder,
            waiting: VecDeque::new(),
            needs_key: true,
            recovering: None,
            leading_until: 0,
            renumber: None,
            last_used: Instant::now(),
        })
    }

    /// Whether `unit` can be decoded here; another codec needs another decoder.
    pub(crate) fn fits(&self, unit: &AccessUnit) -> bool {
        self.codec == unit.codec
    }

    /// Decodes one access unit. After an error the decoder is of no more use; `abandon` then accounts for what it
    /// still held.
    pub(crate) fn decode(&mut self, unit: AccessUnit, out: &mut Vec<Outcome>) -> Result<(), Fault> {
        self.last_used = Instant::now();
        let broken = unit.session != self.session || unit.lost_before > 0;
        if broken && !self.needs_key {
            self.needs_key = true;
            // What was complete before the break still comes out.
            if let Err(fault) = self.finish(out) {
                out.push(refused(&unit, Reason::Failed, fault.clone()));
                return Err(fault);
            }
        }
        self.session = unit.session;
        if self.needs_key && !unit.key {
            out.push(Outcome::Dropped(Reason::NoKey));
            return Ok(());
        }
        if std::mem::take(&mut self.needs_key) {
            self.leading_until = 0;
            let entry = nal::entry(self.codec, &unit.data);
            self.recovering = match entry {
                Entry::Clean => None,
                Entry::After(left) => Some(Recovering { left, point: None, owed: false }),
            };
            let renumber = || Renumber::new(!matches!(entry, Entry::After(1..)));
            self.renumber = (!nal::is_counted_from_zero(self.codec, &unit.data)).then(renumber);
        } else if let Some(recovering) = &mut self.recovering
            && recovering.point.is_none()
            && nal::is_reference(self.codec, &unit.data)
        {
            recovering.left = recovering.left.saturating_sub(1);
        }

        let deliver = match unit.role {
            Role::Alone => true,
            Role::Chained { deliver } => deliver,
        };
        let (id, captured, bytes) = (id(&unit), unit.captured, unit.data.len());
        let data = match &mut self.renumber {
            Some(renumber) => renumber.access_unit(&unit.data),
            None => unit.data,
        };
        match self.decoder.decode(data) {
            Ok((number, step)) => {
                let early = self.is_early(number);
                // What leans on pictures from before the entry is guessed, and is not passed on anyhow.
                let damage = step.damage.clone().filter(|_| !early);
                let is_point = self.leading_until == number + MAX_LEADING;
                let excused = early || !is_point && number <= self.leading_until;
                let damaged = damage.is_some() && !excused;
                self.waiting.push_back(Waiting { number, id, captured, deliver, damage, bytes, excused });
                self.settle(step, out);
                if damaged {
                    // All that follows would build on guesses.
                    self.needs_key = true;
                    self.finish(out)?;
                }
                Ok(())
            }
            Err(fault) => {
                out.push(Outcome::Refused(id, Reason::Failed, fault.clone()));
                Err(fault)
            }
        }
    }

    /// Notes the recovery point when it has come; whether this access unit comes before the stream is whole, in the
    /// order of decoding or (pictures that are shown before the recovery point) of output.
    fn is_early(&mut self, number: u64) -> bool {
        let Some(recovering) = &mut self.recovering else { return false };
        if recovering.left > 0 {
            return true;
        }
        let point = *recovering.point.get_or_insert(number);
        self.leading_until = point + MAX_LEADING;
        point != number
    }

    /// Puts out what is held back; what does not come out then never will.
    pub(crate) fn finish(&mut self, out: &mut Vec<Outcome>) -> Result<(), Fault> {
        let step = self.decoder.drain()?;
        self.settle(step, out);
        while let Some(waiting) = self.waiting.pop_front() {
            out.push(self.no_picture(waiting));
        }
        Ok(())
    }

    /// The decoder failed: what it held is lost.
    pub(crate) fn abandon(self, fault: &Fault, out: &mut Vec<Outcome>) {
        for waiting in self.waiting {
            out.push(Outcome::Refused(waiting.id, Reason::Failed, fault.clone()));
        }
    }

    fn settle(&mut self, step: Step, out: &mut Vec<Outcome>) {
        for (number, picture) in step.pictures {
            let place = self.waiting.iter().position(|w| w.number == number);
            let Some(waiting) = place.and_then(|place| self.waiting.remove(place)) else {
                tracing::debug!(number, "a second picture of one access unit is ignored");
                continue;
            };
            let mut deliver = waiting.deliver;
            if let Some(recovering) = &mut self.recovering {
                if recovering.point != Some(number) {
                    recovering.owed |= deliver;
                    out.push(Outcome::Dropped(Reason::Recovering));
                    continue;
                }
                deliver |= recovering.owed;
                self.recovering = None;
            }
            out.push(match (waiting.damage, picture) {
                (Some(detail), _) => {
                    let fault = Fault::Damaged { codec: self.codec, detail };
                    Outcome::Refused(waiting.id, Reason::Corrupt, fault)
                }
                (None, Err(why)) => Outcome::Refused(waiting.id, Reason::Corrupt, Fault::Unusable(why)),
                (None, Ok(_)) if !deliver => Outcome::Dropped(Reason::NotWanted),
                (None, Ok(picture)) => Outcome::Picture(waiting.id, waiting.captured, picture),
            });
        }
        while self.waiting.len() > MAX_WAITING {
            if let Some(waiting) = self.waiting.pop_front() {
                out.push(self.no_picture(waiting));
            }
        }
    }

    fn no_picture(&self, waiting: Waiting) -> Outcome {
        if waiting.excused {
            return Outcome::Dropped(Reason::Recovering);
        }
        let detail = waiting.damage.unwrap_or_else(|| "the decoder put out none".to_owned());
        let fault = Fault::NoPicture { codec: self.codec, bytes: waiting.bytes, detail };
        Outcome::Refused(waiting.id, Reason::Corrupt, fault)
    }
}

/// The number of an access unit as that of its picture.
pub(crate) fn id(unit: &AccessUnit) -> FrameId {
    FrameId { camera: unit.camera.clone(), session: unit.session, sequence: unit.sequence }
}

fn refused(unit: &AccessUnit, reason: Reason, fault: Fault) -> Outcome {
    Outcome::Refused(id(unit), reason, fault)
}
