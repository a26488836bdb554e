//! One file per command.

pub mod check;
pub mod demo;
pub mod desk;
pub mod diff;
pub mod eval;
pub mod evidence;
pub mod models;
pub mod playback;
pub mod probe;
pub mod replay;
pub mod run;
pub mod sim;
pub mod status;
pub mod timeline;

use std::time::Duration;

/// Reads `90s`, `500ms`, `2min`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 =
        text[..digits].parse().map_err(|_| format!("{text:?} is no duration; write for example 60s"))?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "" | "s" => Duration::from_secs(1),
        "min" | "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        other => return Err(format!("{other:?} is no unit; use ms, s, min or h")),
    };
    u32::try_from(number)
        .ok()
        .and_then(|n| unit.checked_mul(n))
        .ok_or_else(|| format!("{text:?} is too long"))
}

/// A tokio runtime for a command.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Waits until the user or the system asks the program to stop. Asking again ends it at once.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be handled; end the program by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}

/// The same, or until `limit` is over.
pub async fn interrupted_or_over(limit: Option<Duration>) {
    match limit {
        Some(limit) => drop(tokio::time::timeout(limit, interrupted()).await),
        None => interrupted().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").unwrap_err().contains("write for example 60s"));
        assert!(duration("3 days").unwrap_err().contains("unit"));
    }
}
