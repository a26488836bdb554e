//! What libavcodec says about the picture that it is decoding.
//!
//! libavcodec repairs what it can (error concealment) and returns the result as if nothing had happened;
//! `avdec_h264` of GStreamer 1.22 passes on neither its error flags nor a switch to make it refuse. The only
//! trace is its log, which gst-libav hands to GStreamer's debug log, category `libav`, on the thread that decodes.
//! So this module listens there. Only messages of level INFO and graver are formatted; they are rare.

use std::cell::RefCell;
use std::sync::Once;

use gstreamer as gst;

/// What was said on this thread since the last [`take`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Parts of the picture were guessed.
    pub(crate) concealed: bool,
    /// The first error.
    pub(crate) error: Option<String>,
}

thread_local! {
    static TROUBLE: RefCell<Trouble> = RefCell::default();
}

/// Forgets and returns what was said on this thread.
pub(crate) fn take() -> Trouble {
    TROUBLE.take()
}

/// Starts to listen; later calls do nothing. To be called once libav's elements are loaded, else there is no
/// category to listen to.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(category) = gst::DebugCategory::get("libav") else {
            tracing::warn!("GStreamer was built without its debug log: damaged pictures are not recognised");
            return;
        };
        // Without a wish of the user, GStreamer's own printer would write each message to stderr.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
        if category.threshold() < gst::DebugLevel::Info {
            category.set_threshold(gst::DebugLevel::Info);
        }
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if level <= gst::DebugLevel::Info
                && category.name() == "libav"
                && let Some(text) = message.get()
            {
                hear(level, text.trim());
            }
        });
    });
}

/// The wording is that of libavcodec 59 (FFmpeg 5.1). A wording that is not known is only an error text.
fn hear(level: gst::DebugLevel, text: &str) {
    TROUBLE.with_borrow_mut(|trouble| {
        if text.starts_with("concealing ") {
            trouble.concealed = true;
        }
        // A broken SEI message (a camera's own overlay data) says nothing about the pixels.
        if level == gst::DebugLevel::Error && trouble.error.is_none() && !text.contains("SEI") {
            trouble.error = Some(text.chars().take(200).collect());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_first_error_and_any_concealment() {
        take();
        hear(gst::DebugLevel::Error, "SEI type 5 size 40 truncated at 24");
        assert_eq!(take(), Trouble::default());
        hear(gst::DebugLevel::Error, "error while decoding MB 1 2, bytestream -5");
        hear(gst::DebugLevel::Error, "another");
        hear(gst::DebugLevel::Info, "concealing 467 DC, 467 AC, 467 MV errors in I frame");
        let trouble = take();
        assert!(trouble.concealed);
        assert_eq!(trouble.error.as_deref(), Some("error while decoding MB 1 2, bytestream -5"));
        assert_eq!(take(), Trouble::default());
    }
}
