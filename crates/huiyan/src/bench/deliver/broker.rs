//! A mosquitto of the bench's own, on a free port of 127.0.0.1.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::UserError;
use crate::bench::material::TempFolder;

/// Where Debian and Ubuntu put it; not in every user's search path.
const PLACES: [&str; 2] = ["/usr/sbin/mosquitto", "mosquitto"];

pub struct Broker {
    program: &'static str,
    config: PathBuf,
    addr: SocketAddr,
    child: Option<Child>,
    _dir: TempFolder,
}

impl Broker {
    /// Starts one that keeps sessions when it is stopped, and everything for a subscriber that is away.
    pub fn start() -> anyhow::Result<Self> {
        let runs = |program: &&str| Command::new(program).arg("-h").output().is_ok();
        let Some(program) = PLACES.into_iter().find(runs) else {
            let text =
                "mosquitto is not installed; it is the broker of this bench (Debian: apt install mosquitto)";
            return Err(UserError(text.into()).into());
        };
        let dir = TempFolder::new()?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = dir.path().display();
        let config = dir.path().join("mosquitto.conf");
        // A root that starts mosquitto has it become another user, who could not write here.
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\npersistence true\n\
             persistence_location {folder}/\nmax_queued_messages 0\n",
            addr.port()
        );
        std::fs::write(&config, text)?;
        let mut broker = Self { program, config, addr, child: None, _dir: dir };
        broker.restart()?;
        Ok(broker)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it as an administrator would: it writes its sessions down.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again, and waits until it listens.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        let mut command = Command::new(self.program);
        command.arg("-c").arg(&self.config).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().context(self.program)?);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.addr).is_err() {
            if Instant::now() > deadline {
                bail!("{} does not listen at {}", self.program, self.addr);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It is ours, and all that it knows goes with it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
