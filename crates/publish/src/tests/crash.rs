//! A process that is killed (SIGKILL) while it submits: what `submit` answered `Ok` for is on disk.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::disk::nowhere;
use crate::evidence::{VerifyOptions, verify};
use crate::testing::sample;
use crate::{Outbox, Publisher};

/// Names the data directory to the process that will be killed.
const DIR: &str = "PUBLISH_CRASH_TEST_DIR";

/// The process that is killed: submits until then. Does nothing when run as a test by itself.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let options = sample::options(dir.as_ref(), nowhere());
    let publisher = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    let (frame, seen) = (sample::frame(320, 240), sample::seen());
    let (camera, situation, model) = (sample::camera(), sample::situation(), sample::model());
    for number in 0.. {
        let event = sample::event(number, 0);
        publisher.submit(&event, &camera, &situation, &model, Some((&frame, &seen))).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "stored {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_submitted_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill_after in [1, 3, 10] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Submitting what an earlier process has stored answers at once; the kill is to hit the new ones.
        let stored = |line: &str| line.rsplit("stored ").next().and_then(|n| n.parse::<u64>().ok());
        let mut last = 0;
        while last < before + kill_after {
            let line = lines.next().unwrap().unwrap();
            last = stored(&line).unwrap_or(last);
        }
        child.kill().unwrap();
        // What it still said before it died counts too.
        last = lines.map_while(Result::ok).filter_map(|line| stored(&line)).last().unwrap_or(last);
        child.wait().unwrap();

        let outbox = Outbox::open(dir.path(), u64::MAX).unwrap();
        for number in 0..=last {
            assert!(outbox.has(sample::event(number, 0).id, 0).unwrap(), "event {number} of {last}");
        }
        let depth = outbox.depth();
        assert_eq!(
            (depth.evidence, depth.messages),
            (depth.events, 3 * depth.events),
            "all of a push or nothing"
        );
        let done = verify(&dir.path().join("evidence"), &VerifyOptions::default()).unwrap();
        assert_eq!(done.findings, [], "the chain is whole");
        assert_eq!(done.pictures, depth.events, "no picture without its event");
        before = last;
    }
}
