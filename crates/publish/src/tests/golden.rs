//! The files in `testdata/` are the contract: what is written must equal them, and what is in them must be readable.

use std::time::Duration;

use crate::message::Speaker;
use crate::testing::sample as make;
use crate::wire::{
    EventMessage, Evidence, EvidenceRecord, HealthMessage, LookAnswer, LookCommand, Object, Onvif, Outcome,
    PhaseName, Picture, ReadError, Receipt, Role, Verdict, VerdictMessage, WorkerState, WorkerStatus,
    peek_event_id,
};

fn speaker() -> Speaker {
    Speaker { site: "huinan".into(), worker: "w1".into(), config_hash: "cd".repeat(32) }
}

fn message(sequence: u32) -> EventMessage {
    let event = make::event(1, sequence);
    let role = [Role::First, Role::Latest, Role::Clear][sequence as usize];
    let picture = Evidence {
        role,
        media_type: "image/jpeg".into(),
        sha256: "ef".repeat(32),
        reference: format!("huiyan/v1/huinan/evidence/{}/{role}", event.id),
        width: 1280,
        height: 720,
        part: None,
        record: Some(EvidenceRecord { seq: 2 * u64::from(sequence) + 1, sha256: "0a".repeat(32) }),
    };
    speaker().message(&event, &make::camera(), &make::situation(), &make::model(), vec![picture])
}

/// Compares with the file; `UPDATE_GOLDEN=1` writes it instead, for a change that is meant.
fn same_as_file<T>(name: &str, value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let written = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, golden, "{name}: the wire format changed; integrators read this file");
    assert_eq!(&serde_json::from_str::<T>(&golden).unwrap(), value, "{name} does not read back");
}

#[test]
fn events_equal_their_golden_files() {
    same_as_file("event-began.json", &message(0));
    same_as_file("event-updated.json", &message(1));
    same_as_file("event-ended.json", &message(2));
}

#[test]
fn an_event_says_what_confirmed_it() {
    let mut event = make::event(1, 0);
    event.confirmed_by = Some(flow::Confirmation {
        model: flow::ModelId::new("street-confirm").unwrap(),
        class: flow::ClassName::new("vendor"),
        score: flow::Score::new(0.9375).unwrap(),
    });
    let message = speaker().message(&event, &make::camera(), &make::situation(), &make::model(), vec![]);
    same_as_file("event-confirmed.json", &message);
}

#[test]
fn other_messages_equal_their_golden_files() {
    let known = flow::Health {
        fps: Some(25.0),
        bit_rate: Some(530_000),
        key_interval_s: Some(2.0),
        loss_percent: Some(6.5),
        clock_offset_s: Some(-1.25),
        last_picture: Some(make::time(59)),
        via: Some(flow::Via::Lean),
        note: "decoded in full: key pictures come every 600 s".into(),
        ..flow::Health::new(
            make::camera().id,
            flow::CameraState::Losing(7),
            "6.5 % of the RTP packets of the last 60s did not arrive",
            make::time(0),
        )
    };
    let start = std::time::Instant::now();
    let mut coverage = flow::Coverage::new(&flow::CameraState::Connecting, start);
    coverage.enter(&flow::CameraState::Streaming, start + Duration::from_millis(1_500));
    coverage.enter(&flow::CameraState::Losing(7), start + Duration::from_secs(60));
    let minutes = coverage.at(start + Duration::from_secs(120));
    same_as_file("health.json", &HealthMessage::new(&known, Some(&minutes), "w1"));
    let unknown = flow::Health::new(
        make::camera().id,
        flow::CameraState::Unsupported("offers no video, but audio/pcmu".into()),
        "",
        make::time(0),
    );
    same_as_file("health-unknown.json", &HealthMessage::new(&unknown, None, "w1"));
    let status = WorkerStatus {
        worker: "w1".into(),
        state: WorkerState::Online,
        reason: String::new(),
        started: make::time(0),
        version: "0.1.0".into(),
        config_hash: "cd".repeat(32),
    };
    same_as_file("worker-status.json", &status);
    let event = make::event(1, 0);
    let receipt = Receipt {
        event: event.id,
        message: Some(EventMessage::message_id(event.id, 0)),
        outcome: Outcome::Accepted,
        case: Some(7),
        reason: None,
        at: make::time(61),
    };
    same_as_file("receipt.json", &receipt);
}

