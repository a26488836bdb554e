//! What a model's output tensor means: plain arithmetic from `&[f32]` to boxes, testable without a model.

mod nms;
pub(crate) mod yolox;

pub(crate) use nms::suppress;

/// A box as the head gives it, in pixels of the model's input. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Index into the card's classes.
    pub class: usize,
    /// 0..=1.
    pub score: f32,
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge, > `x0`.
    pub x1: f32,
    /// Bottom edge, > `y0`.
    pub y1: f32,
}

impl Candidate {
    fn area(&self) -> f32 {
        (self.x1 - self.x0) * (self.y1 - self.y0)
    }

    /// Intersection over union.
    fn iou(&self, other: &Self) -> f32 {
        let w = self.x1.min(other.x1) - self.x0.max(other.x0);
        let h = self.y1.min(other.y1) - self.y0.max(other.y0);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        w * h / (self.area() + other.area() - w * h)
    }
}
