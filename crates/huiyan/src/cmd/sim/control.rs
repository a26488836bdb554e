//! `huiyan sim serve --control`: a line on standard input does something to the cameras, a line of JSON says what.
//!
//! ```text
//! stats               what the server has done so far, at each of its addresses as well
//! cut [ADDRESS]       resets all connections, or those at an address
//! down SECONDS [ADDRESS]   the same, and new ones for so long
//! reset-peaks         setting_up_peak begins anew
//! ```
//!
//! The server stops when its input ends, and so with whoever started it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sim::rtsp::Server;
use tokio::sync::mpsc;

/// Obeys until the input ends.
pub async fn obey(server: &Server) -> std::io::Result<()> {
    let (send, mut lines) = mpsc::channel(1);
    // Reading blocks, so it has a thread of its own; should the server stop first, the thread ends with the process.
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    while let Some(line) = lines.recv().await {
        println!("{}", answer(server, &line));
    }
    Ok(())
}

fn answer(server: &Server, line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = match words.as_slice() {
        ["stats"] => Ok(stats(server)),
        ["reset-peaks"] => {
            server.reset_peaks();
            Ok(json!({}))
        }
        ["cut", address @ ..] => host(address).map(|host| json!({ "cut": server.cut(host) })),
        ["down", seconds, address @ ..] => host(address).and_then(|host| {
            let seconds = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
            let time = seconds.ok_or_else(|| format!("{:?} is no number of seconds", words[1]))?;
            Ok(json!({ "cut": server.take_down(host, time) }))
        }),
        _ => Err(format!("{line:?}: expected stats, cut [ADDRESS], down SECONDS [ADDRESS] or reset-peaks")),
    };
    done.unwrap_or_else(|error| json!({ "error": error }))
}

fn host(words: &[&str]) -> Result<Option<IpAddr>, String> {
    match words {
        [] => Ok(None),
        [address] => {
            address.parse().map(Some).map_err(|_| format!("{address:?} is no address, as 127.0.0.2 is one"))
        }
        _ => Err("more than one address".to_owned()),
    }
}

fn stats(server: &Server) -> Value {
    let stats = server.stats();
    let hosts = server.hosts().into_iter().map(|(address, host)| {
        let figures = json!({
            "connections": host.connections,
            "setting_up": host.setting_up,
            "setting_up_peak": host.setting_up_peak,
            "plays": host.plays,
            "refused": host.refused,
        });
        (address.to_string(), figures)
    });
    json!({
        "connections": stats.connections,
        "sessions": stats.sessions,
        "plays": stats.plays,
        "pictures": stats.pictures,
        "pictures_dropped": stats.pictures_dropped,
        "bytes": stats.bytes,
        "hosts": hosts.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_obeyed_or_explained() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
        let said = async {
            while answer(&server, "stats")["hosts"]["127.0.0.1"]["setting_up_peak"] != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), said).await.unwrap();
        assert_eq!(answer(&server, "cut 127.0.0.9"), json!({ "cut": 0 }));
        assert_eq!(answer(&server, "down 0.5"), json!({ "cut": 1 }));
        assert_eq!(answer(&server, "reset-peaks"), json!({}));
        for (line, named) in
            [("down soon", "soon"), ("cut here", "here"), ("", "expected stats"), ("cut a b", "more")]
        {
            assert!(answer(&server, line)["error"].as_str().unwrap().contains(named), "{line}");
        }
        drop(client);
    }
}
