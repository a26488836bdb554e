//! The worker that is killed: publishes what it should have, at a steady rate, and knows from its own disk how far it
//! came. The test binary starts itself for it, as a worker has to be a process of its own to be killed like one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flow::{CameraId, Event, EventId, Phase, Timestamp};
use publish::testing::sample;
use publish::{Options, Publisher, SceneState};

use super::truth::{CAMERAS, MESSAGES, Made};

/// Names the worker's folder to the process that is it.
const DIR: &str = "HUIYAN_CRASH_DIR";
/// Its broker's port.
const PORT: &str = "HUIYAN_CRASH_PORT";
/// When the first event was due, ms since 1970.
const BEGAN: &str = "HUIYAN_CRASH_BEGAN";
/// A file of this name asks it to send what it has and to end.
const STOP: &str = "stop";

/// All cameras together.
pub const PER_SECOND: u64 = 50;

/// Camera `camera`'s event `number`. Each situation is `began`, two times `updated`, `ended`; then the next begins. The same numbers give the
/// same event in every process.
pub fn event(camera: usize, number: u64) -> Event {
    let (situation, sequence) = (number / MESSAGES, (number % MESSAGES) as u32);
    let mut event = sample::event(situation, sequence);
    event.key.camera = camera_id(camera);
    event.id = EventId::new(event.began, &event.key, situation);
    event.phase = match sequence {
        0 => Phase::Began,
        s if u64::from(s) + 1 == MESSAGES => Phase::Ended { at: event.last_seen },
        _ => Phase::Updated,
    };
    event
}

fn camera_id(camera: usize) -> CameraId {
    CameraId::new(&format!("cam-{camera}")).unwrap()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The process that is killed. Does nothing when run as a test by itself.
#[test]
fn maker() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (port, began) = (number(PORT) as u16, number(BEGAN));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A dead wire is to be noticed before the next blow but a few.
    let (keep_sent, keep_alive) = (Duration::from_secs(10), Duration::from_secs(2));
    let broker = fleet::Broker { keep_sent, keep_alive, ..sample::broker(port) };
    let options = Options { site: "test".into(), ..sample::options(&dir, broker) };
    let publisher = Publisher::start(options, runtime.handle()).unwrap();
    let mut made = Made::default();
    for (camera, state) in publisher.scenes().unwrap() {
        made.set(&camera, u64::from_le_bytes(state.try_into().unwrap()));
    }
    let frame = sample::frame(160, 96);
    let (situation, model, seen) = (sample::situation(), sample::model(), sample::seen());
    while !dir.join(STOP).exists() {
        // What a dead worker did not tell in time is told later: the rate holds over all.
        let due = now_ms().saturating_sub(began) * PER_SECOND / 1_000;
        if made.total() >= due {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let camera = made.least();
        let number = made.of(camera);
        let event = event(camera, number);
        let known = fleet::Camera { id: camera_id(camera), ..sample::camera() };
        let picture = (event.phase == Phase::Began).then_some((&frame, &seen[..]));
        let state = SceneState { camera: known.id.clone(), state: (number + 1).to_le_bytes().to_vec() };
        // In the same transaction: how far this camera came, and the event that took it there.
        publisher.submit_look(&[(&event, &situation)], &known, &model, picture, Some(&state)).unwrap();
        made.set(known.id.as_str(), number + 1);
        say(&format!("stored {camera} {}", number + 1));
    }
    let left = runtime.block_on(publisher.stop(Duration::from_secs(180))).unwrap();
    for camera in 0..CAMERAS {
        say(&format!("final {camera} {}", made.of(camera)));
    }
    say(&format!("left {}", left.messages));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // In one write: a line that a kill cut in half would be read as another number.
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The worker's process, seen from outside.
pub struct Worker {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    began: u64,
    reader: Option<std::thread::JoinHandle<Vec<String>>>,
    /// What it said to have stored.
    pub stored: Made,
}

impl Worker {
    /// Of the broker behind `port`, with its files in `dir`; not yet started.
    pub fn new(dir: &Path, port: u16) -> Self {
        Self {
            child: None,
            dir: dir.to_owned(),
            port,
            began: now_ms(),
            reader: None,
            stored: Made::default(),
        }
    }

    /// Starts the process.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::maker::maker", "--nocapture"])
            .env(DIR, &self.dir)
            .env(PORT, self.port.to_string())
            .env(BEGAN, self.began.to_string())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        self.reader = Some(std::thread::spawn(move || {
            use std::io::{BufRead, BufReader};
            let mut lines = Vec::new();
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if ["stored ", "final ", "left "].iter().any(|word| line.starts_with(word)) {
                    lines.push(line);
                }
            }
            lines
        }));
        self.child = Some(child);
    }

    /// SIGKILL. What it said before counts.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        child.kill().unwrap();
        child.wait().unwrap();
        self.heed();
    }

    /// Asks it to send what it has; returns the messages that it could not send.
    pub fn finish(&mut self, patience: Duration) -> u64 {
        std::fs::write(self.dir.join(STOP), []).unwrap();
        let deadline = Instant::now() + patience;
        let mut child = self.child.take().expect("it was started");
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the worker does not end within {patience:?}: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.heed().unwrap_or_else(|| panic!("the worker did not end well: {}", self.said()))
    }

    /// It ended by itself, which no worker should.
    pub fn check(&mut self) {
        let Some(child) = &mut self.child else { return };
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the worker ended by itself, {ended:?}: {}", self.said());
    }

    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// Notes what it said; the number of messages left, where it came to say so.
    fn heed(&mut self) -> Option<u64> {
        let lines = self.reader.take()?.join().unwrap();
        let mut left = None;
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["stored" | "final", camera, number] => {
                    self.stored.set(&format!("cam-{camera}"), number.parse().unwrap());
                }
                ["left", number] => left = number.parse().ok(),
                _ => {}
            }
        }
        left
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The times of an event are of no account here, but it has to have some.
#[test]
fn the_same_numbers_are_the_same_event() {
    assert_eq!(event(3, 17).id, event(3, 18).id);
    assert_ne!(event(3, 17).id, event(3, 20).id);
    assert_ne!(event(3, 17).id, event(4, 17).id);
    assert_eq!(event(3, 16).phase, Phase::Began);
    assert!(matches!(event(3, 19).phase, Phase::Ended { at } if at > Timestamp::UNIX_EPOCH));
}
