//! What a user would pick instead: GStreamer's `rtspsrc`, and `ffmpeg`. Both receive and throw away; what their
//! processes cost is read from the kernel while they run, without what it takes to start.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::cameras::Cameras;
use super::cpu;

/// From the last session's PLAY until the measurement: `ffmpeg` looks at the first seconds of a stream more closely.
const SETTLE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(40);

/// A program that receives RTSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// All sessions in one process, as a pipeline of many branches has them.
    Rtspsrc,
    /// A process per session: the program has no other way.
    Ffmpeg,
}

impl Peer {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtspsrc => "rtspsrc",
            Self::Ffmpeg => "ffmpeg",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Rtspsrc => "gst-launch-1.0",
            Self::Ffmpeg => "ffmpeg",
        }
    }

    fn commands(self, urls: &[String]) -> Vec<Command> {
        match self {
            Self::Rtspsrc => {
                let mut command = Command::new(self.program());
                command.arg("-q");
                // With the latency that it has by itself: without any, its jitter buffer spins.
                for url in urls {
                    command.args(["rtspsrc", &format!("location={url}"), "protocols=tcp"]);
                    command.args(["!", "fakesink", "sync=false", "async=false"]);
                }
                vec![command]
            }
            Self::Ffmpeg => {
                let command = |url| {
                    let mut command = Command::new(self.program());
                    command.args(["-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", url]);
                    command.args(["-c", "copy", "-f", "null", "-"]);
                    command
                };
                urls.iter().map(|url| command(url)).collect()
            }
        }
    }

    /// Processor time of a session in milliseconds per second, over `window`. `Ok(None)`: the program is not here.
    pub fn cpu_ms(
        self,
        cameras: &mut Cameras,
        sessions: usize,
        window: Duration,
    ) -> anyhow::Result<Option<f64>> {
        let urls: Vec<String> = cameras.urls().into_iter().take(sessions).collect();
        let sessions = urls.len();
        let begun = cameras.served()?.sessions;
        let mut running = Running(Vec::new());
        for mut command in self.commands(&urls) {
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            match child {
                Ok(child) => running.0.push(child),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while cameras.served()?.sessions < begun + sessions as u64 {
            running.check(self)?;
            if Instant::now() > deadline {
                bail!("{}: fewer than {sessions} sessions play after {PATIENCE:?}", self.program());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(SETTLE);
        let (before, start) = (running.spent()?, Instant::now());
        std::thread::sleep(window);
        let (spent, wall) = (running.spent()? - before, start.elapsed());
        running.check(self)?;
        if cameras.served()?.sessions < begun + sessions as u64 {
            bail!("{}: a session ended before its time", self.program());
        }
        Ok(Some(spent.as_secs_f64() * 1e3 / wall.as_secs_f64() / sessions as f64))
    }
}

/// Processes that end with this value.
struct Running(Vec<Child>);

impl Running {
    fn check(&mut self, peer: Peer) -> anyhow::Result<()> {
        for child in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended before its time: {status}", peer.program());
            }
        }
        Ok(())
    }

    fn spent(&self) -> anyhow::Result<Duration> {
        self.0.iter().map(|child| cpu::of_process(child.id())).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                tracing::warn!("a process did not end: {error}");
            }
        }
    }
}
