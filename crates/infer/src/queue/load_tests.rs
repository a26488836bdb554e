//! The queue under load, in virtual time: what each camera gets, and how long it waits.

use super::*;

/// Cameras and what looks at them.
struct Load {
    /// How many cameras, and of which priority.
    cameras: Vec<(usize, Priority)>,
    /// Each camera's frames come this far apart, at a phase of its own.
    period: Duration,
    /// Batches at most, and how long a frame waits for others at most.
    full: usize,
    max_delay: Duration,
    /// How long one batch takes, whatever its size; one at a time.
    service: Duration,
    /// How long it goes on.
    lasts: Duration,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// Frames offered, looked at and superseded, by priority.
    offered: [u64; 3],
    looked: [u64; 3],
    superseded: [u64; 3],
    waits: Vec<Duration>,
    /// Per camera: looks, and the longest time without one.
    looks: Vec<(u64, Duration)>,
    left: u64,
}

impl Outcome {
    fn p99(&mut self) -> Duration {
        self.waits.sort();
        self.waits[self.waits.len() * 99 / 100]
    }

    fn kept(&self, priority: Priority) -> f64 {
        self.looked[priority as usize] as f64 / self.offered[priority as usize] as f64
    }
}

impl Load {
    fn run(&self) -> Outcome {
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let of = self.cameras.iter().flat_map(|(count, priority)| std::iter::repeat_n(*priority, *count));
        let priorities: Vec<Priority> = of.collect();
        let ids: Vec<_> = (0..priorities.len()).map(|n| CameraId::new(&format!("c{n}")).unwrap()).collect();
        let mut frames = Vec::new();
        for camera in 0..ids.len() {
            let mut at = self.period.mul_f64(random.f64());
            while at < self.lasts {
                frames.push((at, camera));
                at += self.period;
            }
        }
        frames.sort();
        let mut out = Outcome { looks: vec![(0, Duration::ZERO); ids.len()], ..Outcome::default() };
        let mut last = vec![Duration::ZERO; ids.len()];
        let mut queue = Queue::new(vec![self.full], self.max_delay);
        let mut running: Option<(Duration, Vec<Taken<usize>>)> = None;
        let mut frames = frames.into_iter().peekable();
        let mut now = Duration::ZERO;
        loop {
            // The next thing that happens: a frame arrives, the batch ends, or a frame has waited for long enough.
            let decision = if running.is_none() { queue.decide(start + now) } else { Decision::Wait };
            let due = match decision {
                Decision::Take(model) => {
                    let mut batch: Vec<Taken<usize>> = Vec::new();
                    queue.take(model, start + now, &mut batch);
                    for taken in &batch {
                        out.looked[taken.priority as usize] += 1;
                        out.waits.push(taken.waited);
                        let (looks, gap) = &mut out.looks[taken.item];
                        (*looks, *gap) = (*looks + 1, (*gap).max(now - last[taken.item]));
                        last[taken.item] = now;
                    }
                    running = Some((now + self.service, batch));
                    continue;
                }
                Decision::WaitUntil(due) => Some(due - start),
                Decision::Wait => running.as_ref().map(|(end, _)| *end),
            };
            let arrives = frames.peek().map(|(at, _)| *at);
            match (arrives, due) {
                (None, None) => break,
                (Some(at), due) if due.is_none_or(|due| at <= due) => {
                    let (_, camera) = frames.next().unwrap();
                    now = at;
                    let priority = priorities[camera];
                    out.offered[priority as usize] += 1;
                    let before = queue.offer(&ids[camera], (0, priority), camera, start + now);
                    out.superseded[priority as usize] += u64::from(before.is_some());
                }
                (_, due) => {
                    now = due.unwrap();
                    if let Some((_, batch)) = running.take_if(|(end, _)| *end <= now) {
                        batch.iter().for_each(|taken| queue.done(&taken.camera));
                    }
                }
            }
        }
        for (camera, (_, gap)) in out.looks.iter_mut().enumerate() {
            *gap = (*gap).max(self.lasts.saturating_sub(last[camera]));
        }
        out.left = queue.waiting() as u64;
        for level in 0..3 {
            let sum = out.looked[level] + out.superseded[level];
            assert_eq!(out.offered[level], sum, "frames of priority {level} are lost without being counted");
        }
        out
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_thousand_cameras_wait_no_longer_than_the_delay_and_one_batch() {
    let load = Load {
        cameras: vec![(1000, Priority::Normal)],
        period: 2000 * MS,
        full: 16,
        max_delay: 50 * MS,
        service: MS,
        lasts: Duration::from_secs(60),
    };
    let mut out = load.run();
    assert!(out.p99() <= load.max_delay + load.service, "p99 {:?}", out.p99());
    assert!(*out.waits.last().unwrap() <= load.max_delay + load.service);
    assert_eq!((out.superseded, out.left), ([0; 3], 0), "all were looked at");
    assert!(out.looks.iter().all(|(looks, _)| *looks == 30), "each of them");
}

#[test]
fn under_twice_the_load_low_priority_loses_first_and_nobody_for_ever() {
    // 500 frames per second come, 250 can be looked at: 16 in 64 ms.
    let load = Load {
        cameras: vec![(250, Priority::High), (250, Priority::Normal), (500, Priority::Low)],
        period: 2000 * MS,
        full: 16,
        max_delay: 50 * MS,
        service: 64 * MS,
        lasts: Duration::from_secs(600),
    };
    let out = load.run();
    let [high, normal, low] = Priority::ALL.map(|priority| out.kept(priority));
    assert!(high > 0.95, "high keeps {high}");
    assert!(normal > 0.85, "normal keeps {normal}");
    assert!((0.02..0.15).contains(&low), "low keeps {low}");
    // The bound: twice the patience, one turn of all cameras, and the frame that was just missed.
    let turn = load.service.mul_f64(1000.0 / 16.0);
    let bound = 2 * PATIENCE + turn + load.period + load.service;
    let longest = out.looks.iter().map(|(_, gap)| *gap).max().unwrap();
    assert!(longest <= bound, "a camera had no look for {longest:?}; the bound is {bound:?}");
}

#[test]
fn one_priority_shares_what_there_is() {
    let load = Load {
        cameras: vec![(1000, Priority::Low)],
        period: 2000 * MS,
        full: 16,
        max_delay: 50 * MS,
        service: 64 * MS,
        lasts: Duration::from_secs(120),
    };
    let out = load.run();
    let looks = || out.looks.iter().map(|(looks, _)| *looks);
    let (least, most) = (looks().min().unwrap(), looks().max().unwrap());
    assert!(least * 2 >= most && least >= 20, "between {least} and {most} looks");
    // The machine is never idle.
    assert!(out.looked[Priority::Low as usize] as f64 >= 0.97 * 250.0 * 120.0);
}

#[test]
fn more_of_the_highest_than_can_be_served_leaves_something_for_the_others() {
    let load = Load {
        cameras: vec![(1000, Priority::High), (50, Priority::Normal), (50, Priority::Low)],
        period: 2000 * MS,
        full: 16,
        max_delay: 50 * MS,
        service: 64 * MS,
        lasts: Duration::from_secs(600),
    };
    let out = load.run();
    let turn = load.service.mul_f64(1100.0 / 16.0);
    let bound = 2 * PATIENCE + turn + load.period + load.service;
    assert!(out.looks.iter().all(|(looks, gap)| *looks >= 8 && *gap <= bound));
}
