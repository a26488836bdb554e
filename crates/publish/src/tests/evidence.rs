//! Pictures from the publisher to their end: what is on disk when, what the chain says, and what is found when somebody
//! changes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use flow::{ClassName, Detection, Event, NormBox, Score, Timestamp};

use super::disk::nowhere;
use crate::evidence::{
    Finding, PublicKey, REGISTER, Verification, VerifyOptions, Why, Wrong, open_original, verify,
};
use crate::testing::sample::{self as make, event};
use crate::wire::{EventMessage, sha256};
use crate::{EvidenceOptions, Options, Outbox, Publisher, Retention};

fn start(options: Options) -> Publisher {
    Publisher::start(options, &tokio::runtime::Handle::current()).unwrap()
}

fn submit(publisher: &Publisher, event: &Event) -> PathBuf {
    submit_with(publisher, event, &make::situation())
}

fn submit_with(publisher: &Publisher, event: &Event, situation: &fleet::Situation) -> PathBuf {
    // Each picture another, as those of a camera are.
    let seed = format!("{}{}", event.id, event.sequence)
        .bytes()
        .fold(1u8, |a, b| a.wrapping_mul(31).wrapping_add(b));
    let luma = (0..64 * 48).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect();
    let frame = make::frame_of(64, 48, luma, (vec![110; 32 * 24], vec![140; 32 * 24]));
    let picture = Some((&frame, &make::seen()[..]));
    let done = publisher.submit(event, &make::camera(), situation, &make::model(), picture).unwrap();
    done.evidence_path.unwrap()
}

fn check(dir: &Path) -> Verification {
    verify(&dir.join("evidence"), &VerifyOptions::default()).unwrap()
}

fn wrongs(findings: &[Finding]) -> Vec<Wrong> {
    findings.iter().map(|finding| finding.problem).collect()
}

/// The one chain.
fn chain(dir: &Path) -> PathBuf {
    dir.join("evidence/chain/hn-0001.jsonl")
}

#[tokio::test]
async fn a_picture_has_its_boxes_beside_it_and_its_record_in_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(make::options(dir.path(), nowhere()));
    let path = submit(&publisher, &event(1, 0));
    let picture = fs::read(&path).unwrap();
    let side: serde_json::Value =
        serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
    assert_eq!(side["picture"]["sha256"], sha256(&picture));
    assert_eq!(
        (&side["camera"], &side["zone"], &side["role"]),
        (&"hn-0001".into(), &"lane".into(), &"first".into())
    );
    assert_eq!(side["captured"], event(1, 0).captured.to_string());
    assert_eq!(side["model"]["version"], "1.0.0");
    let object = &side["objects"][0];
    assert_eq!(object["box"], serde_json::json!([0.5, 0.25, 0.75, 0.75]));
    assert_eq!(
        (&object["class"], &object["score"], &object["zone"]),
        (&"car".into(), &0.875.into(), &"lane".into())
    );
    assert_eq!(side["hidden"][0]["box"], serde_json::json!([0.5, 0.475, 0.75, 0.75]), "the plate band");
    publisher.crash().await;

    // What the event says of the picture is what the chain says.
    let outbox = Outbox::open(dir.path(), u64::MAX).unwrap();
    let message = wait_for_event(&outbox);
    let evidence = &message.data.evidence[0];
    let end = &check(dir.path()).ends[0];
    let record = evidence.record.as_ref().unwrap();
    assert_eq!((record.seq, &record.sha256), (end.seq, &end.sha256));
    assert_eq!(evidence.sha256, sha256(&picture));
}

