use super::*;

const NORMAL: Priority = Priority::Normal;
const DELAY: Duration = Duration::from_millis(50);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn camera(name: &str) -> CameraId {
    CameraId::new(name).unwrap()
}

fn take<T>(queue: &mut Queue<T>, model: usize, now: Instant) -> Vec<Taken<T>> {
    let mut batch = Vec::new();
    queue.take(model, now, &mut batch);
    batch
}

fn items<T>(batch: Vec<Taken<T>>) -> Vec<T> {
    batch.into_iter().map(|t| t.item).collect()
}

#[test]
fn a_batch_runs_when_full_or_when_its_oldest_has_waited() {
    let t = Instant::now();
    let line = |ready, since: u64| {
        let oldest = (ready > 0).then(|| t + ms(since));
        Line { ready, oldest, next: oldest, full: 4 }
    };
    let table = [
        (vec![], 0, Decision::Wait),
        (vec![line(0, 0)], 1000, Decision::Wait),
        (vec![line(3, 0)], 49, Decision::WaitUntil(t + DELAY)),
        (vec![line(3, 0)], 50, Decision::Take(0)),
        (vec![line(4, 0)], 0, Decision::Take(0)),
        (vec![line(9, 0)], 0, Decision::Take(0)),
        // Two models: the full one before the older one that is not yet due; of two due ones the older.
        (vec![line(1, 0), line(4, 20)], 20, Decision::Take(1)),
        (vec![line(4, 20), line(1, 0)], 60, Decision::Take(1)),
        (vec![line(1, 20), line(1, 0)], 30, Decision::WaitUntil(t + DELAY)),
    ];
    for (lines, now, wanted) in table {
        assert_eq!(decide(lines.iter().copied(), DELAY, t + ms(now)), wanted, "{lines:?} at {now} ms");
    }
}

#[test]
fn the_newest_frame_wins_and_keeps_the_place_of_the_first() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![2], DELAY);
    assert_eq!(queue.offer(&camera("fast"), (0, NORMAL), 1, t), None);
    assert_eq!(queue.offer(&camera("slow"), (0, NORMAL), 10, t + ms(1)), None);
    assert_eq!(queue.offer(&camera("other"), (0, NORMAL), 20, t + ms(2)), None);
    assert_eq!(queue.offer(&camera("fast"), (0, NORMAL), 2, t + ms(30)), Some(1));
    assert_eq!(queue.offer(&camera("fast"), (0, NORMAL), 3, t + ms(40)), Some(2));
    let batch = take(&mut queue, 0, t + ms(45));
    assert_eq!(batch[0], Taken { camera: camera("fast"), item: 3, waited: ms(5), priority: NORMAL });
    assert_eq!(batch[1], Taken { camera: camera("slow"), item: 10, waited: ms(44), priority: NORMAL });
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn a_frame_replaced_again_and_again_is_not_put_off() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![8], DELAY);
    for i in 0..5 {
        queue.offer(&camera("fast"), (0, NORMAL), i, t + ms(i * 10));
    }
    assert_eq!(queue.decide(t + ms(49)), Decision::WaitUntil(t + DELAY));
    assert_eq!(queue.decide(t + ms(50)), Decision::Take(0));
}

#[test]
fn a_camera_has_one_look_at_a_time_and_then_its_turn() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![1], DELAY);
    queue.offer(&camera("a"), (0, NORMAL), 1, t);
    assert_eq!(items(take(&mut queue, 0, t)), [1]);
    queue.offer(&camera("a"), (0, NORMAL), 2, t + ms(1));
    queue.offer(&camera("b"), (0, NORMAL), 10, t + ms(2));
    // "a" waits, but its first frame is not done.
    assert_eq!(items(take(&mut queue, 0, t + ms(3))), [10]);
    assert_eq!(queue.decide(t + ms(500)), Decision::Wait);
    assert_eq!(queue.offer(&camera("a"), (0, NORMAL), 3, t + ms(4)), Some(2));
    queue.offer(&camera("c"), (0, NORMAL), 20, t + ms(5));
    queue.done(&camera("a"));
    // It waits since 1 ms, "c" since 5 ms.
    assert_eq!(items(take(&mut queue, 0, t + ms(6))), [3]);
    assert_eq!(items(take(&mut queue, 0, t + ms(6))), [20]);
}

