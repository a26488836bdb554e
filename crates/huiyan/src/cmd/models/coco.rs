//! The 80 classes of COCO's detection task, in the order in which detectors are trained on them.

/// Their names.
pub fn classes() -> Vec<&'static str> {
    include_str!("../../../../../models/zoo/coco80.txt").lines().collect()
}
