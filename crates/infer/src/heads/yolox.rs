//! YOLOX (arXiv:2107.08430): anchor-free, one box per cell of three grids, the grid not yet decoded by the model.
//!
//! For every cell, in rows, strides 8, 16, 32 one after the other: `x, y, w, h, objectness, class scores…`. The
//! centre is `(x + column, y + row) × stride`, the size `exp(w), exp(h) × stride`; objectness and class scores come
//! out of a sigmoid.

use super::Candidate;

const STRIDES: [u32; 3] = [8, 16, 32];

/// Values of an anchor before its class scores.
pub(crate) const BEFORE_CLASSES: usize = 5;

/// A sigmoid gives 0..=1; half-precision kernels may miss that by a little. Further out, the tensor is no score.
const SCORE_SLACK: f32 = 1e-3;

/// How many boxes a model with this input size reports; `None` where the size is no multiple of the largest stride.
pub(crate) fn anchors(width: u32, height: u32) -> Option<usize> {
    let fits = width > 0 && height > 0 && width.is_multiple_of(32) && height.is_multiple_of(32);
    let cells = |s: u32| (width / s) as usize * (height / s) as usize;
    fits.then(|| STRIDES.into_iter().map(cells).sum())
}

/// Appends the boxes of one picture with a score of at least `threshold` to `found`.
///
/// `tensor` holds `anchors(width, height) × (5 + classes)` values. Returns how many anchors were skipped because
/// they hold NaN, a score outside 0..=1 or a box without end: a sane model gives none.
pub(crate) fn decode(
    tensor: &[f32],
    (width, height): (u32, u32),
    classes: usize,
    threshold: f32,
    found: &mut Vec<Candidate>,
) -> u64 {
    let mut broken = 0;
    let mut anchors = tensor.chunks_exact(BEFORE_CLASSES + classes);
    for stride in STRIDES {
        let (columns, rows) = ((width / stride) as usize, (height / stride) as usize);
        for (cell, anchor) in anchors.by_ref().take(columns * rows).enumerate() {
            let objectness = anchor[4];
            // Nearly every anchor leaves here: no class score is above 1.
            if (-SCORE_SLACK..threshold).contains(&objectness) {
                continue;
            }
            match candidate(anchor, stride as f32, (cell / columns) as f32, (cell % columns) as f32) {
                Some(candidate) if candidate.score >= threshold => found.push(candidate),
                Some(_) => {}
                None => broken += 1,
            }
        }
    }
    broken
}

fn candidate(anchor: &[f32], stride: f32, row: f32, column: f32) -> Option<Candidate> {
    let objectness = score(anchor[4])?;
    let mut best = (0, 0.0);
    for (class, &value) in anchor[BEFORE_CLASSES..].iter().enumerate() {
        let value = score(value)?;
        if value > best.1 {
            best = (class, value);
        }
    }
    let (x, y) = ((anchor[0] + column) * stride, (anchor[1] + row) * stride);
    let (w, h) = (anchor[2].exp() * stride, anchor[3].exp() * stride);
    let (x0, y0, x1, y1) = (x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0);
    let finite = [x0, y0, x1, y1, w * h].iter().all(|v| v.is_finite());
    (finite && x0 < x1 && y0 < y1).then_some(Candidate {
        class: best.0,
        score: objectness * best.1,
        x0,
        y0,
        x1,
        y1,
    })
}

/// `None` for NaN and for what no sigmoid gives.
fn score(value: f32) -> Option<f32> {
    (-SCORE_SLACK..=1.0 + SCORE_SLACK).contains(&value).then(|| value.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (64, 32);
    const CLASSES: usize = 2;
    const VALUES: usize = BEFORE_CLASSES + CLASSES;

    fn empty() -> Vec<f32> {
        vec![0.0; anchors(SIZE.0, SIZE.1).unwrap() * VALUES]
    }

    fn run(tensor: &[f32], threshold: f32) -> (Vec<Candidate>, u64) {
        let mut found = Vec::new();
        let broken = decode(tensor, SIZE, CLASSES, threshold, &mut found);
        (found, broken)
    }

    #[test]
    fn anchors_of_the_published_sizes() {
        assert_eq!(anchors(416, 416), Some(3549));
        assert_eq!(anchors(640, 640), Some(8400));
        assert_eq!(anchors(400, 416), None);
        assert_eq!(anchors(0, 32), None);
    }

    #[test]
    fn the_grid_is_decoded_by_rows_and_strides() {
        let mut tensor = empty();
        // Stride 8 has 8 x 4 cells: row 2, column 3 is cell 19. Stride 16 has 4 x 2: row 1, column 0 is 32 + 4.
        // Stride 32 has 2 x 1: column 1 is 32 + 8 + 1.
        for (cell, class) in [(19, 0), (36, 1), (41, 1)] {
            let anchor = &mut tensor[cell * VALUES..][..VALUES];
            anchor[..5].copy_from_slice(&[0.5, 0.25, 2f32.ln(), 0.0, 0.8]);
            anchor[5 + class] = 0.5;
        }
        let (found, broken) = run(&tensor, 0.3);
        let expected = [
            Candidate { class: 0, score: 0.4, x0: 20.0, y0: 14.0, x1: 36.0, y1: 22.0 },
            Candidate { class: 1, score: 0.4, x0: -8.0, y0: 12.0, x1: 24.0, y1: 28.0 },
            Candidate { class: 1, score: 0.4, x0: 16.0, y0: -8.0, x1: 80.0, y1: 24.0 },
        ];
        assert_eq!(broken, 0);
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert_eq!(f.class, e.class);
            for (a, b) in [(f.score, e.score), (f.x0, e.x0), (f.y0, e.y0), (f.x1, e.x1), (f.y1, e.y1)] {
                assert!((a - b).abs() < 1e-4, "{f:?} is not {e:?}");
            }
        }
    }

    #[test]
    fn the_score_is_objectness_times_class() {
        let mut tensor = empty();
        tensor[4..7].copy_from_slice(&[0.6, 0.4, 0.5]);
        assert_eq!(run(&tensor, 0.31).0, []);
        let found = run(&tensor, 0.29).0;
        assert_eq!((found[0].class, found[0].score), (1, 0.6 * 0.5));
    }

    #[test]
    fn broken_anchors_are_skipped_and_counted() {
        let good = [0.5, 0.5, 0.0, 0.0, 0.9, 0.9, 0.1];
        let mut tensor = empty();
        let spoil = [
            (0, f32::NAN),      // x
            (2, f32::NAN),      // w
            (3, 200.0),         // e^200 is no height
            (3, f32::INFINITY), // nor this
            (2, -200.0),        // a width that rounds to nothing
            (4, f32::NAN),      // objectness
            (4, -3.0),          // a logit that went through no sigmoid
            (4, 7.0),
            (5, f32::NAN), // class scores, also of a class that does not win
            (6, f32::NAN),
            (6, 5.0),
        ];
        for (cell, (index, value)) in spoil.into_iter().enumerate() {
            let anchor = &mut tensor[cell * VALUES..][..VALUES];
            anchor.copy_from_slice(&good);
            anchor[index] = value;
        }
        tensor[20 * VALUES..][..VALUES].copy_from_slice(&good);
        let (found, broken) = run(&tensor, 0.3);
        assert_eq!(broken, spoil.len() as u64);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_score_a_hair_above_one_is_one() {
        let mut tensor = empty();
        tensor[..VALUES].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, 1.0004, 1.0004, 0.0]);
        assert_eq!(run(&tensor, 0.3).0[0].score, 1.0);
    }
}
