//! Delivery from a disk that is full, and what the bench of it prints.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use flow::Timestamp;
use publish::testing::Mosquitto;
use serde_json::Value;

use crate::delivery::Street;
use crate::util::{Running, events, huiyan, time};

/// `huiyan` with a file system of its own, of 24 MB, as its data folder. `None` where the system does not allow that.
fn on_a_small_disk(data: &std::path::Path, args: &[&str]) -> Option<Command> {
    std::fs::create_dir_all(data).unwrap();
    let mount = "mount -t tmpfs -o size=24m tmpfs \"$0\"";
    let shell = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {then}")]).arg(data);
        command
    };
    if !shell("true").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system can be mounted here (unshare --map-root-user --mount)");
        return None;
    }
    let mut command = shell("exec \"$@\"");
    let program = huiyan(args);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}

#[test]
fn a_full_disk_stops_neither_the_watch_nor_an_event() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let street = Street::open(&runtime, dir.path(), broker.addr());
    let data = dir.path().join("data");
    let Some(command) = on_a_small_disk(&data, &["run", "--config", &street.config]) else { return };
    let listener = broker.listen("observer", "huiyan/v1/test/#").unwrap();
    let mut worker = Running::start_as(dir.path(), "run", command);
    worker.wait_said("疑似", Duration::from_secs(60));

    // The disk as the worker sees it, filled to the last byte, and again whenever room is made.
    let seen = PathBuf::from(format!("/proc/{}/root{}", worker.id(), data.display()));
    let fill = || {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(seen.join("ballast")).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|n| n > 0) {}
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !worker.said().contains("events are held in memory") {
        assert!(Instant::now() < deadline, "{}", worker.said());
        fill();
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = worker.said();
    assert!(
        said.contains("outbox.sqlite: the disk is full (") && said.contains("free space there"),
        "{said}"
    );
    let full = Timestamp::now();
    let status = |what: &'static str| {
        listener.wait(Duration::from_secs(10), move |heard| {
            let last = heard.iter().rfind(|message| message.topic.ends_with("/worker/w1/status"));
            let status = last.map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
            status.is_some_and(|status| match what {
                "" => status["reason"] == "",
                what => status["reason"].as_str().unwrap().contains(what) && status["state"] == "online",
            })
        })
    };
    status("the disk is full").expect("the worker's status says so");
    // Four cameras make an event every three seconds or so.
    std::thread::sleep(Duration::from_secs(12));
    let free = Timestamp::now();
    std::fs::remove_file(seen.join("ballast")).unwrap();
    worker.wait_said("the disk takes events again", Duration::from_secs(15));
    status("").expect("the worker's status says nothing any more");
    let of_meanwhile = |heard: &[publish::testing::Heard]| {
        let began = events(heard).into_iter().map(|event| time(&event.data, "last_seen"));
        began.filter(|at| *at > full && *at < free).count()
    };
    let heard = listener.wait(Duration::from_secs(15), |heard| of_meanwhile(heard) >= 2);
    let heard = heard.unwrap_or_else(|heard| panic!("{:?}\n{}", events(&heard), worker.said()));
    println!("{} event(s) of the time when the disk was full", of_meanwhile(&heard));
    worker.stop();
    assert!(!worker.said().contains("are lost"), "{}", worker.said());
    runtime.block_on(street.server.shutdown());
}

#[test]
fn bench_deliver_prints_delays_beside_the_peers_and_what_an_outage_costs() {
    if let Err(why) = Mosquitto::prepare("") {
        return println!("skipped: {why}");
    }
    let output = huiyan(&["bench", "deliver", "--rate", "100", "--picture-rate", "10", "--json"])
        .args(["--seconds", "0.4", "--outage", "1.5s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| {
        let found = figures.iter().find(|figure| figure["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {figures:?}")).clone()
    };
    let value = |name: &str| figure(name)["value"].as_f64().unwrap();
    for name in ["deliver.event_p50_ms", "deliver.event_p99_ms", "deliver.drain_per_second"] {
        let figure = figure(name);
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
        assert!(
            figure["floor"].as_f64().unwrap() > 0.0 && figure["ratio"].as_f64().unwrap() > 0.0,
            "{figure}"
        );
    }
    assert!(value("deliver.event_p99_ms.pictures") > 0.0);
    // Some 150 events while the broker was away, with two messages each.
    assert!(value("deliver.waited") >= 200.0, "{figures:?}");
    assert!(value("deliver.events") >= 250.0, "{figures:?}");
    assert_eq!((value("deliver.lost"), value("deliver.left")), (0.0, 0.0), "{figures:?}");

    let output = huiyan(&["bench", "deliver", "--outage", "long"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