fn wait_for_event(outbox: &Outbox) -> EventMessage {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        for message in outbox.take(10) {
            if message.topic.contains("/event/") {
                return serde_json::from_slice(&message.payload).unwrap();
            }
            outbox.acked(&message);
        }
        assert!(std::time::Instant::now() < deadline, "no event");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_close_up_says_beside_it_which_part_of_the_picture_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(make::options(dir.path(), nowhere()));
    let near = flow::Event { near: flow::NormBox::new(0.25, 0.25, 0.75, 1.0).ok(), ..event(1, 1) };
    let (whole, part) = (submit(&publisher, &event(1, 0)), submit(&publisher, &near));
    let side = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap()
    };
    assert!(side(&whole).get("part").is_none(), "it is all of it");
    let side = side(&part);
    assert_eq!((&side["role"], &side["part"]), (&"near".into(), &serde_json::json!([0.25, 0.25, 0.75, 1.0])));
    // The boxes are still shares of the camera's picture.
    assert_eq!(side["objects"][0]["box"], serde_json::json!([0.5, 0.25, 0.75, 0.75]));
}

#[tokio::test]
async fn the_chain_goes_through_replacement_retention_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(make::options(dir.path(), nowhere()));
    let first = submit(&publisher, &event(1, 0));
    let latest = submit(&publisher, &event(1, 1));
    let mut again = event(1, 1);
    again.sequence = 2;
    let newer = submit(&publisher, &again);
    assert!(first.exists() && newer.exists() && !latest.exists() && !latest.with_extension("json").exists());
    let done = check(dir.path());
    assert_eq!((done.findings.len(), done.pictures, done.records), (0, 2, 4), "{:?}", done.findings);
    assert_eq!(done.deleted["replaced"], 1);
    publisher.crash().await;

    let publisher = start(make::options(dir.path(), nowhere()));
    let mut end = event(1, 2);
    end.sequence = 3;
    let clear = submit(&publisher, &end);
    assert!(clear.exists());
    let done = check(dir.path());
    assert_eq!((done.findings.len(), done.pictures, done.records), (0, 3, 5), "{:?}", done.findings);
    assert_eq!(done.keys.len(), 1, "the same key after a restart");
    assert_eq!(done.ends[0].seq, 5);
}

