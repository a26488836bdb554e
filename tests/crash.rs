//! Everything that can die between a decision and its case dies, again and again: the worker (SIGKILL), the desk, the
//! broker (killed, frozen), the wire (cut, or open and dead). Every event is in the inbox at the end, once, in its
//! situation's order. `cargo xtask crash --rounds 2000` is the long run.

mod maker;
mod truth;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use publish::testing::Mosquitto;

use crate::util::{Running, fleet_head, free_port, write};
use maker::Worker;
use truth::{arrived, judge};
use wire::Wire;

/// In a run of all tests.
const ROUNDS: u64 = 200;
/// After the last round everything has to arrive within this time.
const PATIENCE: Duration = Duration::from_secs(240);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    KillWorker,
    KillDesk,
    KillBroker,
    FreezeBroker,
    CutWire,
    DeadWire,
}

impl Blow {
    /// Workers die most: theirs is the longest way from memory to disk.
    fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u32(0..100) {
            0..40 => Self::KillWorker,
            40..50 => Self::KillDesk,
            50..62 => Self::KillBroker,
            62..72 => Self::FreezeBroker,
            72..86 => Self::CutWire,
            _ => Self::DeadWire,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "worker killed",
            Self::KillDesk => "desk killed",
            Self::KillBroker => "broker killed",
            Self::FreezeBroker => "broker frozen",
            Self::CutWire => "wire cut",
            Self::DeadWire => "wire half-open",
        }
    }
}

struct House {
    broker: Option<Mosquitto>,
    wire: Wire,
    worker: Worker,
    desk: Running,
    config: String,
    dir: tempfile::TempDir,
}

impl House {
    fn build() -> Result<Self, String> {
        // It writes its disk once a second. To write it at every change, all of it each time, would stop it altogether as
        // soon as much is waiting there.
        let broker = Mosquitto::start(
            "max_queued_messages 0\nmax_inflight_messages 100\nautosave_on_changes false\nautosave_interval 1",
        )?;
        let dir = tempfile::tempdir().unwrap();
        let wire = Wire::new(broker.addr());
        let through = std::net::SocketAddr::from(([127, 0, 0, 1], wire.port()));
        let yaml = format!(
            "{head}desk: {{ listen: 127.0.0.1:{port} }}\ncameras: []\n",
            head = fleet_head(through, &dir.path().join("desk")).replace("{ url", "{ keep_alive: 2s, url"),
            port = free_port()
        );
        std::fs::create_dir_all(dir.path().join("worker")).unwrap();
        let config = write(dir.path(), "fleet.yaml", &yaml).to_str().unwrap().to_owned();
        let worker = Worker::new(&dir.path().join("worker"), wire.port());
        let mut desk = Running::start(dir.path(), "desk", &["desk", "--config", &config]);
        // Before that the broker would keep nothing for it.
        desk.wait_said("the desk listens to the broker", Duration::from_secs(20));
        broker.save()?;
        Ok(Self { broker: Some(broker), wire, worker, desk, config, dir })
    }

    fn strike(&mut self, blow: Blow, random: &mut fastrand::Rng) {
        match blow {
            Blow::KillWorker => {
                self.worker.kill();
                self.worker.start();
            }
            Blow::KillDesk => {
                self.desk.kill();
                self.desk = Running::start(self.dir.path(), "desk", &["desk", "--config", &self.config]);
            }
            Blow::KillBroker => {
                let mut broker = self.broker.take().unwrap();
                broker.kill();
                std::thread::sleep(Duration::from_millis(random.u64(0..300)));
                self.broker = Some(broker.start_again().unwrap());
            }
            Blow::FreezeBroker => {
                let broker = self.broker.as_ref().unwrap();
                broker.signal("STOP");
                std::thread::sleep(Duration::from_millis(random.u64(100..1_500)));
                broker.signal("CONT");
            }
            Blow::CutWire => self.wire.cut(),
            Blow::DeadWire => self.wire.swallow(),
        }
    }

    fn inbox(&self) -> std::path::PathBuf {
        self.dir.path().join("desk/data/desk.sqlite")
    }
}

#[test]
fn nothing_is_lost_or_doubled_whatever_dies() {
    let rounds = setting("HUIYAN_CRASH_ROUNDS", ROUNDS);
    let seed = setting("HUIYAN_CRASH_SEED", u64::from(std::process::id()));
    let mut house = match House::build() {
        Ok(house) => house,
        Err(why) => return println!("skipped: {why}"),
    };
    println!("seed {seed} (HUIYAN_CRASH_SEED={seed} strikes in the same order)");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut blows: BTreeMap<Blow, u64> = BTreeMap::new();
    let start = Instant::now();
    house.worker.start();
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.u64(50..700)));
        house.worker.check();
        let blow = Blow::draw(&mut random);
        *blows.entry(blow).or_default() += 1;
        house.strike(blow, &mut random);
        if round % 100 == 99 {
            let (made, inbox) = (house.worker.stored.total(), arrived(&house.inbox()));
            println!("round {}: {made} events made, {inbox} in the inbox", round + 1);
        }
    }
    let struck = start.elapsed();
    let left = house.worker.finish(PATIENCE);
    let made = house.worker.stored.clone();
    let deadline = Instant::now() + PATIENCE;
    while arrived(&house.inbox()) < made.total() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let drained = start.elapsed() - struck;
    house.desk.stop();
    let verdict = judge(&house.inbox(), &made);
    let each: Vec<_> = blows.iter().map(|(blow, n)| format!("{n} × {}", blow.name())).collect();
    println!(
        "{rounds} rounds in {:.0} s: {}\nevents: {} made ({:.0}/s), {} arrived, {} lost, {} doubled, {} out of order; cases off by {}; \
         all there {:.1} s after the last blow",
        struck.as_secs_f64(),
        each.join(", "),
        verdict.made,
        verdict.made as f64 / struck.as_secs_f64(),
        verdict.arrived,
        verdict.lost.len(),
        verdict.doubled.len(),
        verdict.disordered.len(),
        verdict.cases_off,
        drained.as_secs_f64(),
    );
    assert_eq!(left, 0, "messages that the worker could not send\n{}", house.desk.said());
    assert!(verdict.made > 0);
    assert!(verdict.lost.is_empty(), "lost: {:#?}", verdict.lost);
    assert!(verdict.doubled.is_empty(), "doubled: {:#?}", verdict.doubled);
    assert!(verdict.disordered.is_empty(), "out of order: {:#?}", verdict.disordered);
    assert_eq!(verdict.cases_off, 0, "one case per situation");
}
