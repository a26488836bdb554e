//! Who decodes: libavcodec on the processor, or the hardware of this machine.
//!
//! Plugins register an element only where its device is there, so an element that is found can be used. Motion JPEG is
//! always decoded on the processor.

use fleet::Decoding;
use flow::Codec;
use gstreamer as gst;

use crate::DecodeError;

/// A family of GStreamer decoders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// libavcodec (`avdec_h264`, `avdec_h265`).
    #[default]
    Software,
    /// NVIDIA's NVDEC (`nvh264dec`, `nvh265dec`).
    NvCodec,
    /// VA-API (`vah264dec`, `vah265dec`).
    Va,
    /// Stateless decoders of the Linux kernel (`v4l2slh264dec`, `v4l2slh265dec`).
    V4l2,
}

/// In the order in which `auto` tries them.
const ALL: [Backend; 4] = [Backend::NvCodec, Backend::Va, Backend::V4l2, Backend::Software];

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Backend {
    /// The one that the configuration asks for; GStreamer must have been initialised.
    ///
    /// # Errors
    /// Where one was asked for that is not there, with what is.
    pub(crate) fn choose(asked: Decoding) -> Result<Self, DecodeError> {
        choose(asked, &|element| gst::ElementFactory::find(element).is_some())
    }

    /// The element that decodes `codec`.
    pub(crate) fn element(self, codec: Codec) -> &'static str {
        match (self, codec) {
            (_, Codec::Mjpeg) => "avdec_mjpeg",
            (Self::Software, Codec::H264) => "avdec_h264",
            (Self::Software, Codec::H265) => "avdec_h265",
            (Self::NvCodec, Codec::H264) => "nvh264dec",
            (Self::NvCodec, Codec::H265) => "nvh265dec",
            (Self::Va, Codec::H264) => "vah264dec",
            (Self::Va, Codec::H265) => "vah265dec",
            (Self::V4l2, Codec::H264) => "v4l2slh264dec",
            (Self::V4l2, Codec::H265) => "v4l2slh265dec",
        }
    }

    /// What must stand before it: hardware decoders want to know the size beforehand.
    pub(crate) fn parser(self, codec: Codec) -> Option<&'static str> {
        match (self, codec) {
            (Self::Software, _) | (_, Codec::Mjpeg) => None,
            (_, Codec::H264) => Some("h264parse"),
            (_, Codec::H265) => Some("h265parse"),
        }
    }

    /// Debian's name of the package that holds its elements.
    pub(crate) fn package(self, codec: Codec) -> &'static str {
        match (self, codec) {
            (Self::Software, _) | (_, Codec::Mjpeg) => "gstreamer1.0-libav",
            _ => "gstreamer1.0-plugins-bad",
        }
    }

    /// As the configuration calls it.
    pub(crate) fn name(self) -> &'static str {
        self.asked_as().name()
    }

    fn asked_as(self) -> Decoding {
        match self {
            Self::Software => Decoding::Software,
            Self::NvCodec => Decoding::NvCodec,
            Self::Va => Decoding::Va,
            Self::V4l2 => Decoding::V4l2,
        }
    }

    /// The first of its elements that is not there.
    fn missing(self, there: &dyn Fn(&str) -> bool) -> Option<Codec> {
        let needs = |codec: &Codec| {
            !there(self.element(*codec)) || self.parser(*codec).is_some_and(|parser| !there(parser))
        };
        [Codec::H264, Codec::H265, Codec::Mjpeg].into_iter().find(needs)
    }
}

fn choose(asked: Decoding, there: &dyn Fn(&str) -> bool) -> Result<Backend, DecodeError> {
    let wanted = ALL.into_iter().find(|backend| match asked {
        Decoding::Auto => *backend == Backend::Software || backend.missing(there).is_none(),
        asked => backend.asked_as() == asked,
    });
    let wanted = wanted.unwrap_or_default();
    match wanted.missing(there) {
        None => Ok(wanted),
        Some(codec) if wanted == Backend::Software || codec == Codec::Mjpeg => {
            Err(DecodeError::Missing { element: wanted.element(codec), package: wanted.package(codec) })
        }
        Some(codec) => Err(DecodeError::NoHardware {
            asked: wanted.name(),
            element: wanted.element(codec),
            package: wanted.package(codec),
            there: ALL.iter().filter(|b| b.missing(there).is_none()).map(|b| b.name()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBAV: [&str; 3] = ["avdec_h264", "avdec_h265", "avdec_mjpeg"];
    const PARSERS: [&str; 2] = ["h264parse", "h265parse"];

    fn machine(elements: &[&'static str]) -> impl Fn(&str) -> bool {
        let all: Vec<&'static str> = [&LIBAV, &PARSERS[..], elements].concat();
        move |element| all.contains(&element)
    }

    #[test]
    fn auto_takes_what_does_both_codecs() {
        let auto = |elements| choose(Decoding::Auto, &machine(elements)).unwrap();
        assert_eq!(auto(&[]), Backend::Software);
        assert_eq!(auto(&["vah264dec", "vah265dec"]), Backend::Va);
        assert_eq!(auto(&["nvh264dec", "nvh265dec", "vah264dec", "vah265dec"]), Backend::NvCodec);
        // A board that decodes H.264 only would leave H.265 cameras without pictures.
        assert_eq!(auto(&["v4l2slh264dec"]), Backend::Software);
    }

    #[test]
    fn what_was_asked_for_and_is_missing_is_an_error_that_says_what_is_there() {
        let there = machine(&["vah264dec", "vah265dec", "nvh264dec"]);
        assert_eq!(choose(Decoding::Va, &there).unwrap(), Backend::Va);
        assert_eq!(choose(Decoding::Software, &there).unwrap(), Backend::Software);
        let error = choose(Decoding::NvCodec, &there).unwrap_err().to_string();
        assert_eq!(
            error,
            "node.decoder asks for nvcodec, but its GStreamer element `nvh265dec` is not there: the hardware, its driver \
             or gstreamer1.0-plugins-bad is missing (there are: va, software)"
        );
        let error = choose(Decoding::Software, &|_| false).unwrap_err().to_string();
        assert!(error.contains("avdec_h264") && error.contains("gstreamer1.0-libav"), "{error}");
        // Nothing to decode with at all is no reason to blame the hardware.
        let error = choose(Decoding::Auto, &|_| false).unwrap_err().to_string();
        assert!(error.contains("avdec_h264"), "{error}");
    }
}
