//! The two fields of an interlaced frame that were sent as two pictures (H.264 only) become one again.
//!
//! A field alone decodes to a frame of which every second line is missing or old, and its second field mostly refers
//! to the first, so neither may go on without the other.

use std::collections::VecDeque;

use crate::parameters::Field;
use crate::picture::{Content, Damage, Picture};

/// Holds the first field of a frame back until the second one has come.
#[derive(Debug, Default)]
pub(crate) struct Pairing {
    half: Option<(Picture, Field)>,
}

impl Pairing {
    /// Takes a picture and gives what is complete to `ready`. `field`: it is that field and nothing more.
    pub(crate) fn add(&mut self, picture: Picture, field: Option<Field>, ready: &mut VecDeque<Picture>) {
        if let Some((first, half)) = self.half.take() {
            if field.is_some_and(|field| field.completes(half)) {
                return ready.push_back(joined(first, picture));
            }
            ready.push_back(unpaired(first, &picture));
        }
        match field {
            Some(field) => self.half = Some((picture, field)),
            None => ready.push_back(picture),
        }
    }

    /// Whether a slice of this field belongs to the frame that is waiting for it.
    pub(crate) fn is_completed_by(&self, field: Option<Field>) -> bool {
        match (&self.half, field) {
            (Some((first, half)), Some(field)) => {
                matches!(first.content, Content::Coded { .. }) && field.completes(*half)
            }
            _ => false,
        }
    }
}

fn joined(first: Picture, second: Picture) -> Picture {
    let content = match (first.content, second.content) {
        (Content::Damaged(damage), _) | (_, Content::Damaged(damage)) => Content::Damaged(damage),
        (Content::Coded { key, stands_alone, skipped_leading, data }, Content::Coded { data: more, .. }) => {
            Content::Coded { key, stands_alone, skipped_leading, data: [data, more].concat().into() }
        }
        (Content::NoParameters, _) | (_, Content::NoParameters) => Content::NoParameters,
        (Content::NotKey, _) | (_, Content::NotKey) => Content::NotKey,
    };
    Picture {
        ticks: first.ticks,
        arrival: second.arrival,
        lost_before: first.lost_before.saturating_add(second.lost_before),
        content,
    }
}

/// A stream may hold single fields; where packets are missing, it is the other field that is missing.
fn unpaired(first: Picture, next: &Picture) -> Picture {
    let whole = first.lost_before == 0 && next.lost_before == 0;
    match first.content {
        Content::Coded { .. } if !whole => Picture { content: Content::Damaged(Damage::Loss), ..first },
        _ => first,
    }
}
