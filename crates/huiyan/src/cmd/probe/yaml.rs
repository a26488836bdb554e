//! What to write into a fleet's YAML for a camera that was probed.

use std::fmt::Write as _;

use fleet::Certificate;
use ingest::probe::{Outcome, Probed, Seen};
use url::Url;

use super::{Wanted, detail};

const MAX_ID: usize = 64;

/// A login as the command line named it.
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
}

/// `credentials:` and `cameras:`, for a file that the fleet includes.
pub fn entries(probed: &[Probed], cameras: &[Wanted], class: &str, login: Option<&Login<'_>>) -> String {
    let mut out = String::new();
    if let Some(login) = login {
        let _ = writeln!(
            out,
            "credentials:\n  probed: {{ user: {}, password: {} }}",
            scalar(login.user),
            scalar(&absolute(login.password))
        );
    }
    out += "cameras:\n";
    for one in probed {
        match &one.outcome {
            Outcome::Failed(failure) => {
                let _ = writeln!(out, "  # {}: {}", one.url, failure.kind);
            }
            Outcome::Seen(seen) => {
                let wanted = cameras.iter().find(|wanted| wanted.camera.id == one.camera);
                out += &entry(one, seen, class, login.is_some(), wanted);
            }
        }
    }
    out
}

fn entry(probed: &Probed, seen: &Seen, class: &str, login: bool, wanted: Option<&Wanted>) -> String {
    let mut out = format!(
        "  # {}\n  - id: {}\n    class: {class}\n    url: {}\n",
        detail::summary(seen),
        probed.camera,
        probed.url
    );
    if login {
        out += "    credentials: probed\n";
    }
    if probed.transport == "udp" {
        out += "    transport: udp\n";
    }
    if wanted.is_some_and(|wanted| wanted.camera.certificate == Certificate::Any) {
        out += "    certificate: any\n";
    }
    let allowed = wanted.map(|wanted| wanted.camera.look.at_least_every.as_secs_f64());
    if let (Some(interval), Some(allowed)) = (seen.usual_key_interval_s(), allowed)
        && interval > allowed
    {
        out += &long_keys(&probed.url, seen, interval, allowed);
    }
    out
}

/// What to do about key pictures that are too far apart: comments, since which stream is the other one is a guess.
fn long_keys(url: &str, seen: &Seen, interval: f64, allowed: f64) -> String {
    let pictures = (seen.fps.unwrap_or(25.0) * allowed).round();
    let mut out = format!(
        "    # Key pictures are {interval:.0} s apart, a look is wanted every {allowed:.0} s: {pictures:.0} pictures are decoded for\n    \
         # one look. Better: in the camera, switch the smart codec off and set the key interval\n    \
         # (I frame interval, GOP) to 2 s."
    );
    match sub_stream(url) {
        Some(sub) => {
            let _ = write!(
                out,
                " Or watch its sub stream, if that has shorter ones:\n    # other_url: {sub}\n    # look: {{ on_long_keys: other_stream }}\n"
            );
        }
        None => out += " Or watch its sub stream:\n    # on_long_keys: other_stream, with other_url.\n",
    }
    out
}

/// The address of the sub stream where the vendor's way of writing addresses is known.
pub fn sub_stream(url: &str) -> Option<String> {
    /// What stands in the address of the main stream, and what in that of the sub stream.
    const WAYS: [(&str, &str); 8] = [
        ("subtype=0", "subtype=1"),
        ("/main/", "/sub/"),
        ("/main_", "/sub_"),
        ("/video1", "/video2"),
        ("/stream1", "/stream2"),
        ("/profile1", "/profile2"),
        ("/ch01/0", "/ch01/1"),
        ("stream=0", "stream=1"),
    ];
    // Channel 1 main is 101, its sub stream 102; of channel 12 they are 1201 and 1202.
    if let Some((before, channel)) = url.split_once("/Streaming/Channels/") {
        let digits = channel.find(|c: char| !c.is_ascii_digit()).unwrap_or(channel.len());
        let (number, rest) = channel.split_at(digits);
        let main = number.strip_suffix("01").filter(|channel| !channel.is_empty())?;
        return Some(format!("{before}/Streaming/Channels/{main}02{rest}"));
    }
    let (main, sub) = WAYS.iter().find(|(main, _)| url.contains(main))?;
    Some(url.replacen(main, sub, 1))
}

