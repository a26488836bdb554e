use super::*;
use crate::testing::camera;

/// A clock, cameras at some addresses, and what they do.
struct Bench {
    turns: Turns,
    seats: Vec<Seat>,
    now: Instant,
}

impl Bench {
    fn new(policy: &Policy, urls: &[String]) -> Self {
        Self::of(policy, urls.iter().map(|url| camera("c", url)).collect())
    }

    fn of(policy: &Policy, cameras: Vec<Camera>) -> Self {
        let now = Instant::now();
        let (turns, seats) = Turns::new(policy, cameras.iter(), now, fastrand::Rng::with_seed(1));
        Self { turns, seats, now }
    }

    fn ask_all(&mut self) {
        for seat in self.seats.clone() {
            self.turns.ask(seat, self.now);
        }
    }

    /// Everybody that may begin now, without regard to the rate.
    fn starts(&mut self) -> Vec<(Ticket, Pass)> {
        let mut all = Vec::new();
        loop {
            self.turns.next_start = self.now;
            match self.turns.next(self.now) {
                Next::Go(ticket, pass) => all.push((ticket, pass)),
                Next::At(_) | Next::Nobody => return all,
            }
        }
    }

    fn end(&mut self, pass: Pass, outcome: Outcome) -> Consequence {
        self.turns.ended(pass, outcome, self.now)
    }

    /// Runs the clock on until somebody may begin.
    fn wait(&mut self) -> Duration {
        let start = self.now;
        loop {
            match self.turns.next(self.now) {
                Next::At(at) => self.now = at,
                Next::Go(ticket, pass) => {
                    // Back to the front of the line.
                    self.turns.ended(pass, Outcome::Cancelled, self.now);
                    self.turns.doors[pass.seat.0].waiting.push_front(ticket);
                    self.turns.list(self.turns.doors[pass.seat.0].host, self.now);
                    return self.now - start;
                }
                Next::Nobody => panic!("nobody ever begins"),
            }
        }
    }
}

fn trouble() -> Trouble {
    Trouble { state: CameraState::Refused, reason: "closed".into() }
}