#[tokio::test]
async fn what_somebody_changes_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(make::options(dir.path(), nowhere()));
    let paths: Vec<_> = (0..4).map(|n| submit(&publisher, &event(n, 0))).collect();
    publisher.crash().await;
    let evidence = dir.path().join("evidence");
    assert_eq!(check(dir.path()).findings, []);
    let lines = fs::read_to_string(chain(dir.path())).unwrap();

    // A picture that was changed.
    let original = fs::read(&paths[1]).unwrap();
    let mut other = original.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&paths[1], &other).unwrap();
    let found = check(dir.path()).findings;
    assert_eq!(wrongs(&found), [Wrong::ChangedFile]);
    assert_eq!((found[0].seq, found[0].event), (Some(2), Some(event(1, 0).id)));
    assert!(
        found[0].to_string().contains("camera hn-0001, line 2") && found[0].to_string().contains("first-")
    );
    // Of another event nothing is wrong.
    let of = |n: u64| VerifyOptions { event: Some(event(n, 0).id), ..VerifyOptions::default() };
    assert_eq!(verify(&evidence, &of(2)).unwrap().findings, []);
    assert_eq!(verify(&evidence, &of(1)).unwrap().findings.len(), 1);
    assert!(verify(&evidence, &of(77)).is_err(), "no such event");
    fs::write(&paths[1], &original).unwrap();

    // Boxes that were changed.
    let side = paths[2].with_extension("json");
    let before = fs::read_to_string(&side).unwrap();
    fs::write(&side, before.replace("car", "bus")).unwrap();
    assert_eq!(wrongs(&check(dir.path()).findings), [Wrong::ChangedFile]);
    fs::write(&side, before).unwrap();

    // One that is missing, and one that nobody made.
    fs::rename(&paths[3], paths[3].with_file_name("first-000000000000.jpg")).unwrap();
    assert_eq!(wrongs(&check(dir.path()).findings), [Wrong::MissingFile, Wrong::UnknownFile]);
    fs::rename(paths[3].with_file_name("first-000000000000.jpg"), &paths[3]).unwrap();

    // A record that was changed: its signature, and the one after it.
    let hash = sha256(&original);
    fs::write(chain(dir.path()), lines.replace(&hash, &sha256(b"another"))).unwrap();
    let found = check(dir.path()).findings;
    assert_eq!(wrongs(&found), [Wrong::WrongSignature, Wrong::BrokenChain, Wrong::ChangedFile]);
    assert_eq!((found[0].line, found[1].line), (2, 3));

    // One that was taken out, and two that were exchanged.
    let all: Vec<&str> = lines.lines().collect();
    let write = |order: &[usize]| {
        let text: String = order.iter().map(|n| format!("{}\n", all[*n])).collect();
        fs::write(chain(dir.path()), text).unwrap();
        wrongs(&check(dir.path()).findings)
    };
    assert_eq!(write(&[0, 2, 3]), [Wrong::BrokenChain, Wrong::UnknownFile, Wrong::UnknownFile]);
    assert_eq!(write(&[0, 2, 1, 3]), [Wrong::BrokenChain; 3]);
    assert_eq!(write(&[0, 1, 2, 3]), []);

    // Its end taken off, with its picture: nothing is wrong in itself, but the event names its record.
    let three: String = all[..3].iter().map(|line| format!("{line}\n")).collect();
    fs::write(chain(dir.path()), three).unwrap();
    assert_eq!(check(dir.path()).ends[0].seq, 3);
    fs::write(chain(dir.path()), &lines).unwrap();

    // Another key.
    let elsewhere = tempfile::tempdir().unwrap();
    drop(start(make::options(elsewhere.path(), nowhere())));
    let keys = fs::read_dir(elsewhere.path().join("evidence/keys"));
    let wrong = keys.map_or(0, Iterator::count);
    assert_eq!(wrong, 1, "a worker's key is there from its start");
    let key = |dir: &Path| {
        let path = fs::read_dir(dir.join("evidence/keys")).unwrap().next().unwrap().unwrap().path();
        PublicKey::from_file(&path).unwrap()
    };
    let with = |key| VerifyOptions { keys: vec![key], ..VerifyOptions::default() };
    assert_eq!(verify(&evidence, &with(key(dir.path()))).unwrap().findings, []);
    let found = verify(&evidence, &with(key(elsewhere.path()))).unwrap().findings;
    assert_eq!(wrongs(&found), [Wrong::WrongSignature; 4]);
    assert!(found[0].text.contains("not known here"));

    // A folder that is none.
    assert!(verify(elsewhere.path(), &VerifyOptions::default()).is_err());
}

/// A crash may come after any of the files, after the record, and after the transaction that decides a deletion.
#[tokio::test]
async fn whatever_a_crash_leaves_is_put_right_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(make::options(dir.path(), nowhere()));
    let paths: Vec<_> = (0..3).map(|n| submit(&publisher, &event(n, 0))).collect();
    publisher.crash().await;

    // Files and record are there, and the transaction is not: the picture is no event's evidence.
    let forget = |number: u64| {
        let db = rusqlite::Connection::open(dir.path().join("outbox.sqlite")).unwrap();
        let id = event(number, 0).id.to_string();
        db.execute("DELETE FROM evidence WHERE event = ?1", [&id]).unwrap();
    };
    forget(1);
    // A deletion was decided, and not yet carried out.
    {
        let db = rusqlite::Connection::open(dir.path().join("outbox.sqlite")).unwrap();
        let id = event(2, 0).id.to_string();
        db.execute(
            "INSERT INTO gone (event, name, camera, why, stored)
             SELECT event, name, camera, 'room', 0 FROM evidence WHERE event = ?1",
            [&id],
        )
        .unwrap();
        db.execute("DELETE FROM evidence WHERE event = ?1", [&id]).unwrap();
    }
    // Beginnings: of a file, and of a record.
    fs::write(paths[0].with_extension("jpg.part"), b"half").unwrap();
    let mut lines = fs::read(chain(dir.path())).unwrap();
    lines.extend(b"{\"v\":1,\"camera\":\"hn-00");
    fs::write(chain(dir.path()), lines).unwrap();
    assert!(check(dir.path()).ends[0].unfinished);
    // Files that were written before the process began.
    std::thread::sleep(Duration::from_millis(20));

    let publisher = start(make::options(dir.path(), nowhere()));
    publisher.state().unwrap();
    assert!(paths[0].exists() && !paths[1].exists() && !paths[2].exists());
    assert!(!paths[0].with_extension("jpg.part").exists());
    let done = check(dir.path());
    assert_eq!((done.findings, done.pictures), (vec![], 1));
    assert_eq!((done.deleted["not_reported"], done.deleted["room"]), (1, 1));
    assert!(!done.ends[0].unfinished);
    // And it goes on.
    submit(&publisher, &event(9, 0));
    assert_eq!(check(dir.path()).findings, []);
}