/// An id made of the address: host, port where it is unusual, path.
pub fn id_of(url: &Url) -> String {
    let port = url.port().filter(|port| *port != 554).map(|port| format!("-{port}")).unwrap_or_default();
    let text = format!("{}{port}-{}", url.host_str().unwrap_or("camera"), url.path());
    let mut id = String::new();
    // Bounded from its end, which is what is kept.
    let end = text.chars().rev().take(4 * MAX_ID).collect::<Vec<_>>();
    for c in end.into_iter().rev() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if c != '-' || !id.is_empty() && !id.ends_with('-') {
            id.push(c);
        }
    }
    // The end tells cameras of one host apart.
    if id.len() > MAX_ID - 4 {
        id = id[id.len() - (MAX_ID - 4)..].to_owned();
    }
    let id = id.trim_matches('-');
    if id.is_empty() { "camera".to_owned() } else { id.to_owned() }
}

/// `file:` references are relative to the file that holds them, not to where the command was started.
fn absolute(reference: &str) -> String {
    match reference.strip_prefix("file:").map(std::path::absolute) {
        Some(Ok(path)) => format!("file:{}", path.display()),
        _ => reference.to_owned(),
    }
}

/// Plain where YAML takes it for a text, else quoted.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:-".contains(c);
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !word.contains(&text.to_ascii_lowercase().as_str());
    if safe { text.to_owned() } else { serde_json::json!(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_streams_of_the_vendors_that_cities_buy() {
        for (main, sub) in [
            ("rtsp://h/Streaming/Channels/101", Some("rtsp://h/Streaming/Channels/102")),
            (
                "rtsp://h:554/Streaming/Channels/1201?transportmode=unicast",
                Some("rtsp://h:554/Streaming/Channels/1202?transportmode=unicast"),
            ),
            ("rtsp://h/Streaming/Channels/102", None),
            (
                "rtsp://h/cam/realmonitor?channel=3&subtype=0",
                Some("rtsp://h/cam/realmonitor?channel=3&subtype=1"),
            ),
            ("rtsp://h/h264/ch1/main/av_stream", Some("rtsp://h/h264/ch1/sub/av_stream")),
            ("rtsp://h/stream1", Some("rtsp://h/stream2")),
            ("rtsp://h/live", None),
        ] {
            assert_eq!(sub_stream(main).as_deref(), sub, "{main}");
        }
    }

    #[test]
    fn ids_are_made_of_addresses_and_keep_to_the_alphabet() {
        let id = |text: &str| id_of(&fleet::camera_url(text, "").unwrap());
        assert_eq!(id("rtsp://10.1.2.3/Streaming/Channels/102?x=1"), "10-1-2-3-streaming-channels-102");
        assert_eq!(id("rtsp://[2001:db8::7]:8554/"), "2001-db8-7-8554");
        let long = id(&format!("rtsp://h/{}/17", "very-long-".repeat(30)));
        assert!(long.len() <= MAX_ID && long.ends_with("-17"), "{long}");
        for text in ["rtsp://10.1.2.3/%E8%A1%97", "rtsp://h//"] {
            assert!(flow::CameraId::new(&id(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_yaml_would_misread_is_quoted() {
        assert_eq!(scalar("viewer"), "viewer");
        assert_eq!(scalar("env:NVR_PASSWORD"), "env:NVR_PASSWORD");
        for text in ["1234", "yes", "a, b", "#1", "user: x", "管理员", ""] {
            assert_eq!(scalar(text), serde_json::json!(text).to_string());
        }
    }
}
