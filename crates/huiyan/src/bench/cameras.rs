//! Simulated cameras in a child process, so that what they cost is not counted.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet::{Camera, Transport};
use flow::CameraId;
use serde::Deserialize;
use sim::{Clip, Pattern, Plan};

use super::material::STREET;
use super::{cpu, step};
use crate::cmd::sim::timelines;

/// What simulated cameras are like.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// How many.
    pub cameras: usize,
    /// What they play.
    pub material: Material<'a>,
    /// Over how many addresses they are spread.
    pub hosts: u16,
    /// Faults at random: the seed, and how long a stream goes well on average.
    pub random_faults: Option<(u64, Duration)>,
}

/// What simulated cameras play.
#[derive(Debug, Clone, Copy)]
pub enum Material<'a> {
    /// The rendered street.
    Street,
    /// A file.
    File(&'a Path),
    /// A test pattern of so many Mbit/s.
    Pattern(f64),
}

/// `huiyan sim serve` as a child; it ends when this is dropped, or when we end.
pub struct Cameras {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
    plan: Plan,
    /// Pictures per second of each.
    pub fps: f64,
    /// Seconds from one key picture to the next.
    pub key_every: f64,
}

/// What the server of the cameras has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Served {
    pub sessions: u64,
    /// PLAYs answered.
    pub plays: u64,
    pub pictures: u64,
    /// Pictures that clients missed because they did not read.
    pub pictures_dropped: u64,
    /// Handed to the network.
    pub bytes: u64,
    /// At each of its addresses.
    pub hosts: BTreeMap<IpAddr, HostServed>,
}

/// What the server has done at one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct HostServed {
    pub connections: u64,
    /// Connections that have not had their answer to PLAY.
    pub setting_up: u64,
    /// The most of these at the same time.
    pub setting_up_peak: u64,
    pub plays: u64,
}

#[derive(Deserialize)]
struct Cut {
    cut: u64,
}

impl Cameras {
    /// Starts so many cameras that play a file, or the rendered street.
    pub fn start(count: usize, video: Option<&Path>) -> anyhow::Result<Self> {
        let material = video.map_or(Material::Street, Material::File);
        Self::start_with(&Wanted { cameras: count, material, hosts: 1, random_faults: None })
    }

    /// Starts cameras of this kind.
    pub fn start_with(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        Self::start_with_more(wanted, &[])
    }

    /// The same with further arguments for `huiyan sim serve`.
    pub fn start_with_more(wanted: &Wanted<'_>, more: &[String]) -> anyhow::Result<Self> {
        let (fps, key_every) = pace(wanted.material)?;
        step(&format!("starting {} simulated cameras in a child process", wanted.cameras));
        let mut child = command(wanted)?.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let orders = child.stdin.take().context("the child's input is piped")?;
        let mut cameras = Self {
            child,
            orders,
            answers: BufReader::new(stdout),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            plan: Plan { hosts: wanted.hosts, ..Plan::new(wanted.cameras) },
            fps,
            key_every,
        };
        let mut first = String::new();
        cameras.answers.read_line(&mut first)?;
        let address = first.strip_prefix("rtsp://").and_then(|rest| rest.split('/').next()?.parse().ok());
        cameras.address =
            address.with_context(|| format!("the simulator said {first:?} instead of a URL"))?;
        Ok(cameras)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.plan.cameras
    }

    /// Where the first of them is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of each.
    pub fn urls(&self) -> Vec<String> {
        urls(self.address, &self.plan, self.plan.cameras)
    }

    /// Each as a camera of a fleet that is looked at at every key picture, with a model that nobody loads.
    pub fn as_fleet(&self) -> anyhow::Result<Vec<Arc<Camera>>> {
        as_fleet(self.address, &self.plan, self.plan.cameras)
    }

    /// What the server has done so far.
    pub fn served(&mut self) -> anyhow::Result<Served> {
        self.order("stats")
    }

    /// Resets all connections, or those at an address, and says how many there were.
    pub fn cut(&mut self, host: Option<IpAddr>) -> anyhow::Result<u64> {
        let host = host.map(|host| host.to_string()).unwrap_or_default();
        self.order(&format!("cut {host}")).map(|Cut { cut }| cut)
    }

