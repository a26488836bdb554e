//! A GStreamer sample → [`Pixels`].

use bytes::Bytes;
use flow::{Codec, HostPicture, Matrix, Pixels, Plane};
use gst_video::{VideoColorMatrix, VideoColorRange, VideoConverter, VideoFormat, VideoFrame, VideoInfo};
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::device::Accelerator;

/// Beyond these a picture is refused before memory is spent on it (see [`HostPicture::new`]).
const MAX_SIDE: u32 = 16_384;

/// Turns samples into pictures. I420 is passed on as it is, without a copy, and so is what may stay on an accelerator; what
/// else decoders give (4:2:2, 4:4:4, grey, more than 8 bits) is converted.
pub(crate) struct Converter {
    codec: Codec,
    accelerator: Option<Accelerator>,
    /// For the last format that had to be converted.
    last: Option<(VideoInfo, VideoConverter)>,
}

impl Converter {
    pub(crate) fn new(codec: Codec, accelerator: Option<Accelerator>) -> Self {
        Self { codec, accelerator, last: None }
    }

    /// `Err` says why the sample cannot be used.
    pub(crate) fn picture(&mut self, caps: &gst::CapsRef, buffer: gst::Buffer) -> Result<Pixels, String> {
        let info = VideoInfo::from_caps(caps).map_err(|_| format!("not raw video: {caps}"))?;
        if info.width() > MAX_SIDE || info.height() > MAX_SIDE {
            return Err(format!("{}x{} is larger than {MAX_SIDE}x{MAX_SIDE}", info.width(), info.height()));
        }
        let colour = match self.codec {
            Codec::H264 | Codec::H265 => {
                (matrix(&info), info.colorimetry().range() == VideoColorRange::Range0_255)
            }
            // JFIF knows no other, and decoders forget to say so for grey pictures.
            Codec::Mjpeg => (Matrix::Bt601, true),
        };
        if info.format() == VideoFormat::I420 {
            return planar(&info, buffer, colour).map(Pixels::Host);
        }
        if let Some(accelerator) = &self.accelerator
            && let Some(kept) = accelerator.keep(caps, &info, &buffer, colour)
        {
            return Ok(Pixels::Device(kept));
        }
        let (info, buffer) = self.convert(&info, buffer)?;
        planar(&info, buffer, colour).map(Pixels::Host)
    }

    fn convert(&mut self, from: &VideoInfo, buffer: gst::Buffer) -> Result<(VideoInfo, gst::Buffer), String> {
        let fail = |what: &str| format!("{} to I420: {what}", from.format());
        if self.last.as_ref().is_none_or(|(known, _)| known != from) {
            let to = VideoInfo::builder(VideoFormat::I420, from.width(), from.height())
                .fps(from.fps())
                .interlace_mode(from.interlace_mode())
                .colorimetry(&target_colorimetry(from))
                .build()
                .map_err(|_| fail("no such format"))?;
            let converter = VideoConverter::new(from, &to, None).map_err(|_| fail("no converter"))?;
            self.last = Some((from.clone(), converter));
        }
        let (_, converter) = self.last.as_mut().ok_or_else(|| fail("no converter"))?;
        let to = converter.out_info().clone();
        let source = VideoFrame::from_buffer_readable(buffer, from).map_err(|_| fail("cannot map"))?;
        let target = gst::Buffer::with_size(to.size()).map_err(|_| fail("no memory"))?;
        let mut target = VideoFrame::from_buffer_writable(target, &to).map_err(|_| fail("cannot map"))?;
        converter.frame(&source, &mut target);
        Ok((to, target.into_buffer()))
    }
}

/// Keeps matrix and range; RGB (H.264 4:4:4 with matrix 0) has none to keep.
fn target_colorimetry(from: &VideoInfo) -> gst_video::VideoColorimetry {
    let given = from.colorimetry();
    let (matrix, range) = if given.matrix() == VideoColorMatrix::Rgb {
        let matrix = if from.height() > 576 { VideoColorMatrix::Bt709 } else { VideoColorMatrix::Bt601 };
        (matrix, VideoColorRange::Range16_235)
    } else {
        (given.matrix(), given.range())
    };
    gst_video::VideoColorimetry::new(range, matrix, given.transfer(), given.primaries())
}

/// What the stream says; else the usual one for its height. BT.2020 has no variant of its own: BT.709 is closest.
fn matrix(info: &VideoInfo) -> Matrix {
    match info.colorimetry().matrix() {
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc | VideoColorMatrix::Smpte240m => Matrix::Bt601,
        VideoColorMatrix::Bt709 | VideoColorMatrix::Bt2020 => Matrix::Bt709,
        _ if info.height() > 576 => Matrix::Bt709,
        _ => Matrix::Bt601,
    }
}

/// The three planes as views of the decoder's own buffer, which goes back to its pool when the last view is gone.
fn planar(info: &VideoInfo, buffer: gst::Buffer, colour: (Matrix, bool)) -> Result<HostPicture, String> {
    let mut layout = [(0, 0); 3];
    match buffer.meta::<gst_video::VideoMeta>() {
        Some(meta) if meta.n_planes() == 3 => {
            for (plane, place) in layout.iter_mut().enumerate() {
                *place = (meta.offset()[plane], meta.stride()[plane]);
            }
        }
        _ => {
            for (plane, place) in layout.iter_mut().enumerate() {
                *place = (info.offset()[plane], info.stride()[plane]);
            }
        }
    }
    let mapped = buffer.into_mapped_buffer_readable().map_err(|_| "cannot map the decoder's buffer")?;
    let all = Bytes::from_owner(mapped);
    let mut planes = Vec::with_capacity(3);
    for (index, (offset, stride)) in layout.into_iter().enumerate() {
        let stride = usize::try_from(stride).map_err(|_| format!("plane {index}: stride {stride}"))?;
        let rows = (info.height() as usize).div_ceil(if index == 0 { 1 } else { 2 });
        let end = stride.checked_mul(rows).and_then(|n| n.checked_add(offset)).unwrap_or(usize::MAX);
        if offset > all.len() {
            return Err(format!("plane {index} starts at {offset} of {} bytes", all.len()));
        }
        planes.push(Plane { data: all.slice(offset..end.min(all.len())), stride });
    }
    let planes: [Plane; 3] = planes.try_into().map_err(|_| "not three planes")?;
    HostPicture::new(info.width(), info.height(), planes, colour.0, colour.1).map_err(|e| e.to_string())
}
