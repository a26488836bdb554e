//! Where a picture lies in the model's input, and the way back.

use flow::NormBox;

use fleet::Resize;

/// The part of the model's input that holds the picture, in pixels. The rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns, > 0.
    pub width: u32,
    /// Rows, > 0.
    pub height: u32,
}

impl Placement {
    /// Where a picture of `from` (width, height) lies in an input of `into`.
    ///
    /// A letterbox rounds the shorter side down, as the authors' tools do.
    pub fn new(resize: Resize, from: (u32, u32), into: (u32, u32)) -> Self {
        let (width, height) = match resize {
            Resize::Stretch => into,
            Resize::LetterboxTopLeft { .. } | Resize::LetterboxCentre { .. } => fit(from, into),
        };
        let (left, top) = match resize {
            Resize::LetterboxCentre { .. } => ((into.0 - width) / 2, (into.1 - height) / 2),
            Resize::LetterboxTopLeft { .. } | Resize::Stretch => (0, 0),
        };
        Self { left, top, width, height }
    }

    /// A box in pixels of the input as shares of the picture; `None` where it lies in the padding.
    ///
    /// Each axis is undone by the scale that was really used, after rounding: with the common one, boxes at the
    /// far edge would be off by up to a pixel of the input.
    pub(crate) fn undo(&self, x0: f32, y0: f32, x1: f32, y1: f32) -> Option<NormBox> {
        let x = |v: f32| (v - self.left as f32) / self.width as f32;
        let y = |v: f32| (v - self.top as f32) / self.height as f32;
        NormBox::clamped(x(x0), y(y0), x(x1), y(y1))
    }
}

/// The largest size with the shape of `from` that fits into `into`. In integers, because `768.0 * (416.0 / 768.0)`
/// may be a hair below 416.
fn fit(from: (u32, u32), into: (u32, u32)) -> (u32, u32) {
    let scaled = |side: u32, numerator: u32, denominator: u32| {
        (u64::from(side) * u64::from(numerator) / u64::from(denominator)).max(1) as u32
    };
    let wide = u64::from(from.0) * u64::from(into.1) >= u64::from(from.1) * u64::from(into.0);
    if wide { (into.0, scaled(from.1, into.0, from.0)) } else { (scaled(from.0, into.1, from.1), into.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: (u32, u32) = (416, 416);

    fn place(resize: Resize, from: (u32, u32)) -> (u32, u32, u32, u32) {
        let p = Placement::new(resize, from, INPUT);
        (p.left, p.top, p.width, p.height)
    }

    #[test]
    fn letterboxes_keep_the_shape_and_stretching_fills() {
        let (corner, centre) = (Resize::LetterboxTopLeft { pad: 114 }, Resize::LetterboxCentre { pad: 114 });
        assert_eq!(place(corner, (768, 432)), (0, 0, 416, 234));
        assert_eq!(place(centre, (768, 432)), (0, 91, 416, 234));
        assert_eq!(place(corner, (432, 768)), (0, 0, 234, 416));
        assert_eq!(place(centre, (432, 768)), (91, 0, 234, 416));
        assert_eq!(place(corner, (640, 427)), (0, 0, 416, 277));
        assert_eq!(place(centre, (208, 208)), (0, 0, 416, 416));
        assert_eq!(place(corner, (16_384, 1)), (0, 0, 416, 1));
        assert_eq!(place(centre, (1, 16_384)), (207, 0, 1, 416));
        assert_eq!(place(Resize::Stretch, (768, 432)), (0, 0, 416, 416));
    }

    #[test]
    fn boxes_go_back_to_where_they_were() {
        for resize in
            [Resize::LetterboxTopLeft { pad: 0 }, Resize::LetterboxCentre { pad: 0 }, Resize::Stretch]
        {
            for from in [(768, 432), (427, 640), (33, 17)] {
                let p = Placement::new(resize, from, INPUT);
                let to =
                    |x: f32, y: f32| (p.left as f32 + x * p.width as f32, p.top as f32 + y * p.height as f32);
                let ((x0, y0), (x1, y1)) = (to(0.25, 0.5), to(0.75, 1.0));
                let back = p.undo(x0, y0, x1, y1).unwrap().to_array();
                for (a, b) in back.into_iter().zip([0.25, 0.5, 0.75, 1.0]) {
                    assert!((a - b).abs() < 1e-5, "{resize:?} {from:?} {back:?}");
                }
            }
        }
    }

    #[test]
    fn boxes_are_cut_at_the_edge_and_gone_in_the_padding() {
        let p = Placement::new(Resize::LetterboxTopLeft { pad: 114 }, (768, 432), INPUT);
        assert_eq!(p.undo(-10.0, 117.0, 500.0, 300.0), Some(NormBox::new(0.0, 0.5, 1.0, 1.0).unwrap()));
        assert_eq!(p.undo(10.0, 240.0, 100.0, 300.0), None);
    }
}
