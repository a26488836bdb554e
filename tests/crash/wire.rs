//! The wire between worker, desk and broker, which the harness can cut, and can make swallow what is sent on it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Relays connections to the broker.
pub struct Wire {
    addr: SocketAddr,
    lines: Arc<Mutex<Vec<Line>>>,
    stop: Arc<AtomicBool>,
}

/// One connection through it.
struct Line {
    ends: [TcpStream; 2],
    /// Both ends stay open and nothing passes: the other side has lost its power, or a firewall its table.
    swallows: Arc<AtomicBool>,
}

impl Wire {
    /// To the broker at `broker`.
    pub fn new(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { addr: listener.local_addr().unwrap(), lines: Arc::default(), stop: Arc::default() };
        let (lines, stop) = (wire.lines.clone(), wire.stop.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A broker that is down refuses; so does the wire, by closing.
                let Ok(server) = TcpStream::connect_timeout(&broker, Duration::from_secs(1)) else {
                    continue;
                };
                let line = Line::new(client, server);
                let mut lines = lines.lock().unwrap();
                lines.retain(|line| Arc::strong_count(&line.swallows) > 1);
                lines.push(line);
            }
        });
        wire
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Ends all connections; new ones are welcome.
    pub fn cut(&self) {
        for line in self.lines.lock().unwrap().drain(..) {
            line.end();
        }
    }

    /// All connections that stand now stay open and swallow what is sent on them; new ones work.
    pub fn swallow(&self) {
        for line in self.lines.lock().unwrap().iter() {
            line.swallows.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        self.cut();
    }
}

impl Line {
    fn new(client: TcpStream, server: TcpStream) -> Self {
        let swallows = Arc::new(AtomicBool::new(false));
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to, swallows) = (copy(from), copy(to), swallows.clone());
            std::thread::spawn(move || relay(from, to, &swallows));
        }
        Self { ends: [client, server], swallows }
    }

    fn end(&self) {
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, swallows: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // What is swallowed is read all the same, so that the sender's system acknowledges it.
        if !swallows.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // An end that is told nothing keeps waiting: that is what half-open means.
    if !swallows.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
    }
}
