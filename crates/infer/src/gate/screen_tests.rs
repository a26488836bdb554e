//! The gate before the decoder, with a decoder, a detector and a scene behind it that do what they are told.

use flow::{Codec, MediaTime, Role};

use super::tests::{Street, camera};
use super::*;

/// Coded pictures of a street, one in two seconds.
struct Stream {
    street: Street,
    size: usize,
    between: u64,
    lost: u32,
    sets: u8,
    role: Role,
    random: fastrand::Rng,
    /// The scene's word.
    at_ease: bool,
    /// Whether the scenes take a repeated look.
    takes: bool,
    /// Whether looks come as far as the scene.
    arrives: bool,
}

impl Stream {
    fn new(camera: Camera) -> Self {
        Self {
            street: Street::new(camera),
            size: 40_000,
            between: 30_000,
            lost: 0,
            sets: 1,
            role: Role::Alone,
            random: fastrand::Rng::with_seed(3),
            at_ease: true,
            takes: true,
            arrives: true,
        }
    }

    /// Long enough for everything to be known, and at rest.
    fn settled(at_least: u64) -> Self {
        let mut stream = Self::new(camera(at_least));
        stream.decoded_of(40);
        stream
    }

    /// The next picture; whether it was decoded.
    fn next(&mut self, cars: &[(usize, usize)]) -> bool {
        self.street.second += 2;
        let frame = self.street.frame(cars);
        // Sizes vary by some hundredths of a percent.
        let mut data = vec![0, 0, 0, 1, 0x67, self.sets, 0, 0, 0, 1, 0x65];
        data.resize(self.size + self.random.usize(0..30), 0x55);
        let unit = AccessUnit {
            camera: frame.id.camera.clone(),
            session: frame.id.session,
            sequence: frame.id.sequence,
            codec: Codec::H264,
            media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
            captured: frame.captured,
            key: true,
            role: self.role,
            lost_before: std::mem::take(&mut self.lost),
            bytes_between: self.between + self.random.u64(0..100),
            data: data.into(),
        };
        let mut repeated = None;
        let takes = self.takes;
        let decode = self.street.gate.must_decode(&unit, |look| {
            repeated = Some(look);
            takes
        });
        if let Some(look) = repeated.filter(|_| !decode) {
            assert_eq!((look.basis, look.captured), (flow::Basis::Unchanged, unit.captured));
            assert_eq!(look.frame, frame.id);
            self.street.gate.taken(&look.frame, self.at_ease);
        }
        if decode {
            self.decoded(frame, cars);
        }
        decode
    }

    fn decoded(&mut self, frame: Frame, cars: &[(usize, usize)]) {
        let id = frame.id.clone();
        if let Passage::Through(frame) = self.street.gate.judge(frame) {
            let detections = Street::detections(&frame, cars);
            self.street.gate.looked(&Look { detections, frame });
        }
        if self.arrives {
            self.street.gate.taken(&id, self.at_ease);
        }
    }

    /// How many of the next pictures are decoded.
    fn decoded_of(&mut self, pictures: usize) -> usize {
        (0..pictures).filter(|_| self.next(&[])).count()
    }

    fn because(&self, reason: &str) -> u64 {
        let numbers = self.street.gate.numbers();
        numbers.decoded.iter().find(|(name, _)| *name == reason).unwrap().1
    }
}

const PARKED: (usize, usize) = (60, 30);

#[test]
fn a_still_street_is_decoded_every_ten_seconds_and_all_are_accounted_for() {
    let mut stream = Stream::settled(180);
    let before = stream.street.gate.numbers();
    let decoded = stream.decoded_of(300);
    assert!((60..=75).contains(&decoded), "{decoded} of 300: {:?}", stream.street.gate.numbers());
    let numbers = stream.street.gate.numbers();
    assert_eq!(numbers.repeated - before.repeated, 300 - decoded as u64);
    let all = |numbers: &GateNumbers| numbers.decoded.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(all(&numbers) - all(&before), decoded as u64);
    let judged = |n: &GateNumbers| n.spared + n.through.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(judged(&numbers) - judged(&before), decoded as u64, "what is decoded is judged");
}

#[test]
fn the_bound_holds_whatever_the_sizes_say() {
    // A car parks, and a rate control hides it: all pictures are of the usual size.
    let mut stream = Stream::settled(180);
    let until_looked = (1..).find(|_| {
        let through = |s: &Stream| s.street.gate.numbers().through.iter().map(|(_, n)| n).sum::<u64>();
        let before = through(&stream);
        stream.next(&[PARKED]);
        through(&stream) > before
            && stream.street.gate.numbers().through.iter().any(|(why, n)| *why == "stays" && *n > 0)
    });
    // Ten seconds until one is decoded, six until it has shown the same.
    assert!(until_looked.unwrap() <= 8, "{until_looked:?}");
    assert!(stream.because("settling") >= 1);
    // A rule of a minute waits five seconds at most.
    let mut stream = Stream::settled(60);
    let decoded = stream.decoded_of(60);
    assert!((28..=36).contains(&decoded), "{decoded} of 60");
}

