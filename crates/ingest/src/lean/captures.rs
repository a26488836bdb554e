//! Replies and descriptions of real cameras, some of them broken, and inputs that once broke other parsers.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};

use super::framer::{Framer, Piece};
use super::message::{MAX_BODY, Message, Start, parse};
use super::{description, open, rtp, target};
use crate::fuzz;

fn folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures").join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

/// Everything in a folder and below.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            let name = entry.file_stem().unwrap().to_string_lossy().into_owned();
            found.push((name, std::fs::read(entry).unwrap()));
        }
    }
    found.sort();
    found
}

fn reply(bytes: &[u8]) -> Message {
    parse(bytes, &mut 0, MAX_BODY).unwrap().unwrap().0
}

const ASKED: &str = "rtsp://10.0.0.9/asked";

/// Encoding of the video, URL of its SETUP, URL of PLAY, NAL units in the description.
fn described(bytes: &[u8]) -> (String, String, String, usize) {
    let (body, base) = if bytes.starts_with(b"RTSP/") {
        let reply = reply(bytes);
        let base = target::base(reply.header("content-base"), reply.header("content-location"), ASKED);
        (reply.body, base)
    } else {
        (bytes.to_vec(), ASKED.to_owned())
    };
    let description = description::parse(&body).unwrap();
    let video = description.media.iter().find(|media| media.kind == "video").unwrap();
    assert_eq!(video.clock_rate, 90_000);
    let track = target::join(&base, video.control.as_deref().unwrap());
    let play = description.control.as_deref().map_or(ASKED.to_owned(), |c| target::join(&base, c));
    (video.encoding.clone(), track, play, video.parameter_sets.len())
}

#[test]
fn descriptions_of_real_cameras_lead_to_their_video() {
    let Some(folder) = folder("rtsp-sdp-retina/src/client/testdata") else { return };
    let onvif = "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/";
    let bunny = "rtsp://wowzaec2demo.streamlock.net/vod/mp4:BigBuckBunny_115k.mov/";
    let hikvision = "rtsp://192.168.5.106:554/Streaming/Channels/101/";
    let profile = "?transportmode=unicast&profile=Profile_1";
    let gw = |port: u16, n: u8| {
        format!("rtsp://192.168.1.110:{port}/H264?channel=1&subtype={n}&unicast=true&proto=Onvif")
    };
    let expected: Vec<(&str, &str, String, String, usize)> = [
        ("anjvision_describe", "h265", "rtsp://192.168.1.10:554/stream0/", "trackID=1", "", 3),
        ("anpviz_sdp", "h264", ASKED, "/trackID=1", "", 2),
        ("bunny_describe", "h264", bunny, "trackID=2", "", 2),
        ("dahua_describe_h264_aac_onvif", "h264", onvif, "trackID=0", "", 2),
        (
            "dahua_describe_h265_pcma",
            "h265",
            "rtsp://cam-driveway/cam/realmonitor?channel=1&subtype=2/",
            "trackID=0",
            "",
            3,
        ),
        ("foscam_describe", "h264", "rtsp://192.168.5.107:65534/videoMain/", "track1", "", 2),
        ("gw_main_describe", "h264", &gw(5050, 0), "/video", "", 2),
        ("gw_sub_describe", "h264", &gw(5049, 1), "/video", "", 2),
        ("h264dvr_describe", "h264", "rtsp://127.0.0.1:554/camera", "/trackID=3", "", 2),
        (
            "hikvision_describe",
            "h264",
            hikvision,
            "trackID=1?transportmode=unicast&profile=Profile_1",
            profile,
            2,
        ),
        ("ipcam_describe", "h264", ASKED, "/trackID=1", "", 2),
        ("macrovideo_describe", "h264", ASKED, "/track1", "", 2),
        ("missing_content_type_describe", "h264", ASKED, "/streamid=0", "", 2),
        ("reolink_describe", "h264", "rtsp://192.168.5.206/h264Preview_01_main/", "trackID=1", "", 2),
        (
            "reolink_describe_control_first",
            "h264",
            "rtsp://192.168.5.206/h264Preview_01_main/",
            "trackID=1",
            "",
            2,
        ),
        ("tplink_sdp", "h265", ASKED, "/track1", "", 3),
        ("ubiquiti_sdp", "h264", ASKED, "/trackID=2", "", 2),
        ("vstarcam_describe", "h264", ASKED, "/track0", "", 2),
    ]
    .map(|(name, encoding, base, track, play, sets)| {
        (name, encoding, format!("{base}{track}"), format!("{base}{play}"), sets)
    })
    .into();
    let files = files(&folder);
    for (name, encoding, track, play, sets) in expected {
        let (_, bytes) = files.iter().find(|(n, _)| n == name).unwrap();
        let seen = described(bytes);
        assert_eq!(seen, (encoding.to_owned(), track, play, sets), "{name}");
    }
    let (_, geovision) = files.iter().find(|(n, _)| n == "geovision_sdp").unwrap();
    let (_, track, play, _) = described(geovision);
    assert_eq!((track.as_str(), play.as_str()), ("rtsp://192.168.5.237/media/video1/video", ASKED));
}

