//! What a worker tells about itself: /metrics as Prometheus reads it, and the trace of an event at a collector.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use publish::testing::Mosquitto;

use crate::delivery::{Street, wait_until};
use crate::util::{Running, events, free_port};

/// A collector that takes whatever is sent to it, and hands on what it was.
fn collector() -> (u16, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (say, said) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = take(stream) else { continue };
            if say.send(request).is_err() {
                return;
            }
        }
    });
    (port, said)
}

/// One request with its body; answered, and the connection closed.
fn take(mut stream: TcpStream) -> Option<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if all.len() >= end + 4 + length {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).ok()?;
                return Some((head, all[end + 4..].to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => all.extend(&buffer[..length]),
            _ => return None,
        }
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a sample, by its name and labels as they are written.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn prometheus_reads_the_accounts_and_a_collector_gets_the_trace_of_an_event() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let street = Street::open(&runtime, dir.path(), broker.addr());
    let (port, (otlp, traces)) = (free_port(), collector());
    let mut yaml = std::fs::read_to_string(&street.config).unwrap();
    yaml += &format!("telemetry: {{ metrics: 127.0.0.1:{port}, otlp: http://127.0.0.1:{otlp}/ }}\n");
    // The store's folder is not there: a share that is not mounted.
    let store = dir.path().join("share");
    yaml += &format!("evidence: {{ store: {{ folder: {:?} }} }}\n", store.display().to_string());
    std::fs::write(&street.config, yaml).unwrap();
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();
    let mut worker = Running::start(dir.path(), "run", &["run", "--config", &street.config]);
    worker.wait_said("watching", Duration::from_secs(60));
    let heard = listener.wait(Duration::from_secs(60), |heard| !events(heard).is_empty());
    let heard = heard.unwrap_or_else(|_| panic!("no event\n{}", worker.said()));
    let event = &events(&heard)[0];

    let (head, body) = traces.recv_timeout(Duration::from_secs(10)).expect("a trace");
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    let id: Vec<u8> = {
        let digits = event.event.replace('-', "");
        (0..16).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let holds = |bytes: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
    for name in ["illegal_parking began", "decode", "gate and model", "scene", "outbox", "broker", "huiyan"] {
        assert!(holds(name.as_bytes()), "{name} is not in the trace");
    }
    assert!(holds(&id), "the trace is that of the message's traceparent");

    let text = get(port, "/metrics");
    assert!(text.contains("application/openmetrics-text"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    for stage in ["ingest", "decode", "scene", "publish"] {
        assert!(sample(&text, &format!("huiyan_passed_total{{stage=\"{stage}\"}}")) > 0.0, "{text}");
    }
    assert_eq!(sample(&text, "huiyan_broker_connected"), 1.0);
    assert_eq!(sample(&text, "huiyan_cameras{state=\"streaming\"}"), 4.0);
    assert!(sample(&text, "huiyan_event_acked_seconds_count") >= 1.0);
    assert_eq!(sample(&text, "huiyan_disk_trouble{kind=\"full\"}"), 0.0);
    assert!(get(port, "/").starts_with("HTTP/1.1 404"));

    let now = |name: &str| sample(&get(port, "/metrics"), name);
    let patience = Duration::from_secs(30);
    wait_until("the store is down", patience, || now("huiyan_evidence_store_up") == 0.0);
    assert!(now("huiyan_evidence_store_waiting") >= 1.0 && now("huiyan_evidence_kept_bytes") > 0.0);
    assert_eq!(now("huiyan_evidence_stored_total"), 0.0);
    assert_eq!(now("huiyan_evidence_deleted_total{reason=\"room\"}"), 0.0);
    std::fs::create_dir(&store).unwrap();
    wait_until("the picture is stored", patience, || now("huiyan_evidence_stored_total") >= 1.0);
    assert_eq!(now("huiyan_evidence_store_up"), 1.0);
    worker.stop();
    runtime.block_on(street.server.shutdown());
}