fn recorders(subnets: usize, hosts: usize, channels: usize) -> Vec<String> {
    let url = |s, h, c| format!("rtsp://10.0.{s}.{h}/{c}");
    (0..subnets)
        .flat_map(|s| (1..=hosts).flat_map(move |h| (0..channels).map(move |c| url(s, h, c))))
        .collect()
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> std::collections::BTreeMap<K, usize> {
    let mut counts = std::collections::BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

#[test]
fn starts_go_round_over_subnets_and_hosts_under_their_caps() {
    let policy = Policy { setups: 100, setups_per_host: 2, setups_per_subnet: 5, ..Policy::default() };
    let mut bench = Bench::new(&policy, &recorders(3, 4, 10));
    bench.ask_all();
    let starts = bench.starts();
    // Cameras were numbered subnet by subnet, host by host.
    let place = |ticket: Ticket| ((ticket / 40) as usize, (ticket / 10) as usize);
    let places: Vec<_> = starts.iter().map(|(ticket, _)| place(*ticket)).collect();
    assert_eq!(places.len(), 15);
    assert!(count(places.iter().map(|(subnet, _)| subnet)).values().all(|n| *n == 5), "{places:?}");
    assert!(count(places.iter().map(|(_, host)| host)).values().all(|n| *n <= 2), "{places:?}");
    for turn in places.chunks(3) {
        assert_eq!(turn.iter().map(|(subnet, _)| subnet).collect::<Vec<_>>(), [&0, &1, &2], "{places:?}");
    }
    assert_eq!(count(places[..12].iter().map(|(_, host)| host)).len(), 12, "each host before any twice");
    // Whoever is done makes room for the next of its subnet, and all come.
    let mut open: VecDeque<_> = starts.into();
    let mut began = open.len();
    while let Some((_, pass)) = open.pop_front() {
        bench.end(pass, Outcome::Playing);
        let more = bench.starts();
        began += more.len();
        open.extend(more);
        let hosts = count(open.iter().map(|(ticket, _)| place(*ticket).1));
        assert!(hosts.values().all(|n| *n <= 2));
    }
    assert_eq!(began, 120);
    assert_eq!((bench.turns.setups, bench.turns.hosts.iter().map(|h| h.playing).sum::<usize>()), (0, 120));
}

#[test]
fn the_rate_holds_and_a_late_clock_catches_up_a_little() {
    let policy = Policy { starts_per_second: 100, setups: 1_000, ..Policy::default() };
    let mut bench = Bench::new(&policy, &recorders(20, 50, 1));
    bench.ask_all();
    let mut started = 0;
    for millis in 0..1_000 {
        bench.now += Duration::from_millis(1);
        // Busy for half a second in between.
        if (300..800).contains(&millis) {
            continue;
        }
        while let Next::Go(..) = bench.turns.next(bench.now) {
            started += 1;
        }
    }
    assert!((50..=54).contains(&started), "{started}");
}

#[test]
fn a_host_that_rebooted_is_tried_by_one_and_then_the_others_follow_under_the_cap() {
    let policy = Policy { setups_per_host: 4, ..Policy::default() };
    let mut bench = Bench::new(&policy, &recorders(1, 1, 64));
    bench.ask_all();
    // Four meet nobody at once: one failure, not four.
    let first = bench.starts();
    assert_eq!(first.len(), 4);
    for (n, (_, pass)) in first.iter().enumerate() {
        let consequence = bench.end(*pass, Outcome::NoAnswer(trouble()));
        assert!(consequence.host_waits);
        assert_eq!(consequence.tell.len(), 60 + n, "all that wait hear of it");
        bench.turns.ask(pass.seat, bench.now);
    }
    assert_eq!((bench.turns.hosts[0].failures, bench.starts().len()), (1, 0));
    for failures in 2..12 {
        let waited = bench.wait();
        let bound = bound(&policy, failures - 2);
        assert!(waited <= bound, "{waited:?} after {failures} failures");
        let probe = bench.starts();
        assert_eq!(probe.len(), 1, "one tries, 63 wait");
        bench.end(probe[0].1, Outcome::NoAnswer(trouble()));
        bench.turns.ask(probe[0].1.seat, bench.now);
        assert_eq!(bench.turns.hosts[0].failures, failures);
    }
    bench.wait();
    let probe = bench.starts();
    assert_eq!(probe.len(), 1);
    bench.end(probe[0].1, Outcome::Playing);
    assert_eq!(bench.turns.trouble(bench.seats[0]), None);
    assert_eq!(bench.starts().len(), 4, "the others follow");
}

#[test]
fn hosts_that_failed_together_do_not_come_back_together() {
    let mut bench = Bench::new(&Policy::default(), &recorders(4, 50, 1));
    bench.ask_all();
    let passes = bench.starts();
    for (_, pass) in passes {
        bench.end(pass, Outcome::NoAnswer(trouble()));
        bench.turns.ask(pass.seat, bench.now);
    }
    let start = bench.now;
    let mut waits: Vec<_> = bench.turns.hosts.iter().map(|h| h.until.unwrap() - start).collect();
    waits.sort();
    // Full jitter: evenly over the half second of a first failure.
    assert!(waits[20] < Duration::from_millis(100) && waits[180] > Duration::from_millis(400), "{waits:?}");
}

#[test]
fn one_bad_channel_does_not_stop_a_recorder_that_streams() {
    let mut bench = Bench::new(&Policy::default(), &recorders(1, 1, 3));
    bench.ask_all();
    let [(_, good), (_, bad), _] = bench.starts()[..] else { panic!() };
    bench.end(good, Outcome::Playing);
    let consequence = bench.end(bad, Outcome::NoAnswer(trouble()));
    assert!(!consequence.host_waits && consequence.tell.is_empty());
    bench.turns.ask(bad.seat, bench.now);
    assert_eq!(bench.starts().len(), 1);
    // Once nothing streams there any more, silence means the host.
    bench.turns.left(good.seat);
    assert_eq!(bench.turns.hosts[0].playing, 0);
}

fn guarded(user: &str, password: &str, channels: usize) -> Vec<Camera> {
    let credentials = std::sync::Arc::new(fleet::Credentials {
        user: user.into(),
        password: fleet::Secret::new(password.into()),
    });
    let channel =
        |c| Camera { credentials: Some(credentials.clone()), ..camera("c", &format!("rtsp://10.0.0.1/{c}")) };
    (0..channels).map(channel).collect()
}

#[test]
fn a_wrong_password_is_tried_twice_at_a_recorder_not_twice_by_each_channel() {
    let policy = Policy::default();
    let mut cameras = guarded("admin", "wrong", 64);
    cameras.extend(guarded("viewer", "right", 2));
    let mut bench = Bench::of(&policy, cameras);
    bench.ask_all();
    let refused = Trouble { state: CameraState::AuthFailed, reason: "401".into() };
    let (mut tries, mut last) = (0, bench.now);
    for _ in 0..10 {
        for (ticket, pass) in bench.starts() {
            if ticket >= 64 {
                bench.end(pass, Outcome::Playing);
                continue;
            }
            (tries, last) = (tries + 1, bench.now);
            let consequence = bench.end(pass, Outcome::LoginRefused(refused.clone()));
            assert_eq!(consequence.tell.len(), if tries == 2 { 63 } else { 0 });
            bench.turns.ask(pass.seat, bench.now);
        }
        bench.now += Duration::from_secs(50);
    }
    assert_eq!(tries, 2, "in 500 s");
    assert_eq!(bench.turns.trouble(bench.seats[0]).unwrap().reason, "401");
    assert_eq!(bench.turns.trouble(bench.seats[64]), None, "the other log-in is none the worse");
    // Then one more, and as it is let in, the others.
    bench.wait();
    let waited = bench.now - last;
    assert!((policy.auth_wait..=policy.auth_wait.mul_f64(1.1)).contains(&waited), "{waited:?}");
    let starts = bench.starts();
    assert_eq!(starts.len(), 1);
    bench.end(starts[0].1, Outcome::Playing);
    assert_eq!(bench.starts().len(), 4, "the cap of the host, as ever");
}

#[test]
fn a_forbidden_channel_does_not_stop_the_others_and_a_changed_password_costs_four_tries() {
    let policy = Policy::default();
    let refused = || Outcome::LoginRefused(trouble());
    let mut bench = Bench::of(&policy, guarded("admin", "old", 6));
    bench.ask_all();
    let mut all: Vec<Pass> = Vec::new();
    while all.len() < 6 {
        for (_, pass) in bench.starts() {
            bench.end(pass, Outcome::Playing);
            all.push(pass);
        }
    }
    // One channel is refused again and again, ten minutes apart after the second time: the others are let in.
    bench.turns.left(all[0].seat);
    for _ in 0..6 {
        bench.turns.ask(all[0].seat, bench.now);
        let starts = bench.starts();
        assert_eq!(starts.len(), 1);
        bench.end(starts[0].1, refused());
        bench.now += policy.auth_wait + Duration::from_secs(1);
    }
    // The password was changed: whoever comes back is refused, while others still stream.
    let mut tries = 0;
    for pass in &all[1..] {
        bench.turns.left(pass.seat);
        bench.turns.ask(pass.seat, bench.now);
        for (_, pass) in bench.starts() {
            tries += 1;
            bench.end(pass, refused());
        }
    }
    assert!(tries <= 4, "{tries}");
    assert!(bench.turns.trouble(all[1].seat).is_some());
}

#[test]
fn networks_are_24_64_or_a_name() {
    assert_eq!(Network::of("10.1.2.3"), Network::of("10.1.2.250"));
    assert_ne!(Network::of("10.1.2.3"), Network::of("10.1.3.3"));
    assert_eq!(Network::of("[2001:db8::1]"), Network::of("[2001:db8::ffff:1]"));
    assert_ne!(Network::of("[2001:db8:0:1::1]"), Network::of("[2001:db8:0:2::1]"));
    assert_eq!(Network::of("[::ffff:10.1.2.3]"), Network::of("10.1.2.9"));
    assert_ne!(Network::of("nvr-a.example"), Network::of("nvr-b.example"));
}

#[test]
fn thirty_thousand_that_wait_are_handled_in_no_time() {
    let policy = Policy { starts_per_second: 1_000_000, setups: 64, ..Policy::default() };
    let mut bench = Bench::new(&policy, &recorders(117, 4, 64));
    let began = Instant::now();
    bench.ask_all();
    let mut done = 0;
    while done < 29_952 {
        for (_, pass) in bench.starts() {
            done += 1;
            bench.end(pass, Outcome::Playing);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
