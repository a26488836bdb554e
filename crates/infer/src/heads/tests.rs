//! Properties that hold for every head, whatever a model gives.

use super::*;
use crate::testing;

/// Numbers that break arithmetic, and ordinary ones.
fn number(random: &mut fastrand::Rng) -> f32 {
    match random.u8(..16) {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => f32::MAX,
        4 => f32::MIN_POSITIVE / 2.0,
        5 => f32::from_bits(random.u32(..)),
        6 => -0.0,
        7..=10 => random.f32(),
        11 => random.u8(..9).into(),
        _ => (random.f32() - 0.5) * 200.0,
    }
}

/// Values of one output, floating-point numbers or labels.
enum Garbage {
    Floats(Vec<f32>),
    Longs(Vec<i64>),
    Ints(Vec<i32>),
}

impl Garbage {
    fn new(part: &Part, len: usize, random: &mut fastrand::Rng) -> Self {
        match (part.numbers, random.u8(..3)) {
            (Numbers::Floats, _) | (Numbers::Labels, 0) => {
                Self::Floats((0..len).map(|_| number(random)).collect())
            }
            (Numbers::Labels, 1) => {
                Self::Longs((0..len).map(|_| random.i64(..) >> random.u8(..64)).collect())
            }
            (Numbers::Labels, _) => Self::Ints((0..len).map(|_| random.i32(..) >> random.u8(..32)).collect()),
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::Floats(values) => Values::F32(values),
            Self::Longs(values) => Values::I64(values),
            Self::Ints(values) => Values::I32(values),
        }
    }
}

fn shape(part: &Part, slots: usize, random: &mut fastrand::Rng) -> Vec<i64> {
    let side = |dim: &Dim| match dim {
        Dim::Batch => slots,
        Dim::Boxes(n) | Dim::Exactly(n) => *n,
        Dim::Any => random.usize(..40),
        Dim::Classes { before, after, count } => before + after + count,
    };
    part.dims.iter().map(side).map(|side| side as i64).collect()
}

/// One run of a form on garbage; the number of boxes it gives.
fn run(card: &ModelCard, form: usize, random: &mut fastrand::Rng) -> (usize, u64) {
    let slots = random.usize(1..4);
    let head = forms(card).swap_remove(form);
    let parts = head.parts();
    let shapes: Vec<_> = parts.iter().map(|part| shape(part, slots, random)).collect();
    let values: Vec<_> = parts
        .iter()
        .zip(&shapes)
        .map(|(part, shape)| Garbage::new(part, shape.iter().product::<i64>() as usize, random))
        .collect();
    let outputs: Vec<_> =
        shapes.iter().zip(&values).map(|(shape, values)| Output { shape, values: values.values() }).collect();
    let nms_iou = head.overlaps().then_some(card.thresholds.nms_iou);
    let (unused, threshold) = (vec![false, true, false], card.thresholds.score);
    let mut reader = Reader { head, parts, outputs: Vec::new(), unused, threshold, nms_iou };
    reader.check(card, &outputs, slots).unwrap();
    let (mut found, mut boxes, mut broken) = (Vec::new(), 0, 0);
    for slot in 0..slots {
        broken += reader.decode(&outputs, slot, slots, &mut found);
        for c in &found {
            let sound = [c.x0, c.y0, c.x1, c.y1].iter().all(|v| v.is_finite()) && c.x0 < c.x1 && c.y0 < c.y1;
            assert!(sound && c.class < 3 && c.class != 1, "{c:?}");
            assert!((threshold..=1.0).contains(&c.score), "{c:?}");
        }
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        boxes += found.len();
    }
    (boxes, broken)
}

#[test]
fn garbage_never_panics_and_never_comes_through() {
    let mut random = fastrand::Rng::with_seed(11);
    for head in fleet::Head::all() {
        let mut card = testing::card_of(head, 64, 96, 3);
        for activation in [fleet::Activation::None, fleet::Activation::Sigmoid, fleet::Activation::Softmax] {
            card.output.activation = activation;
            for form in 0..forms(&card).len() {
                let runs: Vec<_> = (0..30).map(|_| run(&card, form, &mut random)).collect();
                let broken: u64 = runs.iter().map(|(_, broken)| broken).sum();
                assert!(broken > 0, "{} counts what is broken", head.name());
            }
        }
    }
}

#[test]
fn thresholds_at_their_ends_are_no_special_case() {
    let mut random = fastrand::Rng::with_seed(12);
    for head in fleet::Head::all() {
        for score in [0.0, 1.0] {
            let mut card = testing::card_of(head, 64, 64, 3);
            card.thresholds.score = score;
            (0..forms(&card).len()).for_each(|form| {
                run(&card, form, &mut random);
            });
        }
    }
}