#[test]
fn many_cameras_get_equal_turns_under_overload() {
    // 50 cameras, the first ten of them ten times as fast; one batch of 5 per 10 ms serves half of what comes.
    let t = Instant::now();
    let mut queue = Queue::new(vec![5], DELAY);
    let cameras: Vec<_> = (0..50).map(|i| camera(&format!("c{i}"))).collect();
    let mut looks: HashMap<CameraId, u32> = HashMap::new();
    for step in 0..1000u64 {
        for (i, id) in cameras.iter().enumerate() {
            if i < 10 || step % 10 == i as u64 % 10 {
                queue.offer(id, (0, NORMAL), (), t + ms(step * 10));
            }
        }
        let now = t + ms(step * 10 + 5);
        if let Decision::Take(model) = queue.decide(now) {
            for taken in take(&mut queue, model, now) {
                *looks.entry(taken.camera.clone()).or_default() += 1;
                queue.done(&taken.camera);
            }
        }
    }
    let (least, most) = (looks.values().min().unwrap(), looks.values().max().unwrap());
    assert_eq!(looks.len(), 50);
    assert_eq!(looks.values().sum::<u32>(), 5 * 1000);
    assert!(*most <= *least * 2, "between {least} and {most} looks per camera");
}

#[test]
fn models_do_not_share_batches_and_a_camera_may_change_its_model() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![2, 2], DELAY);
    queue.offer(&camera("a"), (0, NORMAL), 1, t);
    queue.offer(&camera("b"), (1, NORMAL), 2, t);
    queue.offer(&camera("a"), (1, NORMAL), 3, t);
    assert_eq!(queue.line(0).ready, 0);
    assert_eq!(queue.decide(t), Decision::Take(1));
    assert_eq!(items(take(&mut queue, 1, t)), [3, 2]);
}

#[test]
fn nothing_is_kept_of_a_camera_that_went_away() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![4], DELAY);
    queue.offer(&camera("a"), (0, NORMAL), 1, t);
    queue.offer(&camera("b"), (0, NORMAL), 1, t);
    take(&mut queue, 0, t);
    queue.offer(&camera("b"), (0, NORMAL), 2, t);
    queue.done(&camera("a"));
    assert_eq!((queue.slots.len(), queue.waiting()), (1, 1));
    assert_eq!(queue.clear(), 1);
    queue.done(&camera("b"));
    assert_eq!((queue.slots.len(), queue.has_ready()), (0, false));
}

#[test]
fn a_higher_priority_goes_first_until_patience_ends() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![1], DELAY);
    queue.offer(&camera("low"), (0, Priority::Low), 1, t);
    queue.offer(&camera("normal"), (0, NORMAL), 2, t + ms(1));
    queue.offer(&camera("high"), (0, Priority::High), 3, t + ms(2));
    // It is the low one that has waited for long enough to start a batch, but not the one that gets it.
    let order: Vec<_> = (0..3).flat_map(|_| items(take(&mut queue, 0, t + DELAY))).collect();
    assert_eq!(order, [3, 2, 1]);
    queue.offer(&camera("low-2"), (0, Priority::Low), 4, t);
    queue.offer(&camera("high-2"), (0, Priority::High), 5, t + 2 * PATIENCE + ms(1));
    assert_eq!(
        items(take(&mut queue, 0, t + 3 * PATIENCE)),
        [4],
        "whoever waited for all its patience goes first"
    );
}

#[test]
fn a_camera_may_change_its_priority() {
    let t = Instant::now();
    let mut queue = Queue::new(vec![1], DELAY);
    queue.offer(&camera("a"), (0, Priority::Low), 1, t);
    queue.offer(&camera("b"), (0, NORMAL), 2, t);
    assert_eq!(queue.offer(&camera("a"), (0, Priority::High), 3, t), Some(1));
    assert_eq!(items(take(&mut queue, 0, t)), [3]);
    assert_eq!(items(take(&mut queue, 0, t)), [2]);
    assert_eq!(queue.decide(t + PATIENCE), Decision::Wait);
}
