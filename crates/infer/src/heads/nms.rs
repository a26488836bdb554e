//! Non-maximum suppression.

use super::Candidate;

/// More candidates than this are cut off, lowest scores first: suppression is quadratic, and a model that reports
/// a thousand things above the threshold in one picture is broken or misread.
const MAX_CANDIDATES: usize = 1000;

/// Greedy suppression per class: of two boxes of a class with an IoU above `iou` the one with the lower score goes.
/// What stays is ordered by score, highest first.
pub(crate) fn suppress(candidates: &mut Vec<Candidate>, iou: f32) {
    // Stable, so that equal scores keep the order of the tensor and a replay gives the same list.
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    let mut kept = 0;
    for i in 0..candidates.len() {
        let candidate = candidates[i];
        let covered = |k: &Candidate| k.class == candidate.class && k.iou(&candidate) > iou;
        if !candidates[..kept].iter().any(covered) {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(class: usize, score: f32, x0: f32) -> Candidate {
        Candidate { class, score, x0, y0: 0.0, x1: x0 + 10.0, y1: 10.0 }
    }

    #[test]
    fn the_lower_score_of_two_overlapping_boxes_of_a_class_goes() {
        // 8 of 10 columns shared: IoU 8 / 12.
        let mut list = vec![candidate(0, 0.5, 0.0), candidate(0, 0.9, 2.0), candidate(1, 0.6, 1.0)];
        suppress(&mut list, 0.65);
        assert_eq!(list, [candidate(0, 0.9, 2.0), candidate(1, 0.6, 1.0)]);
    }

    #[test]
    fn boxes_at_the_threshold_or_apart_stay() {
        let mut list = vec![candidate(0, 0.9, 0.0), candidate(0, 0.8, 5.0), candidate(0, 0.7, 10.0)];
        // 5 of 10 columns shared: IoU exactly 1 / 3.
        suppress(&mut list, 1.0 / 3.0);
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn a_suppressed_box_suppresses_nothing() {
        // a covers b, b covers c, a does not cover c.
        let mut list = vec![candidate(0, 0.9, 0.0), candidate(0, 0.8, 4.0), candidate(0, 0.7, 8.0)];
        suppress(&mut list, 0.4);
        assert_eq!(list, [candidate(0, 0.9, 0.0), candidate(0, 0.7, 8.0)]);
    }

    #[test]
    fn a_flood_is_cut_to_the_best() {
        let mut list: Vec<_> = (0..5000).map(|i| candidate(0, i as f32 / 5000.0, i as f32 * 20.0)).collect();
        suppress(&mut list, 0.5);
        assert_eq!(list.len(), MAX_CANDIDATES);
        assert_eq!(list[0].score, 4999.0 / 5000.0);
    }
}