#[test]
fn answers_of_real_cameras_are_understood() {
    let Some(folder) = folder("rtsp-sdp-retina/src/client/testdata") else { return };
    let mut setups = Vec::new();
    for (name, bytes) in files(&folder).into_iter().filter(|(_, bytes)| bytes.starts_with(b"RTSP/")) {
        let reply = reply(&bytes);
        let expected = if name == "longse_unauthorized" { 401 } else { 200 };
        assert!(matches!(reply.start, Start::Reply { status, .. } if status == expected), "{name}");
        assert!(reply.sequence().is_some() || name == "bad_rtptime", "{name}: {reply:?}");
        if reply.header("transport").is_some() {
            let (id, _) = open::session(&reply);
            setups.push((name, id.unwrap(), open::channels(&reply).ok()));
        }
    }
    let over_tcp: Vec<_> = setups
        .iter()
        .filter_map(|(name, id, channels)| Some((name.as_str(), id.as_str(), (*channels)?)))
        .collect();
    assert_eq!(
        over_tcp,
        [
            ("bunny_setup", "1642021126", (0, 1)),
            ("dahua_setup", "634214675641", (0, 1)),
            ("gw_main_setup_audio", "9a90de54", (2, 3)),
            ("gw_main_setup_video", "9a90de54", (0, 1)),
            ("gw_sub_setup", "9b0d0e54", (0, 1)),
            ("hikvision_setup", "708345999", (0, 1)),
            ("hikvision_setup_ssrc_space", "708886412", (0, 1)),
            ("luckfox_rkipc_setup_tcp", "12345678", (0, 1)),
            ("reolink_setup", "F8F8E425", (0, 1)),
        ]
    );
    assert_eq!(setups.len(), 12, "the others are over UDP");
}

#[test]
fn a_recorded_connection_is_all_frames() {
    let Some(folder) = folder("rtsp-sdp-retina/benches") else { return };
    let bytes = std::fs::read(folder.join("bunny.rtsp")).unwrap();
    let (mut framer, mut follower) = (Framer::default(), rtp::Follower::default());
    let (mut at, mut frames, mut video, mut lost) = (0, 0, 0, 0);
    while let Some(piece) = framer.next(&bytes, &mut at).unwrap() {
        let Piece::Frame { channel, data } = piece else { panic!("a message") };
        frames += 1;
        if let (0 | 2, Some(header)) = (channel, rtp::parse(data))
            && header.payload_type == 97
        {
            video += 1;
            if let rtp::Place::Next { lost: before, .. } = follower.follow(&header) {
                lost += before;
            }
        }
    }
    assert_eq!((frames, at, framer.garbage(), lost), (371, bytes.len(), 0, 0));
    assert!(video > 100, "{video}");
}

#[test]
fn what_broke_other_parsers_breaks_none_of_ours() {
    let (Some(fuzzed), Some(real)) = (folder("rtsp-fuzz-gortsplib"), folder("rtsp-sdp-retina")) else {
        return;
    };
    let mut inputs: Vec<Vec<u8>> = files(&fuzzed)
        .iter()
        .filter(|(name, _)| !name.starts_with("LICENSE"))
        .flat_map(|(_, text)| go(text))
        .collect();
    assert!(inputs.len() > 50, "{}", inputs.len());
    inputs.extend(files(&real).into_iter().map(|(_, bytes)| bytes));
    for input in &inputs {
        fuzz::reply(input);
        fuzz::interleaved(input);
        fuzz::rtp(input);
        fuzz::rtcp(input);
        fuzz::sdp(input);
    }
}

/// The values in a corpus file of Go's fuzzing: one `[]byte("…")` or `string("…")` per line.
fn go(file: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(file);
    let values = text.lines().filter_map(|line| {
        let quoted = line.trim().trim_end_matches(')').split_once("(\"")?.1.strip_suffix('"')?;
        Some(unescaped(quoted))
    });
    values.collect()
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize) -> String {
    chars.by_ref().take(count).collect()
}

fn unescaped(quoted: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next() {
            Some('x') => out.push(u8::from_str_radix(&digits(&mut chars, 2), 16).unwrap()),
            Some('u') => {
                let code = u32::from_str_radix(&digits(&mut chars, 4), 16).unwrap();
                out.extend_from_slice(char::from_u32(code).unwrap().encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(c) => out.push(match c {
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'v' => 11,
                other => u8::try_from(other).unwrap(),
            }),
            None => {}
        }
    }
    out
}