    /// The same, and new ones for so long.
    pub fn take_down(&mut self, host: Option<IpAddr>, time: Duration) -> anyhow::Result<u64> {
        let host = host.map(|host| host.to_string()).unwrap_or_default();
        self.order(&format!("down {} {host}", time.as_secs_f64())).map(|Cut { cut }| cut)
    }

    /// [`HostServed::setting_up_peak`] begins anew.
    pub fn reset_peaks(&mut self) -> anyhow::Result<()> {
        self.order::<serde_json::Value>("reset-peaks").map(drop)
    }

    /// Processor time that the server has taken so far.
    pub fn spent(&self) -> anyhow::Result<Duration> {
        cpu::of_process(self.child.id())
    }

    fn order<T: serde::de::DeserializeOwned>(&mut self, order: &str) -> anyhow::Result<T> {
        writeln!(self.orders, "{order}")?;
        self.orders.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the simulator answered {order:?} with {line:?}"))
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!("the simulator's process did not end: {error}");
        }
    }
}

/// Pictures per second, and seconds from one key picture to the next.
fn pace(material: Material<'_>) -> anyhow::Result<(f64, f64)> {
    Ok(match material {
        Material::File(path) => {
            let clip = Clip::open(path)?;
            let keys = clip.units.iter().filter(|unit| unit.key).count();
            (clip.fps(), clip.duration.as_secs_f64() / keys.max(1) as f64)
        }
        Material::Street => {
            let timelines = timelines(&[STREET.to_owned()])?;
            let (_, timeline) = timelines.first().context("the street is shipped")?;
            (f64::from(timeline.fps), f64::from(timeline.key_every))
        }
        Material::Pattern(_) => {
            let Pattern { fps, key_every, .. } = Pattern::default();
            (f64::from(fps), f64::from(key_every))
        }
    })
}

fn command(wanted: &Wanted<'_>) -> anyhow::Result<Command> {
    if wanted.cameras == 0 {
        bail!("no cameras are wanted");
    }
    let mut command = Command::new(std::env::current_exe()?);
    if std::env::var_os("HUIYAN_LOG").is_none() {
        command.env("HUIYAN_LOG", "warn");
    }
    let listen = if wanted.hosts > 1 { "0.0.0.0:0" } else { "127.0.0.1:0" };
    command.args(["sim", "serve", "--control", "--listen", listen]);
    command.args(["--hosts", &wanted.hosts.to_string(), "--cameras", &wanted.cameras.to_string()]);
    match wanted.material {
        Material::File(path) => command.arg("--video").arg(path),
        Material::Street => command.args(["--street", STREET]),
        Material::Pattern(mbit) => command.args(["--pattern", &mbit.to_string()]),
    };
    if let Some((seed, uptime)) = wanted.random_faults {
        let uptime = format!("{}ms", uptime.as_millis());
        command.args(["--random-faults", &seed.to_string(), "--mean-uptime", &uptime]);
    }
    Ok(command)
}

/// The URLs of `count` cameras of a plan, from all over it, so that their key pictures do not fall together. `address`:
/// of the first; of the others the port, where the plan has several hosts.
pub fn urls(address: SocketAddr, plan: &Plan, count: usize) -> Vec<String> {
    let url = |camera| {
        let host = plan.host(camera).map_or(address, |host| SocketAddr::new(host, address.port()));
        format!("rtsp://{host}/{}", plan.id(camera))
    };
    (0..count.min(plan.cameras)).map(|n| url(n * plan.cameras / count)).collect()
}

/// The same as cameras of a fleet, looked at at every key picture, with a model that nobody loads.
pub fn as_fleet(address: SocketAddr, plan: &Plan, count: usize) -> anyhow::Result<Vec<Arc<Camera>>> {
    let camera = |(number, url): (usize, String)| -> anyhow::Result<Arc<Camera>> {
        let (id, url) = (CameraId::new(&plan.id(number))?, url.parse()?);
        let mut camera = Camera::bare(id, url, None, Transport::Tcp);
        // However close they come.
        camera.look.at_most_every = Duration::ZERO;
        Ok(Arc::new(camera))
    };
    urls(address, plan, count).into_iter().enumerate().map(camera).collect()
}
