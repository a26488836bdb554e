//! What can go wrong.

use std::time::Duration;

use flow::Codec;

/// The pool cannot be built on this machine.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// GStreamer itself.
    #[error("GStreamer does not start: {0}")]
    Init(String),
    /// A plugin that is not installed.
    #[error("GStreamer element `{element}` is missing: install {package}")]
    Missing {
        /// Name of the element.
        element: &'static str,
        /// Debian's name of the package that holds it.
        package: &'static str,
    },
    /// Hardware that the configuration asks for.
    #[error(
        "node.decoder asks for {asked}, but its GStreamer element `{element}` is not there: the hardware, its driver or \
         {package} is missing (there are: {})", .there.join(", ")
    )]
    NoHardware {
        /// What was asked for.
        asked: &'static str,
        /// Name of the element.
        element: &'static str,
        /// Debian's name of the package that holds it.
        package: &'static str,
        /// What could be asked for here.
        there: Vec<&'static str>,
    },
    /// Pictures were to stay on a GPU, and what that takes does not work.
    #[error(
        "node.pictures asks for accelerator, but {library} cannot be used: {reason} (it comes with {}; without it, leave \
         node.pictures at main_memory)", from(.library)
    )]
    Cuda {
        /// Which library.
        library: &'static str,
        /// Why.
        reason: String,
    },
    /// Pictures were to stay on a GPU by whose decoder they are not decoded.
    #[error(
        "node.pictures asks for accelerator, but {backend} decodes: only nvcodec can leave pictures where they are (say \
         node.decoder: nvcodec, or leave node.pictures at main_memory)"
    )]
    NotThere {
        /// What decodes.
        backend: &'static str,
    },
    /// The operating system refuses a thread.
    #[error("cannot start decoder thread {index}: {source}")]
    Thread {
        /// Which.
        index: usize,
        /// Why.
        source: std::io::Error,
    },
}

fn from(library: &str) -> &'static str {
    if library.contains("gst") {
        "Debian's libgstreamer-plugins-bad1.0-0, 1.22 or later"
    } else {
        "NVIDIA's driver"
    }
}

/// Why an access unit became no picture. The camera, session and number are with whoever reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes hold no coded picture that could be decoded.
    #[error("no {codec} picture in {bytes} bytes: {detail}")]
    NoPicture {
        /// As said by the session.
        codec: Codec,
        /// Length of the access unit.
        bytes: usize,
        /// What the decoder said.
        detail: String,
    },
    /// Said to stand alone, but it does not.
    #[error("not a random-access picture: {0}")]
    NotAlone(String),
    /// Decoded, but parts of it are guessed; such a picture is refused.
    #[error("damaged {codec} picture refused: {detail}")]
    Damaged {
        /// As said by the session.
        codec: Codec,
        /// What the decoder said.
        detail: String,
    },
    /// Decoded, but of a form that cannot be passed on.
    #[error("picture cannot be used: {0}")]
    Unusable(String),
    /// The decoder took too long; it was thrown away and the next picture gets a new one.
    #[error("no answer from the decoder within {0:?}: rebuilt")]
    Deadline(Duration),
    /// The decoder failed; it was thrown away and the next picture gets a new one.
    #[error("the decoder failed: {0}: rebuilt")]
    Failed(String),
    /// Another camera's stream would have to be forgotten.
    #[error(
        "all {0} decoders for full streams of this worker are in use, so only its key pictures are decoded: raise `max_chained` or look at fewer cameras in full"
    )]
    NoDecoder(usize),
}
