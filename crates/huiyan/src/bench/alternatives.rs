//! What people build instead of this program, on the same cameras: a plain Python pipeline, and a GStreamer chain.
//!
//! Both look at key pictures only, which is more than such pipelines usually do. The Python one reads RTSP with PyAV,
//! scales with OpenCV and runs the same model in ONNX Runtime; `benches/alternatives/pipeline.py` is all of it. The
//! GStreamer chain has no inference: `rtspsrc ! rtph264depay ! h264parse ! identity drop-buffer-flags=delta-unit !
//! avdec_h264 ! videoscale ! videoconvert ! fakesink`, one process with a branch per camera; what ONNX Runtime alone
//! takes for the model is added to its cost. Neither has tracks, rules, evidence or events.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fleet::{Channels, ModelCard, Resize};
use serde::Deserialize;

use super::cameras::Cameras;
use super::cpu;

/// From the start until measuring begins: all have connected and had their first key pictures.
const SETTLE: Duration = Duration::from_secs(8);
/// The interpreter to use instead of `python3`; it must have what `benches/alternatives/requirements.txt` lists.
const PYTHON: &str = "HUIYAN_BENCH_PYTHON";

/// What the Python pipeline says about itself.
#[derive(Deserialize)]
struct Said {
    looks: u64,
    cpu_seconds: f64,
}

/// Processor milliseconds per look of the Python pipeline; `None`, after a word about it, where it cannot run.
pub fn python(urls: &[String], card: &ModelCard, window: Duration) -> anyhow::Result<Option<f64>> {
    let program = std::env::var_os(PYTHON).map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/alternatives/pipeline.py");
    let there = Command::new(&program)
        .args(["-c", "import av, cv2, numpy, onnxruntime"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) || !script.exists() {
        super::step(&format!(
            "node: {} has not what benches/alternatives/requirements.txt lists (or the folder is not here): no \
             node.vs_python; {PYTHON} names another interpreter",
            program.display()
        ));
        return Ok(None);
    }
    let layout = match card.resize {
        Resize::Stretch => "stretch",
        Resize::LetterboxTopLeft { .. } | Resize::LetterboxCentre { .. } => "letterbox",
    };
    let channels = if card.channels == Channels::Rgb { "rgb" } else { "bgr" };
    let output = Command::new(&program)
        .arg(script)
        .args(["--settle", &SETTLE.as_secs_f64().to_string(), "--seconds", &window.as_secs_f64().to_string()])
        .arg("--model")
        .arg(&card.file)
        .args(["--size", &format!("{}x{}", card.width, card.height), "--channels", channels])
        .args(["--deviation", &card.range.deviation[0].to_string(), "--resize", layout])
        .args(urls)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("{} ended with {}", program.display(), output.status);
    }
    let said: Said = serde_json::from_slice(&output.stdout).context("the Python pipeline's last words")?;
    super::step(&format!("node: Python made {} looks in {window:?}", said.looks));
    Ok((said.looks > 0).then(|| said.cpu_seconds * 1e3 / said.looks as f64))
}

/// Processor milliseconds per look of the GStreamer chain, without inference; `None` where the program is not here.
pub fn gstreamer(
    cameras: &mut Cameras,
    urls: &[String],
    card: &ModelCard,
    window: Duration,
) -> anyhow::Result<Option<f64>> {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q");
    // I420 at the model's width, in RGB: as much as has to be done before a tensor can be filled.
    let caps = format!("video/x-raw,format=RGB,width={},height={}", card.width, card.height);
    for url in urls {
        command.args(["rtspsrc", &format!("location={url}"), "protocols=tcp", "latency=200"]);
        command.args([
            "!",
            "rtph264depay",
            "!",
            "h264parse",
            "!",
            "identity",
            "drop-buffer-flags=delta-unit",
        ]);
        command.args(["!", "avdec_h264", "max-threads=1", "!", "videoscale", "!", "videoconvert"]);
        command.args(["!", &caps, "!", "fakesink", "sync=false", "async=false"]);
    }
    let begun = cameras.served()?.sessions;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = match child {
        Ok(child) => Running(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            super::step("node: gst-launch-1.0 is not installed: no node.vs_gstreamer");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let until = Instant::now() + Duration::from_secs(40);
    while cameras.served()?.sessions < begun + urls.len() as u64 {
        if Instant::now() > until {
            bail!("gst-launch-1.0: fewer than {} sessions play", urls.len());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(SETTLE);
    let (before, start) = (cpu::of_process(child.0.id())?, Instant::now());
    std::thread::sleep(window);
    let (spent, wall) = (cpu::of_process(child.0.id())? - before, start.elapsed());
    // Every key picture is a look: nothing in the chain drops one.
    let looks = urls.len() as f64 * wall.as_secs_f64() / cameras.key_every;
    Ok(Some(spent.as_secs_f64() * 1e3 / looks))
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            tracing::warn!("a process did not end: {error}");
        }
    }
}
