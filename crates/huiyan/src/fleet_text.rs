//! Texts for people and scripts: fleets written for the demo and for `replay`, and events as lines.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use fleet::{Fleet, ModelCard};
use flow::{Event, Phase};
use serde_json::json;

use crate::pipeline::Told;

/// An event as one line of JSON, for scripts. The full message is the one on MQTT.
pub fn event_json(event: &Event) -> serde_json::Value {
    let ended = match event.phase {
        Phase::Ended { at } => Some(at),
        Phase::Began | Phase::Updated => None,
    };
    json!({
        "event": event.id,
        "phase": phase(event.phase),
        "sequence": event.sequence,
        "camera": event.key.camera,
        "zone": event.key.zone,
        "situation": event.key.situation,
        "first_seen": event.first_seen,
        "began": event.began,
        "last_seen": event.last_seen,
        "ended": ended,
        "captured": event.captured,
        "confidence": event.confidence,
        "uncalibrated": event.uncalibrated,
        "confirmed_by": event.confirmed_by,
        "objects": event.objects.iter().map(|o| json!({
            "class": o.class, "score": o.score, "box": o.bbox.to_array(), "track": o.track,
        })).collect::<Vec<_>>(),
    })
}

/// An event as one line for a person.
pub fn event_line(told: &Told<'_>) -> String {
    let event = told.event;
    let classes: Vec<_> = event.objects.iter().map(|o| o.class.as_str()).collect();
    let evidence = told.evidence.as_ref().map(|path| format!("  {}", path.display())).unwrap_or_default();
    format!(
        "{} {:7} 疑似 {} ({}) at {} in zone {}, confidence {:.2}{evidence}",
        event.captured.strftime("%H:%M:%S"),
        phase(event.phase),
        event.key.situation,
        classes.join(", "),
        event.key.camera,
        event.key.zone,
        event.confidence.get(),
    )
}

/// The name of a phase, as on the wire.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Began => "began",
        Phase::Updated => "updated",
        Phase::Ended { .. } => "ended",
    }
}

/// A fleet in which anything that stands still for `at_least`, anywhere in the picture, is a situation. One camera
/// per URL, or a single one with a place-holder URL.
pub fn anything_that_stands(
    card: &ModelCard,
    model_dir: &Path,
    at_least: Duration,
    urls: &[String],
    user: Option<&str>,
) -> anyhow::Result<Fleet> {
    let dir = std::path::absolute(model_dir)?;
    let id = card.id.as_str();
    let classes = serde_json::to_string(&card.classes)?;
    let mut yaml = format!(
        "site: here\nmodels: {{ {id}: {} }}\n\
         situations:\n  standing:\n    zh: 停留\n    en: something stands here\n    rule: {{ dwell: {{ classes: {classes}, \
         at_least: {}ms }}, min_score: {}, end_after: 3s }}\n\
         classes:\n  any: {{ model: {id}, situations: [standing] }}\ncameras:\n",
        json!(dir),
        at_least.as_millis(),
        card.thresholds.score,
    );
    let place_holder = ["rtsp://127.0.0.1/".to_owned()];
    let login = if user.is_some() { ", credentials: own" } else { "" };
    for (index, url) in (if urls.is_empty() { &place_holder[..] } else { urls }).iter().enumerate() {
        writeln!(yaml, "  - {{ id: cam-{:04}, class: any, url: {}{login} }}", index + 1, json!(url))?;
    }
    if let Some(user) = user {
        writeln!(
            yaml,
            "credentials: {{ own: {{ user: {}, password: env:HUIYAN_RTSP_PASSWORD }} }}",
            json!(user)
        )?;
    }
    Fleet::from_yaml_str(&yaml, Path::new("."))
        .map_err(|mistakes| crate::UserError(mistakes.to_string()).into())
}
