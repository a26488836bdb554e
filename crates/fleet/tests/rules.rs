//! Rules, calendars and numberings, right and wrong.

mod common;

use std::time::Duration;

use common::Folder;
use fleet::{Direction, RuleKind};
use flow::{ClassName, SituationId, Timestamp};

const HEAD: &str = "site: s\nmodels: {street-demo: models/street-demo}\n";

/// One camera with this rule and this zone.
fn with(rule: &str, zone: &str) -> String {
    format!(
        "{HEAD}situations: {{s: {{zh: 一, en: one, rule: {rule}}}}}
classes: {{c: {{model: street-demo, situations: [s]}}}}
cameras: [{{id: a, class: c, url: rtsp://192.0.2.1/, zones: [{{id: z, polygon: [[0, 0], [1, 0], [1, 1]]{zone}}}]}}]
"
    )
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time stamp of this test")
}

#[test]
fn every_condition_is_read() {
    let folder = Folder::new();
    let kind = |rule: &str, zone: &str| {
        let fleet = folder.load_text(&with(rule, zone)).unwrap();
        fleet.cameras[0].zones[0].rules[0].kind.clone()
    };
    let RuleKind::Together(rule) = kind("{together: {classes: [goods], with: [person], share: 0.5}}", "")
    else {
        panic!("together")
    };
    assert_eq!((rule.share, rule.things.at_least), (0.5, Duration::from_secs(180)));
    assert_eq!(rule.with, [ClassName::new("person")]);
    let RuleKind::Coverage(rule) = kind("{coverage: {share: 0.1, at_least: 90s}}", "") else {
        panic!("coverage")
    };
    assert_eq!((rule.share, rule.at_least), (0.1, Duration::from_secs(90)));
    let RuleKind::Count(rule) = kind("{count: {classes: [person], from: 5}}", "") else { panic!("count") };
    assert_eq!((rule.from, rule.below), (5, 5));
    let line = ", line: [[0, 0.5], [1, 0.5]]";
    let RuleKind::Cross(rule) = kind("{cross: {classes: [car], direction: to_left}}", line) else {
        panic!("cross")
    };
    assert_eq!(rule.direction, Direction::ToLeft);
    let RuleKind::Model(rule) = kind("{model: {classes: [boxes]}}", "") else { panic!("model") };
    assert_eq!((rule.share, rule.at_least), (0.6, Duration::from_secs(60)));
}

#[test]
fn calendars_are_on_the_sites_clock_and_know_its_holidays() {
    let folder = Folder::new();
    folder.write("holidays.txt", "# 2026\n2026-10-01 国庆节\n\n2026-10-02\n");
    let rule = "{dwell: {classes: [car]}, windows: [{days: [mon, tue, wed, thu, fri], from: \"07:00\", to: \"19:00\", holidays: except}]}";
    let text = with(rule, ", permitted: [{from: \"22:00\", to: \"02:00\", dates: [\"05-01\", \"10-31\"]}]");
    let fleet = folder.load_text(&format!("{text}holidays: holidays.txt\n")).unwrap();
    let zone = &fleet.cameras[0].zones[0];
    let windows = zone.rules[0].windows.as_ref().unwrap();
    // 2026-10-08 is a Thursday; Shanghai is eight hours before UTC.
    assert!(windows.is_open(at("2026-10-08T10:59:59Z")));
    assert!(!windows.is_open(at("2026-10-08T11:00:00Z")));
    assert!(!windows.is_open(at("2026-10-01T08:00:00Z")), "a holiday");
    assert_eq!(windows.open_since(at("2026-10-08T00:00:00Z")), Some(at("2026-10-07T23:00:00Z")));
    let permitted = zone.permitted.as_ref().unwrap();
    assert!(permitted.is_open(at("2026-07-01T17:30:00Z")));
    assert!(!permitted.is_open(at("2026-12-01T17:30:00Z")));
}

#[test]
fn an_event_carries_the_number_of_the_chosen_set() {
    let folder = Folder::new();
    folder.write(
        "codes/a.yaml",
        "version: v1\nstatus: unverified\nsource: a test\ncodes: {\"0505\": 机动车乱停放}\n",
    );
    folder.write("codes/b.yaml", "version: v2\nstatus: verified\nsource: a test\ncodes: {\"0401\": 游商}\n");
    let text = |codes: &str| {
        format!(
            "{HEAD}code_sets: {{a: codes/a.yaml, b: codes/b.yaml}}\ncode_set: a\n\
             situations: {{s: {{zh: 一, en: one, codes: {codes}, rule: {{dwell: {{classes: [car]}}}}}}}}\n"
        )
    };
    let id = SituationId::new("s").unwrap();
    let fleet = folder.load_text(&text("{b: \"0401\", a: \"0505\"}")).unwrap();
    let code = fleet.situations[&id].code.as_ref().unwrap();
    assert_eq!((&*code.set, &*code.version, &*code.code, &*code.name), ("a", "v1", "0505", "机动车乱停放"));
    let fleet = folder.load_text(&text("{b: \"0401\"}")).unwrap();
    assert_eq!(fleet.situations[&id].code, None);
    let found = folder.mistakes(&text("{a: \"0401\", c: \"1\"}"));
    assert_eq!(
        found,
        [
            "main.yaml:5:45: situations.s.codes.a: \"0401\" is no number of a; see the code set's file",
            "main.yaml:5:53: situations.s.codes.c: \"c\" is no known code set; did you mean \"a\"?",
        ]
    );
}

#[test]
fn mistakes_in_rules_name_their_place() {
    let folder = Folder::new();
    let zone = "";
    let cases = [
        (
            with("{min_score: 0.5}", zone),
            "situations.s.rule: has no condition; expected one of dwell, together, ",
        ),
        (
            with("{dwell: {classes: [car]}, count: {classes: [car], from: 2}}", zone),
            "situations.s.rule.count: stands beside dwell: a rule has one condition; make two situations of it",
        ),
        (
            with("{count: {classes: [car], from: 2, below: 3}}", zone),
            "situations.s.rule.count.below: \"3\" is more than from, 2; expected below <= from",
        ),
        (
            with("{cross: {classes: [car]}}", zone),
            "cameras[0].zones[0].line: is missing: s watches it; expected two points, [[x, y], [x, y]]",
        ),
        (
            with("{cross: {classes: [car]}}", ", line: [[0.5, 0.5], [0.5, 0.5]]"),
            "cameras[0].zones[0].line: has no length; expected two different points",
        ),
        (
            with("{dwell: {classes: [car]}, windows: [{from: \"7\"}]}", zone),
            "situations.s.rule.windows[0].from: \"7\" is no time of day; expected HH:MM, in quotes, ",
        ),
        (
            with("{dwell: {classes: [car]}, windows: [{dates: [\"02-30\", \"03-01\"]}]}", zone),
            "situations.s.rule.windows[0].dates[0]: \"02-30\" is no day of the year; expected MM-DD, ",
        ),
        (
            with("{together: {classes: [goods], with: [vendor]}}", zone),
            "situations.s.rule.together.with[0]: \"vendor\" is known by none of the configured models; ",
        ),
        (
            format!("{}timezone: Asia/Huinan\n", with("{dwell: {classes: [car]}}", zone)),
            "timezone: \"Asia/Huinan\" is no known time zone; expected a name of the IANA database, ",
        ),
        (
            format!("{}holidays: none.txt\n", with("{dwell: {classes: [car]}}", zone)),
            "holidays: \"none.txt\" cannot be read: ",
        ),
    ];
    for (text, expected) in cases {
        let found = folder.mistakes(&text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        let message = found[0].splitn(4, ':').nth(3).unwrap().trim();
        assert!(message.starts_with(expected), "{message}\nexpected {expected}");
    }
}

/// A second model, a classifier.
fn confirming(folder: &Folder) {
    let classes = "[vendor, parked_tricycle, \"-\"]";
    let card = common::card("street-confirm", classes);
    let card = card
        .replace("head: yolox", "head: classifier")
        .replace("width: 416, height: 256", "width: 96, height: 96");
    folder.write("models/street-confirm/model.onnx", "no model, but a file");
    folder.write("models/street-confirm/card.yaml", card);
}

const TWO_MODELS: &str =
    "site: s\nmodels: {street-demo: models/street-demo, street-confirm: models/street-confirm}\n";

#[test]
fn a_situation_may_ask_a_second_model() {
    let folder = Folder::new();
    confirming(&folder);
    let load = |confirm: &str| {
        let rule = format!("{{dwell: {{classes: [goods]}}, confirm: {confirm}}}");
        let text = with(&rule, "").replace(HEAD, TWO_MODELS);
        folder.load_text(&text).map(|fleet| fleet.cameras[0].zones[0].rules[0].confirm.clone().unwrap())
    };
    let confirm = load("{model: street-confirm, accept: [vendor]}").unwrap();
    let id = flow::ModelId::new("street-confirm").unwrap();
    assert_eq!(confirm, fleet::Confirm::new(id, vec![ClassName::new("vendor")]));
    let vendor = ClassName::new("vendor");
    assert!(confirm.accepts(&vendor, 0.6) && !confirm.accepts(&vendor, 0.59));
    assert!(!confirm.accepts(&ClassName::new("parked_tricycle"), 1.0));
    let said =
        "{model: street-confirm, accept: [vendor], at_least: 0.8, margin: 0.5, again_after: 2min, tries: 1}";
    let confirm = load(said).unwrap();
    assert_eq!((confirm.at_least, confirm.margin, confirm.tries), (0.8, 0.5, 1));
    assert_eq!(confirm.again_after, Duration::from_secs(120));
}

#[test]
fn what_a_second_model_cannot_say_is_refused_where_it_stands() {
    let folder = Folder::new();
    confirming(&folder);
    let mistakes = |rule: &str| folder.mistakes(&with(rule, "").replace(HEAD, TWO_MODELS));
    let dwell = |confirm: &str| format!("{{dwell: {{classes: [goods]}}, confirm: {confirm}}}");
    let cases = [
        (
            "{model: street-confrim, accept: [vendor]}",
            r#"confirm.model: "street-confrim" is no known model; did you mean "street-confirm"?"#,
        ),
        (
            "{model: street-demo, accept: [goods]}",
            r#"confirm.model: "street-demo" has the head yolox: it looks for things in whole pictures; expected a model with the head classifier"#,
        ),
        (
            "{model: street-confirm, accept: [vendor, vender]}",
            r#"confirm.accept[1]: "vender" is no class of the model street-confirm; did you mean "vendor"? it knows vendor, parked_tricycle"#,
        ),
        (
            "{model: street-confirm, accept: [\"-\"]}",
            r#"confirm.accept[0]: "-" is no class of the model street-confirm"#,
        ),
        ("{model: street-confirm}", "confirm.accept: is missing; expected a list of 1 to 1024 entries"),
        ("{model: street-confirm, accept: [vendor], tries: 0}", r#"confirm.tries: "0" is out of range"#),
        (
            "{model: street-confirm, accept: [vendor], at_leats: 1}",
            r#"confirm.at_leats: is no known key; did you mean "at_least"?"#,
        ),
    ];
    for (confirm, wanted) in cases {
        let found = mistakes(&dwell(confirm));
        assert_eq!(found.len(), 1, "{confirm}: {found:#?}");
        assert!(found[0].starts_with("main.yaml:3:") && found[0].contains(wanted), "{confirm}: {found:#?}");
    }
    let crossing = "{cross: {classes: [car]}, confirm: {model: street-confirm, accept: [vendor]}}";
    let line = ", line: [[0, 0.5], [1, 0.5]]";
    let found = folder.mistakes(&with(crossing, line).replace(HEAD, TWO_MODELS));
    assert!(found[0].contains("confirm: stands beside cross"), "{found:#?}");
    // Two mistakes in one place are told at once.
    let found = mistakes(&dwell("{model: street-confirm, accept: [van, pile]}"));
    assert_eq!(found.len(), 2, "{found:#?}");
}
