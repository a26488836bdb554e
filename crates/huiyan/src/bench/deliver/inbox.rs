//! How fast the desk takes what waited for it at the broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use desk::Desk;
use fleet::Fleet;
use tokio::runtime::Runtime;

use super::load::Load;
use super::{Ours, PATIENCE};
use crate::bench::report::Figure;

/// Events that wait.
const EVENTS: f64 = 10_000.0;
/// They are made as fast as this.
const RATE: f64 = 4_000.0;

/// A desk subscribes and goes; events are made; it comes back.
pub fn measure(
    runtime: &Runtime,
    fleet: &Fleet,
    ours: &Ours,
    load: &mut Load,
    dir: &Path,
) -> anyhow::Result<Figure> {
    let options = desk::Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        db: dir.join("desk.sqlite"),
        ..desk::Options::from_fleet(fleet)
    };
    let desk = runtime.block_on(Desk::start(options.clone()))?;
    wait("the desk's subscription", || desk.link().is_ok())?;
    runtime.block_on(desk.stop());
    let before = load.made();
    load.run(&ours.publisher, RATE, None, |passed| passed.as_secs_f64() >= EVENTS / RATE)?;
    ours.wait("the last PUBACK", |ours| ours.publisher.metrics().outbox.messages == 0)?;
    let made = load.made() - before;
    let start = Instant::now();
    let desk = runtime.block_on(Desk::start(options))?;
    wait("the desk's last case", || desk.counts().opened + desk.counts().attached >= made)?;
    let took = start.elapsed();
    runtime.block_on(desk.stop());
    let rate = made as f64 / took.as_secs_f64();
    Ok(Figure::plain("deliver.desk_per_second", rate, "events that waited, stored and answered / s"))
}

fn wait(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            anyhow::bail!("{what}: not within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