#[tokio::test]
async fn pictures_go_when_their_time_is_over_by_situation_and_class() {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(24 * 3600);
    let retention = Retention {
        keep: Some(90 * day),
        by_situation: [("illegal_parking".to_owned(), 10 * day)].into(),
        by_class: [("community".to_owned(), 30 * day)].into(),
    };
    let evidence = EvidenceOptions { retention, ..EvidenceOptions::default() };
    let publisher = start(Options { evidence, ..make::options(dir.path(), nowhere()) });
    let parking = [submit(&publisher, &event(1, 0)), submit(&publisher, &event(1, 2))];
    let mut other = event(2, 0);
    other.key.situation = flow::SituationId::new("street_vending").unwrap();
    let vending = fleet::Situation { id: other.key.situation.clone(), ..make::situation() };
    let vending = submit_with(&publisher, &other, &vending);

    let later = |days: u64| Timestamp::now() + Duration::from_secs(3_600 * (24 * days + 1));
    assert_eq!(publisher.sweep_evidence(later(9)).unwrap(), 0);
    assert_eq!(publisher.sweep_evidence(later(10)).unwrap(), 2, "the situation's own time, `clear` as well");
    assert!(parking.iter().all(|path| !path.exists() && !path.with_extension("json").exists()));
    assert!(!parking[0].parent().unwrap().exists(), "nor is a folder left");
    assert!(vending.exists());
    let state = publisher.state().unwrap();
    assert_eq!(state.outbox.evidence, 1, "what was not sent is not sent any more");
    assert_eq!(state.outbox.events, 3, "events stay");
    assert_eq!(publisher.sweep_evidence(later(30)).unwrap(), 1, "the class's");
    assert_eq!(publisher.evidence_numbers().deleted[&Why::Retention], 3);
    assert_eq!(publisher.state().unwrap().outbox.evidence_bytes, 0);
    let done = check(dir.path());
    assert_eq!((done.findings, done.pictures, done.deleted["retention"]), (vec![], 0, 3));
}

