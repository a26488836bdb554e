//! Where the program says how it is doing: numbers for Prometheus, traces for OpenTelemetry.

use std::net::SocketAddr;

use crate::check::Fields;
use crate::load::Context;
use crate::mistake::{Path, Problem};
use crate::shape::{Kind, Shape, optional};

pub(crate) static TELEMETRY: Shape = Shape {
    name: "telemetry",
    keys: &[
        optional(
            "metrics",
            Kind::Listen,
            "Address and port where Prometheus reads /metrics. Default: nowhere.",
        ),
        optional(
            "otlp",
            Kind::Text(256),
            "An OpenTelemetry collector (OTLP over HTTP), as http://127.0.0.1:4318: a trace of every event's way from \
             the camera to the broker. Default: none.",
        ),
    ],
};

/// Where to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Where `/metrics` is served.
    pub metrics: Option<SocketAddr>,
    /// The collector's base address, without the path.
    pub otlp: Option<String>,
}

/// Reads it; `None` where something is wrong, which has been reported then.
pub(crate) fn read(root: &Fields, cx: &mut Context<'_>) -> Option<Telemetry> {
    let empty = Fields::empty(&TELEMETRY);
    let fields = root.map("telemetry").unwrap_or(&empty);
    let metrics = match fields.item("metrics") {
        Some(_) => Some(fields.listen("metrics")?),
        None => None,
    };
    let Some(item) = fields.item("otlp") else { return Some(Telemetry { metrics, otlp: None }) };
    let text = item.text()?;
    let expected = "expected http://host[:port] or https://host[:port]";
    let problem = match url::Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Problem::new("holds a credential", expected)
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => {
            return Some(Telemetry { metrics, otlp: Some(text.trim_end_matches('/').to_owned()) });
        }
        Ok(_) => Problem::new("is no address of a collector", expected),
        Err(error) => Problem::new(format!("is no address: {error}"), expected),
    };
    let shown = if text.contains('@') { "***" } else { text };
    cx.report.add(item.place, &Path::Root.key("telemetry").key("otlp"), Some(shown), problem);
    None
}