#[test]
fn what_others_tell_a_worker_and_its_answer_equal_their_golden_files() {
    let event = make::event(1, 0);
    let verdict = VerdictMessage {
        event: event.id,
        verdict: Verdict::NotAProblem,
        reason: "车主在卸货".into(),
        at: make::time(120),
    };
    same_as_file("verdict.json", &verdict);
    let command = LookCommand { reply_to: Some("huiyan/v1/huinan/reply/desk-1".into()) };
    same_as_file("look-command.json", &command);
    let answer = LookAnswer {
        camera: make::camera().id,
        captured: Some(make::time(121)),
        objects: event.objects.iter().map(Object::from).collect(),
        open: vec![event.id],
        picture: Some(Picture {
            media_type: "image/jpeg".into(),
            sha256: "ef".repeat(32),
            data: "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q==".into(),
        }),
        error: String::new(),
    };
    same_as_file("look-answer.json", &answer);
}

#[test]
fn what_an_onvif_client_is_told_equals_its_golden_files() {
    let onvif = |message: &EventMessage| Onvif::new("{site}/{camera}", "huinan", message);
    let began = onvif(&message(0)).unwrap();
    let topic =
        "huinan/hn-0001/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/&hn-0001/huiyan/illegal_parking@lane";
    assert_eq!((began.topic.as_str(), began.property), (topic, true));
    same_as_file("onvif-began.json", &began.event);
    let ended = onvif(&message(2)).unwrap();
    assert_eq!(ended.topic, topic, "the same property");
    same_as_file("onvif-ended.json", &ended.event);
    let mut crossed = message(0);
    crossed.data.rule = "cross".into();
    let told = onvif(&crossed).unwrap();
    let topic =
        "huinan/hn-0001/onvif-ej/RuleEngine/LineDetector/Crossed/&hn-0001/huiyan/illegal_parking@lane";
    assert_eq!((told.topic.as_str(), told.property), (topic, false));
    same_as_file("onvif-crossed.json", &told.event);
    crossed.data.phase = PhaseName::Ended;
    assert_eq!(onvif(&crossed), None, "over at once");
}

#[test]
fn a_message_without_what_is_optional_and_with_what_is_unknown_is_read() {
    let mut json = serde_json::to_value(message(0)).unwrap();
    let data = json["data"].as_object_mut().unwrap();
    data.remove("code");
    data.remove("objects");
    data.remove("evidence");
    data.insert("severity".into(), 3.into());
    data["camera"].as_object_mut().unwrap().retain(|key, _| key == "id" || key == "class");
    json["traceparent"] = "00-0-0-00".into();
    let read = EventMessage::parse(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.data.event, make::event(1, 0).id);
    assert_eq!((read.data.code, read.data.camera.name), (None, None));
}

#[test]
fn a_suspicion_is_never_worded_as_a_finding() {
    for sequence in 0..3 {
        let text = message(sequence).data.text;
        assert!(text.zh.starts_with("疑似机动车乱停放"), "{}", text.zh);
        assert!(text.en.starts_with("Suspected illegal parking"), "{}", text.en);
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let refuse = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = serde_json::to_value(message(0)).unwrap();
        change(&mut json);
        let body = json.to_string();
        let error = EventMessage::parse(body.as_bytes()).unwrap_err().to_string();
        (error, peek_event_id(body.as_bytes()))
    };
    let known = Some(make::event(1, 0).id);
    let (error, id) = refuse(&|json| json["specversion"] = "0.3".into());
    assert_eq!((error.as_str(), id), (r#"specversion is "0.3"; expected "1.0""#, known));
    let (error, _) = refuse(&|json| json["id"] = "7".into());
    assert!(error.starts_with(r#"id is "7"; expected ""#), "{error}");
    let (error, _) = refuse(&|json| json["type"] = "huiyan.situation.ended.v1".into());
    assert_eq!(error, r#"type is "ended"; expected "began""#);
    let (error, _) = refuse(&|json| json["type"] = "huiyan.situation.began.v2".into());
    assert!(error.contains("unknown variant `huiyan.situation.began.v2`"), "{error}");
    let (error, id) = refuse(&|json| json["data"]["confidence"] = 1.5.into());
    assert!(error.contains("1.5 is no score"), "{error}");
    assert_eq!(id, known);
    let (error, _) = refuse(&|json| json["data"]["objects"][0]["box"] = vec![0.5, 0.5, 0.4, 0.6].into());
    assert!(error.contains("is no box"), "{error}");
    let (error, _) = refuse(&|json| json["data"]["camera"]["id"] = "a/../b".into());
    assert!(error.contains("holds '/'"), "{error}");
    let (_, id) = refuse(&|json| json["data"]["event"] = "'; DROP TABLE cases".into());
    assert_eq!(id, None);
    for body in [&b""[..], b"{", b"null", b"[]", &[0xff; 64], &b"[".repeat(100_000)] {
        assert!(matches!(EventMessage::parse(body), Err(ReadError::Json(_))));
        assert_eq!(peek_event_id(body), None);
    }
    assert!(matches!(EventMessage::parse(&vec![b' '; 300_000]), Err(ReadError::TooLong(300_000))));
}
