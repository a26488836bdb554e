//! Pictures that stand alone: a few decoders, each for one codec and the size that it decoded last.
//!
//! A decoder takes any size, but a change costs it more than a small picture does (about 2 ms: libavcodec's tables and
//! GStreamer's buffers are made anew). Cameras of all sizes come in random order, so a worker keeps one decoder
//! per size, for the sizes that are used most recently.

use std::collections::HashMap;

use bytes::Bytes;
use flow::{Codec, Pixels};

use crate::Fault;
use crate::decoder::{Decoder, Mode};
use crate::device::{Means, size_of};
use crate::nal;
use crate::renumber::Renumber;

/// Decoders per worker at most. Cameras come in few sizes: 704×576, 720p, 1080p, 4 and 8 megapixels.
pub(crate) const MAX_DECODERS: usize = 6;
/// Sequence parameter sets whose size is remembered; cameras of one model and setting share theirs.
const MAX_KNOWN: usize = 1024;

type Size = (u32, u32);

struct Slot {
    codec: Codec,
    size: Option<Size>,
    decoder: Decoder,
}

/// One worker's decoders for pictures that stand alone.
#[derive(Default)]
pub(crate) struct Alone {
    /// The most recently used one is last.
    slots: Vec<Slot>,
    means: Means,
    /// Size by hash of the sequence parameter set, learned from the pictures.
    known: HashMap<u64, Size>,
}

impl Alone {
    /// With decoders of this kind.
    pub(crate) fn new(means: Means) -> Self {
        Self { means, ..Self::default() }
    }

    /// Decodes one picture by itself. After a failure its decoder is gone, and the next picture gets a new one.
    pub(crate) fn decode(&mut self, codec: Codec, data: Bytes) -> Result<Pixels, Fault> {
        let sps = nal::check_alone(codec, &data).map_err(Fault::NotAlone)?;
        let size = self.known.get(&sps).copied();
        let mut slot = self.take(codec, size)?;
        let bytes = data.len();
        let data = if nal::is_counted_from_zero(codec, &data) {
            data
        } else {
            Renumber::new(true).access_unit(&data)
        };
        let (number, step) = slot.decoder.decode(data)?;
        let own = step.pictures.into_iter().find(|(of, _)| *of == number).map(|(_, picture)| picture);
        if let Some(Ok(picture)) = &own {
            slot.size = Some(size_of(picture));
            self.learn(sps, slot.size);
        }
        self.slots.push(slot);
        if let Some(detail) = step.damage {
            return Err(Fault::Damaged { codec, detail });
        }
        let detail = step.error.unwrap_or_else(|| "the decoder put out none".to_owned());
        own.ok_or(Fault::NoPicture { codec, bytes, detail })?.map_err(Fault::Unusable)
    }

    /// The decoder of this size; else a new one; else the one that was not used for longest.
    fn take(&mut self, codec: Codec, size: Option<Size>) -> Result<Slot, Fault> {
        let fits = |slot: &Slot| slot.codec == codec && (slot.size == size || size.is_none());
        if let Some(index) = self.slots.iter().rposition(fits) {
            return Ok(self.slots.remove(index));
        }
        if self.slots.len() >= MAX_DECODERS {
            match self.slots.iter().position(|slot| slot.codec == codec) {
                Some(index) => return Ok(self.slots.remove(index)),
                None => drop(self.slots.remove(0)),
            }
        }
        let decoder =
            Decoder::new(&self.means, codec, Mode::Alone).map_err(|e| Fault::Failed(e.to_string()))?;
        Ok(Slot { codec, size: None, decoder })
    }

    fn learn(&mut self, sps: u64, size: Option<Size>) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.extend(size.map(|size| (sps, size)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::coded;

    #[test]
    fn a_decoder_that_fails_is_rebuilt() {
        let (mut alone, data) = (Alone::default(), coded());
        alone.decode(Codec::H264, data.clone()).unwrap();
        alone.slots[0].decoder.break_down();
        let fault = alone.decode(Codec::H264, data.clone()).unwrap_err();
        assert!(matches!(&fault, Fault::Failed(why) if why.contains("Could not decode stream")), "{fault}");
        assert!(alone.slots.is_empty());
        assert_eq!(size_of(&alone.decode(Codec::H264, data).unwrap()), (64, 48));
    }

    #[test]
    fn a_decoder_that_hangs_is_rebuilt() {
        let (mut alone, data) = (Alone::default(), coded());
        alone.decode(Codec::H264, data.clone()).unwrap();
        alone.slots[0].decoder.hang();
        let fault = alone.decode(Codec::H264, data.clone()).unwrap_err();
        assert!(matches!(fault, Fault::Deadline(_)), "{fault}");
        assert_eq!(size_of(&alone.decode(Codec::H264, data).unwrap()), (64, 48));
    }
}
