//! What a newcomer types.

use crate::util::huiyan;

#[test]
fn the_demo_shows_an_event_within_a_minute_and_its_case() {
    let data = tempfile::tempdir().unwrap();
    let args = [
        "demo",
        "--until-event",
        "--for",
        "90s",
        "--desk-port",
        "0",
        "--data",
        data.path().to_str().unwrap(),
    ];
    let output = huiyan(&args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{log}");
    let event =
        said.lines().find(|line| line.contains("began")).unwrap_or_else(|| panic!("no event: {said}\n{log}"));
    let picture =
        event.split_whitespace().find(|word| word.ends_with(".jpg")).expect("the line names its evidence");
    let jpeg = std::fs::read(picture).unwrap();
    assert_eq!(&jpeg[..2], [0xff, 0xd8], "the evidence is a JPEG");
    assert!(said.contains("case 1"), "the desk opened a case: {said}\n{log}");
}
