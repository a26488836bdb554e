//! Evidence as its users meet it: what is under a mask never leaves the decoder, and what lies in the folder is verified.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use publish::testing::Mosquitto;
use serde_json::Value;
use sim::rtsp::Server;
use sim::street::{self, Timeline};
use sim::{Begin, Plan};

use crate::delivery::STREET;
use crate::util::{self, Running, huiyan, project, write};

/// Corners of a rectangle.
fn rectangle([x0, y0, x1, y1]: [f32; 4]) -> String {
    format!("[[{x0}, {y0}], [{x1}, {y0}], [{x1}, {y1}], [{x0}, {y1}]]")
}

/// Pictures of an evidence folder.
fn pictures(evidence: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(evidence).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = folders.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "jpg"));
    files.sort();
    files
}

fn verify(what: &str, more: &[&str]) -> (Option<i32>, String) {
    let done = huiyan(&[&["evidence", "verify", what], more].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    (done.status.code(), said.into_owned())
}

/// The same street seen by two cameras: one whose mask is far from where the car stops, one whose mask is over it.
#[test]
fn what_is_under_a_mask_is_seen_by_nobody_and_the_chain_of_the_rest_is_verified() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let timeline = Timeline::parse("street", STREET).unwrap();
    let clip = Arc::new(street::encode(&timeline, &mut |_, _| {}).unwrap());
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let plan = Plan { begin: Begin::Staggered, ..Plan::new(2) };
    let corners: Vec<_> = timeline.zones()[0].polygon.points().iter().map(|p| [p.x, p.y]).collect();
    let edge = |axis: usize, pick: fn(f32, f32) -> f32| corners.iter().map(|c| c[axis]).reduce(pick).unwrap();
    let top = edge(1, f32::min);
    let over = [
        (edge(0, f32::min) - 0.2).max(0.0),
        (top - 0.3).max(0.0),
        (edge(0, f32::max) + 0.2).min(1.0),
        (edge(1, f32::max) + 0.2).min(1.0),
    ];
    let away = [0.0, 0.0, 1.0, top / 3.0];
    let mut yaml = format!(
        "{head}models: {{ street-demo: {model:?} }}
situations:
  illegal_parking:
    zh: 机动车乱停放
    en: illegal parking
    rule: {{ dwell: {{ classes: [car], at_least: 3s }}, update_every: 1h, end_after: 1s }}
classes: {{ any: {{ model: street-demo, look: {{ at_most_every: 500ms }} }} }}
cameras:
",
        head = util::fleet_head(broker.addr(), dir.path()),
        model = project("models/street-demo"),
    );
    for (camera, mask) in plan.mount(&server, &[clip]).unwrap().iter().zip([away, over]) {
        yaml += &format!(
            "  - {{ id: {id}, class: any, url: {url}, masks: [{mask}], \
             zones: [{{ id: kerb, polygon: {corners:?}, situations: [illegal_parking] }}] }}\n",
            id = if mask == away { "open" } else { "covered" },
            url = camera.url,
            mask = rectangle(mask),
        );
    }
    let config = write(dir.path(), "fleet.yaml", &yaml).to_str().unwrap().to_owned();
    let mut worker = Running::start(dir.path(), "run", &["run", "--config", &config]);
    let evidence = dir.path().join("data/evidence");
    let deadline = Instant::now() + Duration::from_secs(90);
    // Two situations, so that the covered camera has shown the car as well.
    while worker.said().matches("疑似").count() < 3 {
        assert!(Instant::now() < deadline, "no situation:\n{}", worker.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    worker.stop();

    let chains = std::fs::read_dir(evidence.join("chain")).unwrap().map(|entry| entry.unwrap().file_name());
    let chains: Vec<_> = chains.collect();
    assert_eq!(chains, ["open.jsonl"], "nothing was recognised under the mask\n{}", worker.said());
    for path in pictures(&evidence) {
        let picture = image::open(&path).unwrap().to_rgb8();
        let brightest = |from: f32, to: f32| {
            let rows = (from * picture.height() as f32) as u32..(to * picture.height() as f32) as u32;
            rows.flat_map(|y| (0..picture.width()).map(move |x| (x, y)))
                .map(|(x, y)| *picture.get_pixel(x, y).0.iter().max().unwrap())
                .max()
                .unwrap()
        };
        assert!(brightest(0.0, away[3] - 0.03) < 30, "{}: black under the mask", path.display());
        assert!(brightest(away[3] + 0.05, 1.0) > 100, "{}: and not elsewhere", path.display());
        let side = std::fs::read(path.with_extension("json")).unwrap();
        let side: Value = serde_json::from_slice(&side).unwrap();
        assert_eq!((&side["camera"], &side["zone"]), (&"open".into(), &"kerb".into()));
    }

    check_verify(&dir.path().join("data"), &config);
}

fn check_verify(data: &Path, config: &str) {
    let evidence = data.join("evidence");
    let data = data.to_str().unwrap();
    let all = pictures(&evidence);
    let (code, said) = verify(data, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{} pictures are as they were made", all.len())), "{said}");
    assert!(said.contains("lies beside the pictures"), "{said}");
    let key = std::fs::read_dir(evidence.join("keys")).unwrap().next().unwrap().unwrap().path();
    let (code, said) = verify(data, &["--key", key.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["pictures"], &json["findings"]), (&all.len().into(), &Value::Array(vec![])));

    // Of one event, by its id.
    let event = all[0].parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(verify(&event, &["--config", config]).0, Some(0));
    assert_eq!(verify(&event, &[]).0, Some(2), "where?");
    let nobody = "019ab698-d260-740b-981b-6084c1954ebf";
    assert_eq!(verify(nobody, &["--config", config]).0, Some(2), "no such event");
    assert_eq!(verify("/nowhere", &[]).0, Some(2));

    // A picture that somebody changed.
    let mut bytes = std::fs::read(&all[0]).unwrap();
    bytes.extend(b"more");
    std::fs::write(&all[0], bytes).unwrap();
    for (what, more) in [(data, vec![]), (&*event, vec!["--config", config])] {
        let (code, said) = verify(what, &more);
        assert_eq!(code, Some(1), "{said}");
        let name = all[0].file_name().unwrap().to_str().unwrap();
        assert!(said.contains("WRONG  camera open, line ") && said.contains(name), "{said}");
        assert!(said.contains("1 thing is wrong"), "{said}");
    }
}
