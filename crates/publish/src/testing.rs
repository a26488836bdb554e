//! For tests: a real mosquitto, and a real `mosquitto_sub` listening to it, and events to send. The processes
//! are ended by id.

pub mod certificates;
pub mod sample;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where Debian and Ubuntu put it; not in every user's search path.
const BROKER: &str = "/usr/sbin/mosquitto";

/// A broker of its own, on a free port of 127.0.0.1, with its files in a temporary folder.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    port: u16,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts one; `extra` are further lines of its configuration. `Err` says why a test has to be skipped.
    pub fn start(extra: &str) -> Result<Self, String> {
        let broker = Self::prepare(extra)?;
        broker.start_again()
    }

    /// Chooses a port and writes the configuration, but starts nothing yet.
    pub fn prepare(extra: &str) -> Result<Self, String> {
        if !Path::new(BROKER).exists() {
            return Err(format!("{BROKER} is not installed"));
        }
        let text = |e: std::io::Error| e.to_string();
        let dir = tempfile::tempdir().map_err(text)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(text)?.port();
        // Sessions survive a killed broker: otherwise it would forget what the listener has subscribed to.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest file {dir}/log\n\
             persistence true\npersistence_location {dir}/\nautosave_on_changes true\nautosave_interval 1\n{extra}\n",
            dir = dir.path().display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).map_err(text)?;
        Ok(Self { child: None, port, dir })
    }

    /// Starts it, the first time or again, on the same port with the same files; returns when it listens.
    pub fn start_again(mut self) -> Result<Self, String> {
        self.kill();
        let child = Command::new(BROKER)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{BROKER}: {e}"))?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.addr()).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{BROKER} does not listen at {}", self.addr()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Kills it (SIGKILL), as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal by name: `STOP` freezes it, `CONT` thaws it.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        }
    }

    /// Has it write its sessions to disk (SIGUSR1), which it otherwise does once a second; returns when they are.
    pub fn save(&self) -> Result<(), String> {
        let Some(child) = &self.child else { return Ok(()) };
        let file = self.dir.path().join("mosquitto.db");
        let written = || std::fs::metadata(&file).and_then(|m| m.modified()).ok();
        let before = written();
        let signal = format!("kill -USR1 {}", child.id());
        Command::new("sh").args(["-c", &signal]).status().map_err(|e| format!("{signal}: {e}"))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        // Without persistence there is nothing to wait for.
        let config = std::fs::read_to_string(self.dir.path().join("mosquitto.conf")).unwrap_or_default();
        while !config.contains("persistence false") && written() == before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What it wrote into its log so far; with `log_type all` also who subscribes.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The broker, as the fleet would name it.
    pub fn broker(&self) -> fleet::Broker {
        sample::broker(self.port)
    }

    /// Starts a `mosquitto_sub` on `filter` with a session that outlives the broker; returns when it is subscribed.
    pub fn listen(&self, name: &str, filter: &str) -> Result<Listener, String> {
        let command = || {
            let mut command = Command::new("mosquitto_sub");
            command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-c"]);
            command.args(["-i", name, "-x", "3600", "-t", filter]);
            command
        };
        // `-E` returns when the subscription is acknowledged; the session keeps what comes before the second call.
        let subscribed = command().arg("-E").output().map_err(|e| format!("mosquitto_sub: {e}"))?;
        if !subscribed.status.success() {
            return Err(format!("mosquitto_sub: {}", String::from_utf8_lossy(&subscribed.stderr)));
        }
        self.save()?;
        let child = command()
            .args(["-F", "%t\t%r\t%C\t%E\t%P\t%x"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("mosquitto_sub: {e}"))?;
        let listener = Listener::new(child);
        self.wait_for_client(name)?;
        Ok(listener)
    }

    /// `mosquitto_sub` gives up if the broker is gone before its first connection: wait until that stands.
    fn wait_for_client(&self, name: &str) -> Result<(), String> {
        let log = self.dir.path().join("log");
        let entry = format!(" as {name} (");
        let deadline = Instant::now() + Duration::from_secs(5);
        // The first was the call that subscribed.
        while std::fs::read_to_string(&log).unwrap_or_default().matches(&entry).count() < 2 {
            if Instant::now() > deadline {
                return Err(format!("mosquitto_sub {name} does not connect"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Publishes with `mosquitto_pub`, QoS 1.
    pub fn publish(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        use std::io::Write;
        // `-s` reads the payload from the standard input, but does not take an empty one.
        let source = if payload.is_empty() { "-n" } else { "-s" };
        let mut child = Command::new("mosquitto_pub")
            .args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1"])
            .args(["-t", topic, source])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| format!("mosquitto_pub: {e}"))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(payload).map_err(|e| format!("mosquitto_pub: {e}"))?;
        }
        let status = child.wait().map_err(|e| format!("mosquitto_pub: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("mosquitto_pub: {status}")) }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A message as `mosquitto_sub` saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Topic.
    pub topic: String,
    /// It was retained before the subscription.
    pub retained: bool,
    /// Content type property.
    pub content_type: String,
    /// Message expiry property.
    pub expiry: String,
    /// User properties, `name:value` with blanks between.
    pub properties: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A `mosquitto_sub` that is running.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    heard: Arc<(Mutex<Vec<Heard>>, Condvar)>,
}

impl Listener {
    fn new(mut child: Child) -> Self {
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        if let Some(output) = child.stdout.take() {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lock(&heard.0).extend(parse(&line));
                    heard.1.notify_all();
                }
            });
        }
        Self { child, heard }
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Heard> {
        lock(&self.heard.0).clone()
    }

    /// Waits until `enough` says so, then returns everything so far; `Err` with the same after `patience`.
    pub fn wait(
        &self,
        patience: Duration,
        enough: impl Fn(&[Heard]) -> bool,
    ) -> Result<Vec<Heard>, Vec<Heard>> {
        let list = lock(&self.heard.0);
        let waited = self.heard.1.wait_timeout_while(list, patience, |list| !enough(list));
        let (list, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(list.clone()) } else { Ok(list.clone()) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(line: &str) -> Option<Heard> {
    let mut fields = line.split('\t');
    let mut next = || fields.next().map(str::to_owned);
    let (topic, retained, content_type, expiry, properties, hex) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    let byte = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
    let payload: Option<Vec<u8>> = (0..hex.len() / 2).map(byte).collect();
    Some(Heard { topic, retained: retained == "1", content_type, expiry, properties, payload: payload? })
}
