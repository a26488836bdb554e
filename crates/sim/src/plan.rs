//! Many cameras over few clips.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::Clip;
use crate::rtsp::{Auth, Mount, MountError, RandomFaults, Server, Start};

/// Cameras `cam-0001`, `cam-0002`, … over a list of clips, each clip in turn, each camera a little further on in its
/// clip than the one before, so that neither pictures nor key pictures of all cameras fall together.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many cameras.
    pub cameras: usize,
    /// What their ids begin with.
    pub prefix: String,
    /// Where they begin; see [`Plan::start`].
    pub begin: Begin,
    /// Who may watch; `None`: anybody.
    pub auth: Option<Auth>,
    /// More than 1: the cameras are spread evenly over the addresses 127.0.0.1, 127.0.0.2 and so on, as if over as many
    /// recorders. The server must listen on `0.0.0.0` then.
    pub hosts: u16,
    /// What goes wrong, drawn anew for each connection.
    pub random: Option<RandomFaults>,
}

/// Where the cameras of a [`Plan`] begin in their clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Each session at the first picture.
    FirstPicture,
    /// Spread evenly over the clip's running position.
    Staggered,
}

/// One camera of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimCamera {
    /// Its id, also its path.
    pub id: String,
    /// Where it is served.
    pub url: String,
    /// Which of the clips it plays.
    pub clip: usize,
}

impl Plan {
    /// `cameras` cameras named `cam-…`, staggered, for anybody.
    pub fn new(cameras: usize) -> Self {
        Self { cameras, prefix: "cam-".into(), begin: Begin::Staggered, auth: None, hosts: 1, random: None }
    }

    /// The id of a camera, counted from 0: at least four digits, so that ids sort.
    pub fn id(&self, camera: usize) -> String {
        format!("{}{:04}", self.prefix, camera + 1)
    }

    /// The address at which a camera, counted from 0, is to be watched; `None`: where the server listens.
    pub fn host(&self, camera: usize) -> Option<IpAddr> {
        let host = camera as u32 % u32::from(self.hosts.max(1));
        let first = u32::from(Ipv4Addr::LOCALHOST);
        (self.hosts > 1).then(|| Ipv4Addr::from_bits(first + host).into())
    }

    /// Where a camera begins in a clip of this length.
    pub fn start(&self, camera: usize, clips: usize, duration: Duration) -> Start {
        match self.begin {
            Begin::FirstPicture => Start::OnPlay,
            Begin::Staggered => {
                let sharing = self.cameras.div_ceil(clips.max(1)).max(1);
                let share = (camera / clips.max(1)) as f64 / sharing as f64;
                Start::Live { offset: duration.mul_f64(share) }
            }
        }
    }

    /// Mounts the cameras. Without clips there are none.
    ///
    /// # Errors
    /// The first mount that fails; those before it stay.
    pub fn mount(&self, server: &Server, clips: &[Arc<Clip>]) -> Result<Vec<SimCamera>, MountError> {
        let cameras = if clips.is_empty() { 0 } else { self.cameras };
        (0..cameras)
            .map(|camera| {
                let (id, index) = (self.id(camera), camera % clips.len());
                let clip = clips[index].clone();
                let start = self.start(camera, clips.len(), clip.duration);
                let (auth, random) = (self.auth.clone(), self.random);
                server.mount(&id, Mount { start, auth, random, ..Mount::new(clip) })?;
                let url = self.host(camera).map_or_else(|| server.url(&id), |host| server.url_at(host, &id));
                Ok(SimCamera { url, id, clip: index })
            })
            .collect()
    }
}

/// The cameras as a snippet of fleet YAML, for a file that another one includes. Ids and URLs of a [`Plan`] hold
/// nothing that YAML would want quoted.
pub fn fleet_yaml(cameras: &[SimCamera]) -> String {
    let mut yaml = String::from("cameras:\n");
    for camera in cameras {
        // Writing to a string does not fail.
        let _ = writeln!(yaml, "  - id: {}\n    url: {}", camera.id, camera.url);
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_that_share_a_clip_are_spread_over_it() {
        let plan = Plan::new(6);
        let offset = |camera| match plan.start(camera, 2, Duration::from_secs(30)) {
            Start::Live { offset } => offset.as_secs_f64(),
            Start::OnPlay | Start::Anywhere { .. } => panic!("not staggered"),
        };
        let offsets: Vec<f64> = (0..6).map(offset).collect();
        assert_eq!(offsets, [0.0, 0.0, 10.0, 10.0, 20.0, 20.0]);
        assert_eq!(plan.id(0), "cam-0001");
        assert_eq!(plan.id(12_345), "cam-12346");
    }

    #[test]
    fn cameras_are_spread_over_addresses_only_when_asked() {
        assert_eq!(Plan::new(6).host(3), None);
        let plan = Plan { hosts: 3, ..Plan::new(6) };
        let hosts: Vec<String> = (0..4).filter_map(|n| plan.host(n)).map(|host| host.to_string()).collect();
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    }

    #[test]
    fn the_snippet_lists_id_and_url() {
        let camera =
            |n: u32| SimCamera { id: format!("cam-{n}"), url: format!("rtsp://h:1/cam-{n}"), clip: 0 };
        let expected =
            "cameras:\n  - id: cam-1\n    url: rtsp://h:1/cam-1\n  - id: cam-2\n    url: rtsp://h:1/cam-2\n";
        assert_eq!(fleet_yaml(&[camera(1), camera(2)]), expected);
    }
}
