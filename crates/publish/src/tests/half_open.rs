//! A line that is dead without a word, as behind a firewall that has forgotten the connection: no packet arrives, and none
//! says so. In a network namespace of its own, whose loop-back device is taken down; a user may make one (unless the
//! system forbids it), root need not be.

#![allow(clippy::disallowed_macros)]

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::mqtt::open_socket;
use crate::testing::Mosquitto;
use crate::testing::sample as make;
use crate::{Link, Publisher};

/// Tells the test below that it runs in the namespace.
const INSIDE: &str = "PUBLISH_HALF_OPEN_TEST";
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn a_dead_line_is_noticed_within_two_keep_alives() {
    let namespace = |command: &str, args: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", command]).args(args);
        unshare
    };
    match namespace("ip", &["link", "set", "lo", "up"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return println!("skipped: {}", String::from_utf8_lossy(&output.stderr)),
        Err(why) => return println!("skipped: unshare: {why}"),
    }
    let this = std::env::current_exe().unwrap();
    let inside = ["--exact", "tests::half_open::inside", "--nocapture"];
    let output = namespace(this.to_str().unwrap(), &inside).env(INSIDE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

fn line(state: &str) {
    let done = Command::new("ip").args(["link", "set", "lo", state]).status().unwrap();
    assert!(done.success(), "lo {state}");
}

/// What runs in the namespace. Does nothing when run as a test by itself.
#[tokio::test(flavor = "multi_thread")]
async fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    line("up");
    the_kernel_gives_up().await;
    the_publisher_notices(true).await;
    the_publisher_notices(false).await;
}

/// Without anything of MQTT: the kernel ends a connection whose data nobody confirms.
async fn the_kernel_gives_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let at = fleet::Address { host: address.ip().to_string(), port: address.port() };
    let mut ours = open_socket(&at, Duration::from_secs(5), 2 * KEEP_ALIVE).await.unwrap();
    let (_theirs, _) = listener.accept().await.unwrap();
    line("down");
    let since = Instant::now();
    ours.write_all(b"is anybody there?").await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(20), ours.read_u8()).await;
    let error = error.expect("without TCP_USER_TIMEOUT it takes a quarter of an hour").unwrap_err();
    let took = since.elapsed();
    line("up");
    println!("the kernel gave up after {took:?}: {error}");
    assert!(took >= KEEP_ALIVE && took < 2 * KEEP_ALIVE + SLACK, "{took:?}");
}

/// With something to send, or in silence; and what was submitted meanwhile arrives.
async fn the_publisher_notices(busy: bool) {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let options = make::options(dir.path(), fleet::Broker { keep_alive: KEEP_ALIVE, ..broker.broker() });
    let publisher = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    let submit = |number| {
        let event = make::event(number, 0);
        publisher.submit(&event, &make::camera(), &make::situation(), &make::model(), None).unwrap();
    };
    let acked = || publisher.metrics().outbox.messages == 0;
    let up = || matches!(publisher.metrics().link, Link::Up { .. });
    submit(1);
    until("the first is there", || up() && acked()).await;
    line("down");
    let since = Instant::now();
    if busy {
        submit(2);
    }
    until("it is noticed", || !up()).await;
    let took = since.elapsed();
    println!("noticed after {took:?}, {}", if busy { "with an event under way" } else { "in silence" });
    assert!(took < 2 * KEEP_ALIVE + SLACK, "{took:?}");
    submit(3);
    line("up");
    until("everything is there", acked).await;
    publisher.stop(Duration::from_secs(2)).await.unwrap();
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