/// With a person in the picture, and noise that a blurred region cannot hold.
fn noisy() -> (flow::Frame, Vec<Detection>) {
    let mut random = fastrand::Rng::with_seed(3);
    let mut bytes = |n: usize| (0..n).map(|_| random.u8(16..=235)).collect::<Vec<_>>();
    let frame = make::frame_of(320, 240, bytes(320 * 240), (bytes(160 * 120), bytes(160 * 120)));
    let seen = Detection {
        class: ClassName::new("person"),
        score: Score::new(0.9).unwrap(),
        bbox: NormBox::new(0.0, 0.0, 1.0, 1.0).unwrap(),
    };
    (frame, vec![seen])
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[tokio::test]
async fn originals_are_sealed_where_that_is_asked_for_and_else_nowhere() {
    let identity = age::x25519::Identity::generate();
    let (frame, seen) = noisy();
    // Noise of this size needs some 100 KB, blocks of 32 pixels next to nothing.
    let sharp = crate::evidence::Jpeg::original(&frame).unwrap().len() as u64;
    for originals_for in [None, Some(identity.to_public().to_string())] {
        let dir = tempfile::tempdir().unwrap();
        let sealed_wanted = originals_for.is_some();
        let evidence = EvidenceOptions { originals_for, ..EvidenceOptions::default() };
        let publisher = start(Options { evidence, ..make::options(dir.path(), nowhere()) });
        let picture = Some((&frame, &seen[..]));
        let done =
            publisher.submit(&event(1, 0), &make::camera(), &make::situation(), &make::model(), picture);
        let path = done.unwrap().evidence_path.unwrap();
        publisher.crash().await;
        assert!((fs::metadata(&path).unwrap().len()) < sharp / 4);
        let sealed = path.with_extension("jpg.age");
        assert_eq!(sealed.exists(), sealed_wanted);
        for (path, bytes) in files(dir.path()) {
            let is_jpeg = bytes.windows(3).any(|w| w == [0xff, 0xd8, 0xff]);
            let large = bytes.len() as u64 > sharp / 2;
            assert!(!(is_jpeg && large) || path == sealed, "{} holds more than it should", path.display());
        }
        if !sealed_wanted {
            continue;
        }
        assert!(fs::read(&sealed).unwrap().starts_with(b"age-encryption.org/v1"));
        assert_eq!(check(dir.path()).findings, []);
        let key = dir.path().join("identity.txt");
        fs::write(&key, identity.to_string().expose_secret()).unwrap();
        let register = dir.path().join("evidence").join(REGISTER);
        let plain = open_original(&sealed, &key, &register, "li", "case 7").unwrap();
        assert_eq!(plain.len() as u64, sharp);
        assert_eq!(image::load_from_memory(&plain).unwrap().width(), 320);
        assert_eq!(check(dir.path()).findings, []);
        // A sealed file that was exchanged, and a register that was rewritten.
        fs::write(&sealed, b"age-encryption.org/v1 another").unwrap();
        assert_eq!(wrongs(&check(dir.path()).findings), [Wrong::ChangedFile]);
        let text = fs::read_to_string(&register).unwrap();
        fs::write(&register, format!("{text}{text}")).unwrap();
        assert_eq!(wrongs(&check(dir.path()).findings), [Wrong::ChangedFile, Wrong::BrokenChain]);
    }
}

#[tokio::test]
async fn wrong_keys_recipients_and_stores_are_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |evidence| {
        let options = Options { evidence, ..make::options(dir.path(), nowhere()) };
        let started = Publisher::start(options, &tokio::runtime::Handle::current());
        started.unwrap_err().to_string()
    };
    let key = Some(fleet::Secret::new("hunter2".into()));
    let error = refused(EvidenceOptions { key, ..EvidenceOptions::default() });
    assert!(
        error.contains("evidence.key") && error.contains("openssl") && !error.contains("hunter2"),
        "{error}"
    );
    let originals_for = Some("age1nonsense".into());
    let error = refused(EvidenceOptions { originals_for, ..EvidenceOptions::default() });
    assert!(error.contains("evidence.originals.recipient"), "{error}");
}

/// Who does not trust this program checks a record with OpenSSL, as the page beside the code says.
#[tokio::test]
#[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
async fn openssl_checks_a_record_by_what_the_page_says() {
    let dir = tempfile::tempdir().unwrap();
    submit(&start(make::options(dir.path(), nowhere())), &event(1, 0));
    let page = include_str!("../evidence/README.md");
    let (_, rest) = page.split_once("```sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    // What it makes on the way goes with the test.
    let script = script.replace("/tmp/", &format!("{}/", dir.path().display()));
    let run = |script: &str| {
        let shell = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir(dir.path().join("evidence"))
            .output();
        let shell = shell.unwrap();
        (shell.status.success(), String::from_utf8_lossy(&shell.stderr).into_owned())
    };
    if !run("openssl version").0 {
        return println!("skipped: openssl is not installed");
    }
    let (right, said) = run(&script);
    assert!(right, "{said}");
    let text = fs::read_to_string(chain(dir.path())).unwrap();
    fs::write(chain(dir.path()), text.replace("\"first\"", "\"clear\"")).unwrap();
    assert!(!run(&script).0, "a record that was changed");
}
