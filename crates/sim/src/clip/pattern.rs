//! A moving test pattern, coded to a wanted bit rate.

use std::time::Duration;

use bytes::Bytes;
use flow::Codec;
use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime};
use gstreamer_app::AppSink;

use super::{Clip, ClipUnit};

/// The encoder is asked again until it comes so close.
const CLOSE_ENOUGH: f64 = 0.03;
const TRIES: u32 = 5;
/// An encoder that gives nothing for so long is given up.
const STALL: ClockTime = ClockTime::from_seconds(20);

/// What a camera's stream is to be like, without anything to be seen in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pattern {
    /// Pixels per row and rows, both even.
    pub size: (u32, u32),
    /// Pictures per second.
    pub fps: u32,
    /// Seconds from one key picture to the next.
    pub key_every: u32,
    /// How long a round is, in key intervals.
    pub keys: u32,
    /// Megabits per second of coded pictures.
    pub mbit: f64,
}

impl Default for Pattern {
    /// A community camera's sub-stream.
    fn default() -> Self {
        Self { size: (704, 576), fps: 25, key_every: 2, keys: 4, mbit: 0.53 }
    }
}

/// A pattern that could not be coded.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot code a test pattern of {mbit} Mbit/s: {reason}; are the GStreamer plug-ins base, good, bad and ugly installed?"
)]
pub struct PatternError {
    mbit: f64,
    reason: String,
}

impl Clip {
    /// A moving test pattern in H.264. Blocks for about a second.
    ///
    /// # Errors
    /// GStreamer or its x264 encoder is missing, or the rate is out of reach for this size.
    pub fn pattern(pattern: &Pattern) -> Result<Self, PatternError> {
        let failed = |reason: String| PatternError { mbit: pattern.mbit, reason };
        gst::init().map_err(|error| failed(error.to_string()))?;
        let mut asked = pattern.mbit;
        let mut clip = code(pattern, asked).map_err(failed)?;
        for _ in 1..TRIES {
            let got = clip.bits_per_second() / 1e6;
            if (got / pattern.mbit - 1.0).abs() <= CLOSE_ENOUGH {
                return Ok(clip);
            }
            asked *= (pattern.mbit / got).clamp(0.2, 5.0);
            clip = code(pattern, asked).map_err(failed)?;
        }
        let got = clip.bits_per_second() / 1e6;
        if (got / pattern.mbit - 1.0).abs() <= 0.2 {
            return Ok(clip);
        }
        Err(failed(format!("the encoder gives {got:.2} Mbit/s")))
    }
}

fn code(pattern: &Pattern, mbit: f64) -> Result<Clip, String> {
    let &Pattern { size: (width, height), fps, key_every, keys, .. } = pattern;
    let (interval, pictures) = (fps * key_every, fps * key_every * keys);
    let kbit = ((mbit * 1e3) as u32).max(1);
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers={pictures} pattern=zone-plate kx2=20 ky2=20 kt=1 \
         ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 \
         ! x264enc bitrate={kbit} pass=cbr key-int-max={interval} bframes=0 speed-preset=superfast threads=1 \
           option-string=\"scenecut=0:min-keyint={interval}:vbv-bufsize={buffer}\" \
         ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
         ! appsink name=sink sync=false max-buffers=64",
        buffer = 4 * kbit,
    ))
    .map_err(|error| error.to_string())?;
    let pipeline = Running(pipeline.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?);
    let sink =
        pipeline.0.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok()).ok_or("no appsink")?;
    pipeline.0.set_state(gst::State::Playing).map_err(|error| error.to_string())?;
    let mut units = Vec::with_capacity(pictures as usize);
    while let Some(sample) = sink.try_pull_sample(STALL) {
        let buffer = sample.buffer().ok_or("a sample without a buffer")?;
        let map = buffer.map_readable().map_err(|error| error.to_string())?;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let pts = Duration::from_secs(1) * units.len() as u32 / fps;
        units.push(ClipUnit { data: Bytes::copy_from_slice(&map), key, pts });
    }
    if units.len() != pictures as usize {
        return Err(format!("{} of {pictures} pictures came out", units.len()));
    }
    let duration = Duration::from_secs(u64::from(key_every * keys));
    Ok(Clip { codec: Codec::H264, width, height, units, duration })
}

/// A pipeline that ends with this value.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        // Ends the encoder's threads; there is nobody left to tell if it fails.
        let _ = self.0.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_its_rate_and_its_key_pictures() {
        for mbit in [0.3, 0.53, 2.0] {
            let clip = Clip::pattern(&Pattern { keys: 2, mbit, ..Pattern::default() }).unwrap();
            let got = clip.bits_per_second() / 1e6;
            assert!((got / mbit - 1.0).abs() < 0.2, "{got} of {mbit} Mbit/s");
            let keys: Vec<usize> = (0..clip.units.len()).filter(|n| clip.units[*n].key).collect();
            assert_eq!((keys, clip.units.len()), (vec![0, 50], 100));
            assert_eq!(clip.duration, Duration::from_secs(4));
        }
    }
}
