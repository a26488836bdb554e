//! The picture that is being put together.

use flow::Codec;

use crate::nal::{self, Slice};
use crate::parameters::Field;
use crate::picture::{Arrival, Damage};

#[derive(Debug)]
pub(crate) struct Current {
    pub ticks: i64,
    pub arrival: Arrival,
    /// Packets were lost right before its first one.
    pub after_loss: bool,
    /// Annex B; parameter sets are elsewhere.
    pub data: Vec<u8>,
    /// Its own parameter sets, Annex B; a key picture gets all that are in force instead.
    pub own_sets: Vec<u8>,
    pub fragment: Option<Fragment>,
    /// Its first slice.
    pub slice: Option<Slice>,
    /// What its recovery point SEI says, if it has one.
    pub recovery: Option<u32>,
    /// No slice so far refers to another picture.
    pub intra: bool,
    /// The one field that it holds, if it is not a frame.
    pub lone_field: Option<Field>,
    /// It is the second field of a frame whose first was a picture of its own.
    pub second_half: bool,
    /// The first of the two fields that it holds.
    first_field: Option<Field>,
    pub damage: Option<Damage>,
    /// Nothing more of it needs to be kept.
    pub skipping: bool,
}

/// A fragmented NAL unit in progress.
#[derive(Debug)]
pub(crate) enum Fragment {
    /// Goes straight to the picture.
    Slice,
    /// Is collected first, because it may hold start codes.
    Other(Vec<u8>),
}

impl Current {
    pub(crate) fn new(ticks: i64, arrival: Arrival, after_loss: bool) -> Self {
        Self {
            ticks,
            arrival,
            after_loss,
            data: Vec::new(),
            own_sets: Vec::new(),
            fragment: None,
            slice: None,
            recovery: None,
            intra: true,
            lone_field: None,
            second_half: false,
            first_field: None,
            damage: None,
            skipping: false,
        }
    }

    /// Something of a picture has come, so that a marker or a new time ends it.
    pub(crate) fn is_picture(&self) -> bool {
        self.slice.is_some() || self.damage.is_some()
    }

    /// Whether decoding may start here. What is looked at by itself must stand alone: IDR, IRAP, or in H.264 any
    /// picture of I slices. A stream that is decoded in full may start at these only where they are announced (an I
    /// slice does not keep later pictures from referring to earlier ones), but also at a recovery point that takes
    /// some pictures to become whole, which is all that a camera with intra refresh has.
    pub(crate) fn is_key(&self, codec: Codec, keys_only: bool) -> bool {
        let Some(slice) = self.slice.filter(|_| !self.second_half) else { return false };
        match keys_only {
            _ if slice.key => true,
            true => codec == Codec::H264 && self.intra,
            false => self.recovery.is_some(),
        }
    }

    /// Whether it can be decoded by itself.
    pub(crate) fn stands_alone(&self, codec: Codec) -> bool {
        self.is_key(codec, true)
    }

    /// Notes the field that a slice belongs to; whether that is the second one here.
    pub(crate) fn add_field(&mut self, field: Option<Field>) -> bool {
        let Some(field) = field else { return false };
        match self.first_field {
            None => {
                self.first_field = Some(field);
                self.lone_field = Some(field);
                false
            }
            Some(first) => {
                let second = field.completes(first);
                if second {
                    self.lone_field = None;
                }
                second
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let collected = match &self.fragment {
            Some(Fragment::Other(unit)) => unit.len(),
            _ => 0,
        };
        self.data.len() + self.own_sets.len() + collected
    }

    pub(crate) fn append(&mut self, unit: &[u8]) {
        if !self.skipping {
            self.data.extend_from_slice(&nal::START_CODE);
            self.data.extend_from_slice(unit);
        }
    }

    pub(crate) fn damaged(&mut self, why: Damage) {
        self.damage.get_or_insert(why);
        self.fragment = None;
        self.skip();
    }

    pub(crate) fn skip(&mut self) {
        self.skipping = true;
        self.data = Vec::new();
    }
}
