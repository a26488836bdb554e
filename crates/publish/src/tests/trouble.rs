//! Disks that are full, read-only, failing; databases that are corrupt. Watching goes on, and nothing is lost.

// A skipped test says so.
#![allow(clippy::disallowed_macros)]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::disk::nowhere;
use crate::testing::Mosquitto;
use crate::testing::sample::{self as make, event};
use crate::wire::EventMessage;
use crate::{Options, Outbox, Publisher, Stored, SubmitError, TroubleKind};

const PATIENCE: Duration = Duration::from_secs(15);

fn start(options: Options) -> Publisher {
    Publisher::start(options, &tokio::runtime::Handle::current()).unwrap()
}

fn submit(publisher: &Publisher, number: u64, picture: bool) -> Result<crate::Submitted, SubmitError> {
    let (frame, seen) = (make::frame(64, 48), make::seen());
    let picture = picture.then_some((&frame, seen.as_slice()));
    publisher.submit(&event(number, 0), &make::camera(), &make::situation(), &make::model(), picture)
}

/// Counts what was stored.
fn hand_over(publisher: &Publisher, number: u64, stored: &Arc<AtomicU64>) {
    // A situation that is over leaves nothing behind once it is sent.
    let (event, situation, stored) = (event(number, 2), make::situation(), stored.clone());
    let done = move |answer: Stored| {
        stored.fetch_add(answer.unwrap().len() as u64, Ordering::SeqCst);
    };
    publisher.hand_over(&[(&event, &situation)], &make::camera(), &make::model(), None, None, done).unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Numbers of the events that an outbox holds, by what a publisher would send.
fn waiting(dir: &Path) -> u64 {
    Outbox::open(dir, u64::MAX).unwrap().depth().events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_holds_events_in_memory_and_drains_through_the_broker() {
    let broker = match Mosquitto::prepare("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Options { outbox_max_bytes: Some(400 << 10), ..make::options(dir.path(), broker.broker()) };
    let publisher = start(options);
    let stored = Arc::new(AtomicU64::new(0));
    // Some 5 KB each: more than fits, and it is taken all the same.
    (0..300).for_each(|number| hand_over(&publisher, number, &stored));
    until("full", || publisher.metrics().disk.is_some()).await;
    let metrics = publisher.metrics();
    let trouble = metrics.disk.unwrap();
    assert_eq!(trouble.kind, TroubleKind::Full);
    let text = trouble.to_string();
    assert!(text.contains("outbox.sqlite") && text.contains("full") && text.contains("free space"), "{text}");
    assert_eq!(metrics.disk_troubles[0], (TroubleKind::Full, 1));
    until("what fits is stored", || stored.load(Ordering::SeqCst) >= 20).await;
    let metrics = publisher.metrics();
    assert!(metrics.outbox.held > 100, "{metrics:?}");
    assert_eq!(metrics.outbox.held + stored.load(Ordering::SeqCst), 300, "stored or held");
    // Who wants an answer now gets one.
    let error = submit(&publisher, 1_000, true).unwrap_err().to_string();
    assert!(error.contains("is not stored") && error.contains("the disk is full"), "{error}");

    // The broker comes: what it takes makes room for what is held.
    let broker = broker.start_again().unwrap();
    let listener = broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    until("all stored", || stored.load(Ordering::SeqCst) == 300).await;
    until("all sent", || publisher.metrics().outbox.messages == 0).await;
    let metrics = publisher.metrics();
    assert_eq!((metrics.disk, metrics.outbox.held), (None, 0));
    assert_eq!((metrics.events.received, metrics.events.passed), (300, 300));
    let ids = |heard: &[crate::testing::Heard]| {
        heard
            .iter()
            .map(|h| EventMessage::parse(&h.payload).unwrap().id)
            .collect::<std::collections::BTreeSet<_>>()
    };
    // The first may have been sent before anybody listened.
    let heard = listener.wait(PATIENCE, |heard| ids(heard).len() >= 200).unwrap();
    assert!(ids(&heard).contains(&EventMessage::message_id(event(299, 2).id, 2)));
}

/// Has this test run again in a file system of its own, of so many bytes: `Some` is the folder, in that process.
/// Where the system does not allow that, says so.
fn in_small_disk(test: &str, bytes: usize) -> Option<PathBuf> {
    const DIR: &str = "PUBLISH_SMALL_DISK_DIR";
    if let Some(dir) = std::env::var_os(DIR) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\"");
    let shell = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {then}")]);
        command.arg(dir.path());
        command
    };
    if !shell("true").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system can be mounted here (unshare --map-root-user --mount)");
        return None;
    }
    let test = format!("tests::trouble::{test}");
    let mut child = shell("exec \"$@\"");
    child.arg(std::env::current_exe().unwrap()).args(["--exact", &test, "--nocapture"]);
    let output = child.env(DIR, dir.path()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_pictures_first_and_no_event() {
    let test = "a_full_disk_costs_pictures_first_and_no_event";
    let Some(dir) = in_small_disk(test, 16 << 20) else { return };
    let data = dir.join("data");
    let publisher = start(make::options(&data, nowhere()));
    for number in 0..40 {
        submit(&publisher, number, true).unwrap();
    }
    assert_eq!(publisher.metrics().outbox.evidence, 40);
    // Somebody else fills the disk, to the last byte.
    let ballast = dir.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok_and(|n| n > 0) {}
    drop(file);
    assert_eq!(publisher.metrics().disk_free_bytes, Some(0));
    let stored = Arc::new(AtomicU64::new(0));
    (100..400).for_each(|number| hand_over(&publisher, number, &stored));
    until("the pictures are gone", || {
        publisher.metrics().outbox.evidence == 0 && publisher.metrics().disk.is_some()
    })
    .await;
    let metrics = publisher.metrics();
    assert_eq!(metrics.evidence.dropped[0], ("evicted", 40));
    let before = stored.load(Ordering::SeqCst);
    assert!(before < 300, "{metrics:?}");
    assert_eq!(metrics.outbox.held, 300 - before);
    assert_eq!(metrics.outbox.events, 40 + before, "no event was dropped");

    // The way out that the message names.
    std::fs::remove_file(&ballast).unwrap();
    until("all stored", || stored.load(Ordering::SeqCst) == 300).await;
    let metrics = publisher.metrics();
    assert_eq!((metrics.disk, metrics.outbox.held, metrics.outbox.events), (None, 0, 340));
    assert!(submit(&publisher, 900, true).unwrap().evidence_path.is_some(), "pictures are made again");
    drop(publisher);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(waiting(&data), 341);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_named_and_taken_into_use_when_it_can_be_written() {
    let test = "a_read_only_disk_is_named_and_taken_into_use_when_it_can_be_written";
    let Some(dir) = in_small_disk(test, 8 << 20) else { return };
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&dir).status();
        assert!(status.unwrap().success());
    };
    // With a database that was there, and without.
    let (old, new) = (dir.join("old"), dir.join("new"));
    let publisher = start(make::options(&old, nowhere()));
    submit(&publisher, 0, true).unwrap();
    publisher.stop(Duration::ZERO).await.unwrap();
    drop(publisher);
    std::fs::create_dir(&new).unwrap();
    remount("ro");

    let publishers = [&old, &new].map(|data| start(make::options(data, nowhere())));
    let stored = Arc::new(AtomicU64::new(0));
    for publisher in &publishers {
        let trouble = publisher.metrics().disk.expect("seen at the start");
        assert_eq!(trouble.kind, TroubleKind::ReadOnly, "{trouble}");
        let text = trouble.to_string();
        assert!(text.contains("cannot be written") && text.contains("mount it for writing"), "{text}");
        (1..=5).for_each(|number| hand_over(publisher, number, &stored));
        assert!(submit(publisher, 6, true).is_err());
        assert_eq!(publisher.metrics().outbox.held, 5);
    }
    remount("rw");
    until("all stored", || stored.load(Ordering::SeqCst) == 10).await;
    let events = publishers.each_ref().map(|publisher| publisher.metrics().outbox.events);
    assert_eq!(events, [6, 5]);
    assert!(publishers.iter().all(|publisher| publisher.metrics().disk.is_none()));
}

/// An outbox that waits for a broker with so many events, and what their ids are.
async fn filled(dir: &Path, events: u64) {
    let publisher = start(make::options(dir, nowhere()));
    let stored = Arc::new(AtomicU64::new(0));
    (0..events).for_each(|number| hand_over(&publisher, number, &stored));
    until("stored", || stored.load(Ordering::SeqCst) == events).await;
    publisher.crash().await;
}

/// Overwrites a part of a file, in shares of its size.
fn garble(path: &Path, from: f64, to: f64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let size = file.metadata().unwrap().len() as f64;
    let (from, to) = ((size * from) as u64, (size * to) as u64);
    file.write_all_at(&vec![0xa5; (to - from) as usize], from).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_database_is_set_aside_and_what_can_be_read_of_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 400).await;
    let path = dir.path().join("outbox.sqlite");
    garble(&path, 0.4, 0.45);
    let publisher = start(make::options(dir.path(), nowhere()));
    let metrics = publisher.metrics();
    let salvage = metrics.salvaged.expect("it was corrupt");
    assert_eq!((metrics.salvages, metrics.disk), (1, None));
    assert!(!salvage.whole);
    assert!(salvage.messages > 100, "{salvage:?}");
    let depth = metrics.outbox;
    assert_eq!(depth.messages, salvage.messages);
    assert!(depth.events > 50 && depth.events < 400, "{depth:?}");
    let name = salvage.set_aside.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("outbox.sqlite.corrupt-2"), "{name}");
    assert!(salvage.set_aside.exists(), "the old file is kept for whoever wants to look");
    // What will be sent is not taken twice, and what is new is taken.
    let stored = Arc::new(AtomicU64::new(0));
    (0..400).for_each(|number| hand_over(&publisher, number, &stored));
    until("stored", || stored.load(Ordering::SeqCst) == 400).await;
    let known = publisher.metrics().events.dropped[0].1;
    assert!(known >= depth.events, "{known} {depth:?}");
    assert_eq!(publisher.metrics().outbox.events, depth.events + 400 - known);
    assert!(!submit(&publisher, 1_000, true).unwrap().duplicate);
    publisher.crash().await;
    // The new one is whole.
    assert!(Outbox::open(dir.path(), u64::MAX).unwrap().salvaged().is_none());
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbox.sqlite");
    std::fs::write(&path, vec![0x5a; 100_000]).unwrap();
    let kept = dir.path().join("evidence").join(event(1, 0).id.to_string());
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(kept.join("first.jpg"), b"a picture").unwrap();
    let outbox = Outbox::open(dir.path(), u64::MAX).unwrap();
    let salvage = outbox.salvaged().unwrap();
    assert_eq!((salvage.messages, salvage.whole), (0, false));
    assert_eq!(std::fs::read(&salvage.set_aside).unwrap(), vec![0x5a; 100_000]);
    assert_eq!(outbox.depth().evidence_bytes, 9, "pictures outlive the rows that named them");
    assert!(kept.join("first.jpg").exists());
    drop(outbox);
    assert!(Outbox::open(dir.path(), u64::MAX).unwrap().salvaged().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_while_sending_costs_only_what_was_damaged() {
    let broker = match Mosquitto::prepare("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    // More than is read ahead, and than SQLite keeps in memory.
    filled(dir.path(), 2_500).await;
    let publisher = start(make::options(dir.path(), broker.broker()));
    until("read ahead", || publisher.metrics().outbox.events == 2_500).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    garble(&dir.path().join("outbox.sqlite"), 0.6, 0.65);
    let broker = broker.start_again().unwrap();
    until("met", || publisher.metrics().salvaged.is_some()).await;
    until("sent", || publisher.metrics().outbox.messages == 0).await;
    let metrics = publisher.metrics();
    assert_eq!(metrics.disk, None);
    let salvage = metrics.salvaged.unwrap();
    assert!(!salvage.whole && salvage.messages > 1_000, "{salvage:?}");
    assert!(metrics.events.passed > 1_000, "{:?}", metrics.events);
    assert!(!submit(&publisher, 9_000, true).unwrap().duplicate, "and it goes on");
    drop(broker);
}
