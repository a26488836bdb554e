//! Simulated cameras in a child process, so that what they cost is not counted.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Look, Sampling, Transport};
use flow::{CameraId, ModelId};
use sim::{Clip, Plan};

use super::material::STREET;
use super::step;
use crate::cmd::sim::timelines;

/// The child ends by itself after this long, should we not be there to end it.
const CHILD_LIMIT: &str = "15min";

/// `huiyan sim serve` as a child; it ends when this is dropped.
pub struct Cameras {
    child: Child,
    /// Kept open: the child writes to it.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    plan: Plan,
    /// Pictures per second of each.
    pub fps: f64,
    /// Seconds from one key picture to the next.
    pub key_every: f64,
}

impl Cameras {
    /// Starts so many cameras that play a file, or the rendered street.
    pub fn start(count: usize, video: Option<&Path>) -> anyhow::Result<Self> {
        let (fps, key_every) = match video {
            Some(path) => {
                let clip = Clip::open(path)?;
                let keys = clip.units.iter().filter(|unit| unit.key).count();
                (clip.fps(), clip.duration.as_secs_f64() / keys.max(1) as f64)
            }
            None => {
                let timelines = timelines(&[STREET.to_owned()])?;
                let (_, timeline) = timelines.first().context("the street is shipped")?;
                (f64::from(timeline.fps), f64::from(timeline.key_every))
            }
        };
        let material = video.map_or(STREET.to_owned(), |path| path.display().to_string());
        step(&format!("starting {count} simulated cameras in a child process: {material}"));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sim", "serve", "--listen", "127.0.0.1:0", "--for", CHILD_LIMIT, "--cameras"]);
        command.arg(count.to_string());
        match video {
            Some(path) => command.arg("--video").arg(path),
            None => command.args(["--street", STREET]),
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let mut cameras = Self {
            child,
            _stdout: BufReader::new(stdout),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            plan: Plan::new(count),
            fps,
            key_every,
        };
        let mut first = String::new();
        cameras._stdout.read_line(&mut first)?;
        let address = first.strip_prefix("rtsp://").and_then(|rest| rest.split('/').next()?.parse().ok());
        cameras.address =
            address.with_context(|| format!("the simulator said {first:?} instead of a URL"))?;
        Ok(cameras)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.plan.cameras
    }

    /// Where they are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of each.
    pub fn urls(&self) -> Vec<String> {
        let url = |n| format!("rtsp://{}/{}", self.address, self.plan.id(n));
        (0..self.plan.cameras).map(url).collect()
    }

    /// Each as a camera of a fleet that is looked at at every key picture, with a model that nobody loads.
    pub fn as_fleet(&self) -> anyhow::Result<Vec<Arc<Camera>>> {
        let camera = |(number, url): (usize, String)| {
            Ok(Arc::new(Camera {
                id: CameraId::new(&self.plan.id(number))?,
                class: "bench".into(),
                name: None,
                address: None,
                grid: None,
                location: None,
                url: url.parse()?,
                credentials: None,
                transport: Transport::Tcp,
                look: Look {
                    sampling: Sampling::Keyframes,
                    at_most_every: Duration::ZERO,
                    at_least_every: Duration::from_secs(60),
                    priority: fleet::Priority::Normal,
                },
                model: ModelId::new("none")?,
                zones: Arc::new([]),
                ignore: Arc::new([]),
                gate: None,
                tiles: None,
            }))
        };
        self.urls().into_iter().enumerate().map(camera).collect()
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!("the simulator's process did not end: {error}");
        }
    }
}
