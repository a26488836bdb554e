//! Starting the program and its surroundings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::Timestamp;
use publish::testing::Heard;
use serde_json::Value;
use sim::Clip;

/// Real clips and detectors, which are not part of the project; `None` (and a word why) where they are not beside it.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!(
        "skipped: ../shared/{path} is not there; it is no part of the project (real clips and detectors)"
    );
    None
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The program with these arguments, not yet started.
pub fn huiyan(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_huiyan"));
    command.args(args).env("HUIYAN_LOG", "info,ort=error,rumqttc=error,retina=error");
    command
}

/// A `huiyan` that runs until it is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `huiyan` with `args`; its output goes to `dir/<name>.log`, where more is appended by a later start.
    pub fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        Self::start_as(dir, name, huiyan(args))
    }

    /// The same with a command that becomes `huiyan` in the end.
    pub fn start_as(dir: &Path, name: &str, mut command: Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let out = file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `text`.
    pub fn wait_said(&mut self, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.said().contains(text) {
            assert!(self.child.try_wait().unwrap().is_none(), "huiyan ended; it said:\n{}", self.said());
            assert!(Instant::now() < deadline, "huiyan did not say {text:?}, but:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to stop (SIGTERM) and waits for it.
    pub fn stop(&mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "huiyan did not stop; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes `text` to `dir/name`.
pub fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A model folder `dir/<id>` with a card for one of the shared YOLOX files.
pub fn yolox_nano(dir: &Path) -> Option<PathBuf> {
    let (file, classes) = (shared("models/yolox_nano_416.onnx")?, shared("models/coco80.txt")?);
    let folder = dir.join("yolox-nano");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&file, folder.join("model.onnx")).unwrap();
    std::fs::copy(&classes, folder.join("coco80.txt")).unwrap();
    let sha256 = publish::wire::sha256(&std::fs::read(&file).unwrap());
    let card = format!(
        "id: yolox-nano\nversion: '0.1.1'\nlicence: Apache-2.0\nsource: https://github.com/Megvii-BaseDetection/YOLOX\n\
         file: model.onnx\nsha256: {sha256}\n\
         input: {{ width: 416, height: 416, channels: bgr, mean: [0, 0, 0], deviation: [1, 1, 1], \
         resize: letterbox_top_left, pad: 114 }}\nhead: yolox\nclasses_file: coco80.txt\n\
         thresholds: {{ score: 0.3, nms_iou: 0.45 }}\nbatch: 1\nnotes: COCO\n"
    );
    write(&folder, "card.yaml", &card);
    Some(folder)
}

/// A port that nobody listens on, for a process that is told where to listen.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The lines of a fleet's YAML that name broker, folder and site.
pub fn fleet_head(broker: SocketAddr, data: &Path) -> String {
    format!(
        "site: test\nworker: w1\ndata_dir: {}\nbroker: {{ url: mqtt://{broker} }}\nnode: {{ decode_threads: 1, infer_sessions: 1 }}\n",
        data.join("data").display()
    )
}

/// A message that is an event.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub event: String,
    pub phase: String,
    pub data: Value,
}

/// The events among the messages, in the order in which they arrived.
pub fn events(heard: &[Heard]) -> Vec<Told> {
    let messages = heard.iter().filter(|m| m.topic.contains("/event/"));
    messages
        .map(|message| {
            let body: Value = serde_json::from_slice(&message.payload).expect("an event is JSON");
            let data = body["data"].clone();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Told { id: text(&body["id"]), event: text(&data["event"]), phase: text(&data["phase"]), data }
        })
        .collect()
}

/// A time in an event's `times`.
pub fn time(data: &Value, name: &str) -> Timestamp {
    let text = data["times"][name].as_str().unwrap_or_else(|| panic!("no time {name} in {data}"));
    text.parse().unwrap()
}

/// Seconds from `start` to `time`.
pub fn seconds(start: Timestamp, time: Timestamp) -> f64 {
    time.duration_since(start).as_secs_f64()
}

/// A test picture of GStreamer's `pattern`, 4 s at 10 pictures per second, coded with a key picture each second.
pub fn test_picture(dir: &Path, pattern: &str, (width, height): (u32, u32)) -> Arc<Clip> {
    let path = dir.join(format!("{pattern}-{width}x{height}.mp4"));
    let line = format!(
        "videotestsrc num-buffers=40 pattern={pattern} ! \
         video/x-raw,format=I420,width={width},height={height},framerate=10/1 ! \
         x264enc key-int-max=10 bframes=0 speed-preset=ultrafast ! h264parse ! mp4mux ! filesink location={}",
        path.display()
    );
    let status = Command::new("gst-launch-1.0").arg("-q").args(line.split(' ')).status().unwrap();
    assert!(status.success());
    Arc::new(Clip::open(&path).unwrap())
}