#[test]
fn an_unusual_picture_is_decoded_at_once() {
    for (size, between, why) in
        [(40_600, 30_000, "size"), (39_400, 30_000, "size"), (40_000, 40_000, "activity")]
    {
        let mut stream = Stream::settled(180);
        while !stream.next(&[]) {}
        let before = stream.because(why);
        (stream.size, stream.between) = (size, between);
        assert!(stream.next(&[]), "{why}");
        assert_eq!(stream.because(why), before + 1, "{why}");
    }
}

#[test]
fn what_must_be_seen_is_decoded_at_once() {
    let fresh = || {
        let mut stream = Stream::settled(180);
        while !stream.next(&[]) {}
        stream
    };
    assert!(!fresh().next(&[]), "nothing is special about the picture after one that was decoded");
    let expect = |why: &str, mut change: Box<dyn FnMut(&mut Stream)>| {
        let mut stream = fresh();
        let before = stream.because(why);
        change(&mut stream);
        assert!(stream.next(&[]), "{why}");
        assert_eq!(stream.because(why), before + 1, "{why}: {:?}", stream.street.gate.numbers());
    };
    expect("loss", Box::new(|s| s.lost = 1));
    expect("look", Box::new(|s| s.street.gate.ask(&CameraId::new("cam").unwrap())));
    expect("look", Box::new(|s| s.street.gate.forget(|_| true)));
    expect("first", Box::new(|s| s.sets = 2));
    expect("first", Box::new(|s| s.street.session = flow::SessionId::next()));
    expect("full", Box::new(|s| s.takes = false));
    expect("chained", Box::new(|s| s.role = Role::Chained { deliver: true }));
    expect(
        "scene",
        Box::new(|s| {
            s.at_ease = false;
            s.next(&[]);
        }),
    );
    // After a new session or other sets it takes eight pictures until the sizes are known.
    let mut stream = fresh();
    stream.sets = 2;
    assert!(stream.decoded_of(8) == 8 && stream.decoded_of(20) < 10);
}

#[test]
fn nothing_is_repeated_while_a_decoded_picture_is_on_its_way() {
    let mut stream = Stream::settled(180);
    stream.arrives = false;
    while !stream.next(&[]) {}
    // Lost on its way, or still waiting: the scene has not heard of it.
    assert_eq!(stream.decoded_of(5), 5);
    stream.arrives = true;
    assert!(stream.next(&[]));
    assert!(!stream.next(&[]));
}

#[test]
fn cameras_that_need_every_picture_get_it() {
    let off = |camera: Camera| {
        let mut stream = Stream::new(camera);
        assert_eq!(stream.decoded_of(60), 60);
        assert_eq!(stream.because("off"), 60);
    };
    off(Camera { gate: None, ..camera(180) });
    let every = Duration::ZERO;
    off(Camera {
        gate: camera(180).gate.map(|g| fleet::Gate { decode_at_least_every: every, ..g }),
        ..camera(180)
    });
    // A rule that learns from each picture what covers the ground.
    let covered = camera(180);
    let zone = &covered.zones[0];
    let share = fleet::Coverage { share: 0.2, at_least: Duration::from_secs(180) };
    let rule = fleet::Rule { kind: RuleKind::Coverage(share), ..(*zone.rules[0]).clone() };
    let zones = Arc::new([fleet::Zone { rules: vec![Arc::new(rule)], ..zone.clone() }]);
    off(Camera { zones, ..covered });
    // A rule that decides within seconds leaves no picture out at this pace.
    let mut stream = Stream::new(camera(10));
    assert_eq!(stream.decoded_of(60), 60);
}

#[test]
fn cameras_that_start_together_do_not_come_due_together() {
    let first_due = |name: &str| {
        let mut stream = Stream::new(Camera { id: CameraId::new(name).unwrap(), ..camera(180) });
        stream.street.camera = CameraId::new(name).unwrap();
        (0..60).filter(|_| stream.next(&[]) && stream.because("due") > 0).count()
    };
    let all: std::collections::BTreeSet<_> = (0..20).map(|n| first_due(&format!("cam-{n}"))).collect();
    assert!(all.len() > 1, "{all:?}");
}

#[test]
fn each_reason_has_its_own_place() {
    assert!(screen::REASONS.iter().enumerate().all(|(index, (reason, _))| *reason as usize == index));
}
