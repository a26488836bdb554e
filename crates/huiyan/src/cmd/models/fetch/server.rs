//! A web server for tests: one file, and the faults that a download meets.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What it does wrong.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Closes the connection after so many bytes of a body.
    pub cut_after: Option<usize>,
    /// How often.
    pub cuts: usize,
    /// Always sends the whole file.
    pub no_ranges: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { cut_after: None, cuts: usize::MAX, no_ranges: false }
    }
}

/// Serves until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Option<usize>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(content: Vec<u8>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (log, stopped) = (requests.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut cuts = 0;
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that went away is none of the server's business.
                let _ = answer(stream.unwrap(), &content, &behaviour, &mut cuts, &log);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/model", self.address)
    }

    /// Where each request for the file wanted to begin; `None` for one without a range.
    pub fn requests(&self) -> Vec<Option<usize>> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    behaviour: &Behaviour,
    cuts: &mut usize,
    log: &Mutex<Vec<Option<usize>>>,
) -> std::io::Result<()> {
    let (mut from, mut path) = (None, String::new());
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap().to_owned();
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    if path != "/model" {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    log.lock().unwrap().push(from);
    let total = content.len();
    let body = match from.filter(|_| !behaviour.no_ranges) {
        Some(from) if from >= total => {
            return write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
        }
        Some(from) => {
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n",
                total - 1
            )?;
            &content[from..]
        }
        None => {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            content
        }
    };
    write!(stream, "ETag: \"1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    match behaviour.cut_after.filter(|cut| *cut < body.len() && *cuts < behaviour.cuts) {
        Some(cut) => {
            *cuts += 1;
            stream.write_all(&body[..cut])
        }
        None => stream.write_all(body),
    }
}
