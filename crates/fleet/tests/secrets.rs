//! Passwords come out of nothing that prints, whether the configuration is right or wrong.

mod common;

use common::{BASE, Folder};

const WORD: &str = "hunter2";

#[test]
fn a_loaded_fleet_prints_no_password() {
    let folder = Folder::new();
    folder.write("secret", format!("{WORD}\n"));
    let fleet = folder
        .load_text(&format!(
            "{BASE}broker: {{credentials: desk}}
credentials:
  desk: {{user: desk, password: env:TEST_PASSWORD}}
  nvr: {{user: viewer, password: file:secret}}
cameras: [{{id: a, class: community, url: rtsp://192.0.2.1/, credentials: nvr}}]
"
        ))
        .unwrap();
    assert_eq!(fleet.broker.credentials.as_ref().unwrap().password.reveal(), WORD);
    assert_eq!(fleet.cameras[0].credentials.as_ref().unwrap().password.reveal(), WORD);
    for text in [format!("{fleet:?}"), format!("{fleet:#?}"), format!("{:?}", fleet.cameras[0])] {
        assert!(!text.contains(WORD), "{text}");
        assert!(text.contains("***"));
    }
}

/// However a password is written where it does not belong, no message repeats it.
#[test]
fn messages_never_repeat_a_password() {
    let folder = Folder::new();
    let camera = |rest: &str| format!("cameras: [{{id: a, class: community, {rest}}}]\n");
    for text in [
        "credentials: {nvr: {user: u, password: hunter2}}\n".to_owned(),
        "credentials: {nvr: {user: u, pasword: hunter2}}\n".to_owned(),
        "credentials: {nvr: {user: u, password: [hunter2]}}\n".to_owned(),
        "credentials: {nvr: {user: u, password: \"plain:hunter2\"}}\n".to_owned(),
        "credentials: {nvr: \"u:hunter2\"}\n".to_owned(),
        "credentials: {nvr: hunter2}\n".to_owned(),
        "credentials: \"u:hunter2\"\n".to_owned(),
        "credentials: [hunter2]\n".to_owned(),
        "broker: {url: \"mqtt://u:hunter2@h\"}\n".to_owned(),
        "broker: {credentials: \"u:hunter2\"}\n".to_owned(),
        "broker: {url: mqtt://h, password: hunter2}\n".to_owned(),
        camera("url: \"rtsp://u:hunter2@192.0.2.1/\""),
        camera("url: \"rtsp://hunter2@192.0.2.1/\""),
        camera("url: \"rtsp://u:/hunter2@192.0.2.1/\""),
        camera("url: \"rtsp://u:x@hunter2@192.0.2.1/\""),
        camera("url: \"http://u:hunter2@192.0.2.1/\""),
        camera("url: \"rtsp://192.0.2.1/user=a&password=hunter2\""),
        camera("url: \"rtsp://u:hunter2@\""),
        camera("url: rtsp://192.0.2.1/, credentials: \"u:hunter2\""),
        camera("url: rtsp://192.0.2.1/, credentials: {user: u, password: hunter2}"),
        camera("url: rtsp://192.0.2.1/, name: [\"rtsp://u:hunter2@192.0.2.1/\"]"),
        "include: [\"rtsp://u:hunter2@192.0.2.1/\"]\n".to_owned(),
    ] {
        let error = folder.load_text(&format!("{BASE}{text}")).expect_err(&text);
        for shown in [error.to_string(), format!("{error:?}"), serde_json::to_string(&error).unwrap()] {
            assert!(!shown.contains(WORD), "{text}: {shown}");
        }
    }
}

#[test]
fn mistakes_are_json_too() {
    let folder = Folder::new();
    let error = folder.load_text(&format!("{BASE}desk: {{listen: x}}\n")).unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    let mistake = &json["list"][0];
    assert!(mistake["file"].as_str().unwrap().ends_with("main.yaml"));
    assert_eq!((mistake["line"].as_u64(), mistake["column"].as_u64()), (Some(6), Some(16)));
    assert_eq!(mistake["key"], "desk.listen");
    assert_eq!(mistake["value"], "\"x\"");
    assert_eq!(mistake["problem"], "is no address to listen on");
    assert!(mistake["expected"].as_str().unwrap().starts_with("expected an IP address"));
}
