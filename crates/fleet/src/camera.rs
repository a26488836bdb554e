//! A camera, its sampling and its zones.

use std::sync::Arc;
use std::time::Duration;

use flow::{CameraId, ModelId, NormPoint, Polygon, ZoneId};
use url::Url;

use crate::{Calendar, Credentials, Gate, Ground, Preset, Rule, Tiles};

/// One camera, checked.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Unique in the site.
    pub id: CameraId,
    /// Name of its class, for example `community`.
    pub class: Arc<str>,
    /// What people call it.
    pub name: Option<Arc<str>>,
    /// Street and number.
    pub address: Option<Arc<str>>,
    /// Code of its grid (网格).
    pub grid: Option<Arc<str>>,
    /// Where it stands.
    pub location: Option<Location>,
    /// Which places its picture shows; of a camera that turns, see [`Preset::ground`].
    pub ground: Option<Ground>,
    /// `rtsp://host[:port]/path?query`, or `rtsps://`; never holds a user or password, so it is safe to log.
    pub url: Url,
    /// Another stream of the same camera; there is one where [`OnLongKeys::OtherStream`] asks for it.
    pub other_url: Option<Url>,
    /// Whose certificate is believed, with `rtsps://`.
    pub certificate: Certificate,
    /// How it wants to be logged in to.
    pub credentials: Option<Arc<Credentials>>,
    /// How the media travel.
    pub transport: Transport,
    /// How often it is looked at.
    pub look: Look,
    /// Which pictures need no inference; `None`: all of them do.
    pub gate: Option<Gate>,
    /// How the picture is cut; `None`: it is looked at as a whole.
    pub tiles: Option<Arc<Tiles>>,
    /// The model that looks.
    pub model: ModelId,
    /// What a camera that turns is turned to; empty: it does not turn.
    pub presets: Arc<[Preset]>,
    /// Where something can happen, and what; those of all presets, if there are any.
    pub zones: Arc<[Zone]>,
    /// Parts of the picture in which nothing counts.
    pub ignore: Arc<[Polygon]>,
    /// Parts of the picture that nobody may see: blacked out before anything looks at it.
    pub masks: Arc<[Polygon]>,
    /// Its evidence is deleted after this long; `None`: as [`crate::Evidence::keep`] says.
    pub keep_evidence: Option<Duration>,
}

/// A place on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Degrees, or metres in a projected system.
    pub x: f64,
    /// Degrees, or metres in a projected system.
    pub y: f64,
    /// Coordinate reference system: `wgs84`, `gcj02` or `cgcs2000`.
    pub crs: Arc<str>,
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326 section 10.12).
    Tcp,
    /// Datagrams.
    Udp,
}

/// Whose certificate is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Certificate {
    /// One that the system trusts.
    #[default]
    Checked,
    /// Anybody's, as with the certificates that cameras make for themselves.
    Any,
}

/// How often a camera is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Which pictures go to the decoder.
    pub sampling: Sampling,
    /// No two looks closer than this.
    pub at_most_every: Duration,
    /// A camera whose looks are further apart is not being watched; its health says so.
    pub at_least_every: Duration,
    /// What is done where key pictures come further apart than that.
    pub on_long_keys: OnLongKeys,
    /// Who is looked at less often when not all can be.
    pub priority: Priority,
}

/// Whose looks are left out first when the node cannot take all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Last.
    High,
    /// Before `high`.
    #[default]
    Normal,
    /// First.
    Low,
}

impl Priority {
    /// All of them, the most important first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

/// What is done where a camera that is sampled at key pictures sends them further apart than `at_least_every`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLongKeys {
    /// Its stream is decoded in full.
    #[default]
    Decode,
    /// Its other stream is watched, [`Camera::other_url`].
    OtherStream,
}

/// Which pictures go to the decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Random-access pictures only.
    Keyframes,
    /// All of them are decoded, this many per second are looked at. > 0.
    Fps(f32),
}

/// A part of the picture and what is watched for in it.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Unique in its camera.
    pub id: ZoneId,
    /// Where.
    pub polygon: Polygon,
    /// What.
    pub rules: Vec<Arc<Rule>>,
    /// What a rule `cross` watches, from the first point to the second.
    pub line: Option<[NormPoint; 2]>,
    /// When nothing counts here, for example the hours of a permitted market.
    pub permitted: Option<Arc<Calendar>>,
}
