//! What one camera sends, for a person.

use std::fmt::Write as _;

use ingest::probe::{Outcome, Probed, Seen};

use crate::table::{Side, aligned, cut, thousands, wrapped};

const LABEL: usize = 15;
const INDENT: usize = 2 + LABEL;

/// Several lines, none wider than `width` unless a single word is.
pub fn text(probed: &Probed, width: usize) -> String {
    let mut out = format!("{}\n", cut(&probed.url, width));
    let mut line = |label: &str, parts: &[String], separator: &str| {
        if !parts.is_empty() {
            let text = wrapped(parts, separator, width, INDENT);
            let _ = writeln!(out, "  {}{text}", aligned(label, LABEL, Side::Left));
        }
    };
    if let Some(server) = &probed.server {
        let mut parts: Vec<String> = server.software.iter().cloned().collect();
        if let Outcome::Seen(seen) = &probed.outcome {
            parts.extend(seen.tool.clone().filter(|tool| Some(tool) != server.software.as_ref()));
        }
        if parts.is_empty() {
            parts.push("does not say what it is".to_owned());
        }
        parts.push(format!("connected in {:.0} ms", server.connect_ms.max(1.0)));
        line("server", &parts, ", ");
        line("methods", &server.methods, ", ");
        line("login", &login(&server.auth), ", ");
        line("redirects to", &server.redirect.iter().cloned().collect::<Vec<_>>(), ", ");
    }
    match &probed.outcome {
        Outcome::Failed(failure) => {
            line("state", &[failure.state.to_owned()], "");
            let words: Vec<String> = failure.reason.split(' ').map(str::to_owned).collect();
            line("reason", &words, " ");
            line("what to do", &words_of(advice(failure.state)), " ");
        }
        Outcome::Seen(seen) => {
            for (label, parts) in facts(seen, probed.transport) {
                line(label, &parts, ", ");
            }
            for (number, odd) in seen.odd.iter().enumerate() {
                line(if number == 0 { "unusual" } else { "" }, &words_of(odd), " ");
            }
        }
    }
    out
}

fn words_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn login(auth: &[String]) -> Vec<String> {
    if auth.is_empty() { vec!["none needed".to_owned()] } else { auth.to_vec() }
}

/// What the fleet engineer can do about a failure.
pub fn advice(state: &str) -> &'static str {
    match state {
        "auth_failed" => {
            "check --user and what --password refers to, and that the account may watch live pictures; after several \
             wrong tries many cameras lock the account for some minutes"
        }
        "refused" => {
            "check address, port and path, that the camera is on, and that its RTSP service is enabled; recorders also \
             refuse when all their sessions are taken"
        }
        "no_data" => {
            "try --transport tcp where a firewall keeps UDP out, and more --seconds where key pictures are far apart"
        }
        "unsupported" => "set the camera's stream to H.264 or H.265, or take its other stream",
        _ => "update the camera's firmware, or take its other stream; HUIYAN_LOG=debug shows more",
    }
}

fn facts(seen: &Seen, transport: &str) -> Vec<(&'static str, Vec<String>)> {
    let sets = match (seen.parameter_sets.described, seen.parameter_sets.in_band) {
        (true, true) => "in the description and in the stream",
        (true, false) => "in the description only",
        (false, true) => "in the stream only",
        (false, false) => "",
    };
    let tracks = seen.tracks.iter().map(|track| {
        let watched = if track.watched { " (this one)" } else { "" };
        format!("{} {}{watched}", track.media, track.encoding)
    });
    let some = |text: String| if text.is_empty() { Vec::new() } else { vec![text] };
    vec![
        ("codec", codec(seen)),
        ("picture", picture(seen)),
        ("rate", rate(seen)),
        ("key pictures", keys(seen)),
        ("parameter sets", some(sets.to_owned())),
        ("tracks", tracks.collect()),
        ("transport", some(format!("{transport}, received by {}", seen.via))),
        ("loss", some(loss(seen))),
        ("clock", seen.clock_offset_s.map(clock).into_iter().collect()),
        (
            "session",
            seen.session_timeout_s
                .map(|s| format!("given up after {s:.0} s of silence"))
                .into_iter()
                .collect(),
        ),
        ("watched", some(watched(seen))),
    ]
}

fn codec(seen: &Seen) -> Vec<String> {
    let mut parts = vec![seen.codec.clone()];
    if let Some(picture) = &seen.picture {
        parts[0] = format!("{} {}", seen.codec, picture.profile);
        parts.push(format!("level {}", picture.level));
    }
    if seen.reordered {
        parts.push("B pictures".to_owned());
    }
    parts
}

fn picture(seen: &Seen) -> Vec<String> {
    let Some(picture) = &seen.picture else { return Vec::new() };
    let mut parts = vec![format!("{}×{}", picture.width, picture.height)];
    if picture.bit_depth != 8 {
        parts.push(format!("{} bit", picture.bit_depth));
    }
    if picture.interlaced {
        parts.push("interlaced".to_owned());
    }
    parts
}

fn rate(seen: &Seen) -> Vec<String> {
    let fps = seen.fps.map(|fps| format!("{fps:.1} fps"));
    fps.into_iter().chain(seen.bit_rate.map(bits)).collect()
}

/// 2,100,000 → `2.1 Mbit/s`.
pub fn bits(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.1} Mbit/s", rate / 1e6) } else { format!("{:.0} kbit/s", rate / 1e3) }
}

fn keys(seen: &Seen) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(interval) = seen.key_interval {
        parts.push(format!("every {:.1} s", interval.median_s));
    } else if let Some(above) = seen.key_interval_above_s {
        parts.push(format!("more than {above:.0} s apart"));
    }
    parts.extend(seen.key_kinds.iter().map(|kind| kind.name().to_owned()));
    let kilobytes = |bytes: u64| format!("{:.0} kB", (bytes as f64 / 1e3).max(1.0));
    if let Some(bytes) = seen.key_bytes {
        parts.push(format!("{} each", kilobytes(bytes)));
    }
    parts.extend(seen.other_bytes.map(|bytes| format!("others {}", kilobytes(bytes))));
    parts
}

fn loss(seen: &Seen) -> String {
    if seen.loss_percent == 0.0 {
        return format!("none of {} packets", thousands(seen.packets as usize));
    }
    format!("{:.1} % of {} packets", seen.loss_percent, thousands(seen.packets as usize))
}

/// Seconds by which a clock is off, in words.
fn clock(offset: f64) -> String {
    let way = if offset >= 0.0 { "ahead" } else { "behind" };
    match offset.abs() {
        s if s < 0.1 => "right, to a tenth of a second".to_owned(),
        s if s < 100.0 => format!("{s:.1} s {way}"),
        s if s < 2.0 * 86_400.0 => format!("{:.0} min {way}", s / 60.0),
        s => format!("{:.0} days {way}", s / 86_400.0),
    }
}

fn watched(seen: &Seen) -> String {
    let first = seen.first_picture_s.map(|s| format!(", the first after {s:.1} s")).unwrap_or_default();
    format!("{:.1} s, {} pictures{first}", seen.watched_s, thousands(seen.pictures as usize))
}

/// One line for a comment: `H.265 Main, 2560×1440, 25.0 fps, 2.1 Mbit/s, key pictures every 2.0 s`.
pub fn summary(seen: &Seen) -> String {
    let mut parts = vec![codec(seen).swap_remove(0)];
    parts.extend(picture(seen).into_iter().next());
    parts.extend(rate(seen));
    parts.extend(keys(seen).into_iter().next().map(|keys| format!("key pictures {keys}")));
    parts.join(", ")
}
