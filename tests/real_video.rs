//! A real clip over RTSP, a real detector, a real broker, and an independent client that listens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use publish::testing::Mosquitto;
use sim::Clip;
use sim::rtsp::{Mount, Server};

use crate::util::{self, Running, events, seconds, shared, time, write};

/// `standing` of each visit in `one-by-one.truth.yaml`, seconds.
const STANDING: [(f64, f64); 6] =
    [(8.0, 18.0), (25.0, 43.0), (52.0, 68.0), (77.0, 85.0), (94.0, 118.0), (126.0, 134.0)];
const DWELL_S: f64 = 5.0;

/// Six people stand at a table one after the other: six situations, each begins and ends on time, and nothing else.
#[test]
fn people_at_a_table_begin_and_end_on_time() {
    let (Some(video), Some(truth)) = (shared("media/one-by-one.mp4"), shared("media/one-by-one.truth.yaml"))
    else {
        return;
    };
    // The figures above are read off that file; if it changes, they must.
    let truth = std::fs::read_to_string(truth).unwrap();
    for (from, to) in STANDING {
        assert!(truth.contains(&format!("standing: [{from}, {to}]")), "the truth has changed");
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(model) = util::yolox_nano(dir.path()) else { return };
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clip = Arc::new(Clip::open(&video).unwrap());
    let length = clip.duration;
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    server.mount("table", Mount::new(clip).rounds(1)).unwrap();

    let fleet = format!(
        "{head}models: {{ yolox-nano: {model:?} }}
situations:
  standing:
    zh: 停留
    en: somebody stands at the table
    rule: {{ dwell: {{ classes: [person], at_least: 5s }}, min_score: 0.3, update_every: 1h, end_after: 1s }}
classes:
  community: {{ model: yolox-nano, look: {{ at_most_every: 500ms }} }}
cameras:
  - id: table
    class: community
    url: {url}
    zones: [{{ id: table, polygon: [[0.44, 0.0], [0.80, 0.0], [0.80, 1.0], [0.44, 1.0]], situations: [standing] }}]
",
        head = util::fleet_head(broker.addr(), dir.path()),
        url = server.url("table"),
    );
    let config = write(dir.path(), "fleet.yaml", &fleet);
    let mut huiyan = Running::start(dir.path(), "run", &["run", "--config", config.to_str().unwrap()]);

    let ended = |list: &[_]| events(list).iter().filter(|e| e.phase == "ended").count() >= STANDING.len();
    let heard = listener.wait(length + Duration::from_secs(20), ended);
    // What comes too many comes late: give it time.
    let rest = server.plays().first().map(|play| play.started + length);
    while rest.is_some_and(|end| jiff::Timestamp::now() < end) {
        std::thread::sleep(Duration::from_millis(100));
    }
    huiyan.stop();
    let told = events(&listener.all());
    let started = server.plays()[0].started;
    let story: Vec<_> = told
        .iter()
        .map(|e| {
            let at = time(&e.data, if e.phase == "ended" { "ended" } else { "began" });
            (e.phase.clone(), (seconds(started, at) * 10.0).round() / 10.0)
        })
        .collect();
    println!("{story:?}");
    assert!(heard.is_ok(), "not all have ended: {story:?}\n{}", huiyan.said());
    // A close-up of somebody who is seen better than at first is an update, three at most of each.
    let (told, close_ups): (Vec<_>, Vec<_>) = told.into_iter().partition(|e| e.phase != "updated");
    for close_up in &close_ups {
        assert_eq!(close_up.data["evidence"][0]["role"], "near", "{}", close_up.data);
        assert!(told.iter().any(|e| e.event == close_up.event), "{}", close_up.data);
    }
    assert!(close_ups.len() <= 3 * STANDING.len(), "{story:?}");
    assert_eq!(told.len(), 2 * STANDING.len(), "nothing but began and ended of each: {story:?}");
    for (visit, (from, to)) in STANDING.into_iter().enumerate() {
        let (began, ended) = (&told[2 * visit], &told[2 * visit + 1]);
        assert_eq!((began.phase.as_str(), ended.phase.as_str()), ("began", "ended"), "{story:?}");
        assert_eq!(began.event, ended.event);
        assert_eq!(began.data["situation"]["id"], "standing");
        let at = seconds(started, time(&began.data, "began"));
        assert!((at - from - DWELL_S).abs() <= 2.0, "visit {visit} began at {at:.1}, not {}", from + DWELL_S);
        let at = seconds(started, time(&ended.data, "ended"));
        assert!((at - to).abs() <= 2.0, "visit {visit} ended at {at:.1}, not {to}");
    }
    runtime.block_on(server.shutdown());
}
