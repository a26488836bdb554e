//! Parts of a picture that nobody may see.

use bytes::Bytes;

use crate::{HostPicture, NormPoint, Plane, Polygon};

impl HostPicture {
    /// The picture with every pixel that one of the polygons touches made black. What was there is gone: the samples
    /// are overwritten, in a copy of the planes, since the decoder still reads its own. Without polygons it is the
    /// picture itself.
    pub fn masked(self, masks: &[Polygon]) -> Self {
        if masks.is_empty() {
            return self;
        }
        let (width, height) = (self.width(), self.height());
        let (matrix, full_range) = (self.matrix, self.full_range);
        let black = if full_range { 0 } else { 16 };
        let mut index = 0;
        let planes = self.into_planes().map(|plane| {
            // A chroma sample covers 2 x 2 pixels, also where the picture's size is odd.
            let (step, fill) = if index == 0 { (1, black) } else { (2, 128) };
            index += 1;
            let (columns, rows) = (width.div_ceil(step) as usize, height.div_ceil(step) as usize);
            let scale = [f64::from(width) / f64::from(step), f64::from(height) / f64::from(step)];
            let mut data = plane.data.to_vec();
            for polygon in masks {
                fill_touched(polygon, scale, [columns, rows], |row, from, to| {
                    data[row * plane.stride + from..row * plane.stride + to].fill(fill);
                });
            }
            Plane { data: Bytes::from(data), stride: plane.stride }
        });
        Self::new(width, height, planes, matrix, full_range)
            .expect("planes of the same size hold the same picture")
    }
}

/// Calls `fill(row, from, to)` for runs of samples of a `columns x rows` plane that together are all those that the
/// polygon touches: what an edge runs through, and what lies inside on the middle of a row.
fn fill_touched(
    polygon: &Polygon,
    [width, height]: [f64; 2],
    [columns, rows]: [usize; 2],
    mut fill: impl FnMut(usize, usize, usize),
) {
    let points = polygon.points();
    let at = |p: &NormPoint| [f64::from(p.x) * width, f64::from(p.y) * height];
    let edges: Vec<_> =
        points.iter().zip(points.iter().cycle().skip(1)).map(|(a, b)| [at(a), at(b)]).collect();
    let low = |v: f64| (v.floor().max(0.0) as usize).min(columns - 1);
    let span = edges.iter().fold([f64::MAX, f64::MIN], |[lo, hi], [a, _]| [lo.min(a[1]), hi.max(a[1])]);
    for row in span[0].floor().max(0.0) as usize..rows.min(span[1].floor() as usize + 1) {
        let [top, middle] = [row as f64, row as f64 + 0.5];
        let mut crossings = vec![];
        for [a, b] in &edges {
            if let Some([from, to]) = within(*a, *b, top, top + 1.0) {
                fill(row, low(from), low(to) + 1);
            }
            if (a[1] > middle) != (b[1] > middle) {
                crossings.push(a[0] + (b[0] - a[0]) * (middle - a[1]) / (b[1] - a[1]));
            }
        }
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            fill(row, low(pair[0]), low(pair[1]) + 1);
        }
    }
}

/// Between which columns the edge from `a` to `b` runs while it is within the rows `top..=bottom`.
fn within(a: [f64; 2], b: [f64; 2], top: f64, bottom: f64) -> Option<[f64; 2]> {
    let [a, b] = if a[1] <= b[1] { [a, b] } else { [b, a] };
    if a[1] > bottom || b[1] < top {
        return None;
    }
    let x = |y: f64| {
        if b[1] > a[1] { a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) } else { a[0] }
    };
    let ends = if b[1] > a[1] { [x(a[1].max(top)), x(b[1].min(bottom))] } else { [a[0], b[0]] };
    Some([ends[0].min(ends[1]), ends[0].max(ends[1])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    fn picture(width: u32, height: u32, luma: u8) -> HostPicture {
        let half = (width.div_ceil(2) * height.div_ceil(2)) as usize;
        let plane =
            |bytes, fill, stride: u32| Plane { data: vec![fill; bytes].into(), stride: stride as usize };
        let planes = [
            plane((width * height) as usize, luma, width),
            plane(half, 90, width.div_ceil(2)),
            plane(half, 170, width.div_ceil(2)),
        ];
        HostPicture::new(width, height, planes, Matrix::Bt601, false).unwrap()
    }

    fn polygon(points: &[(f32, f32)]) -> Polygon {
        Polygon::new(points.iter().map(|&(x, y)| NormPoint { x, y }).collect()).unwrap()
    }

    fn rows(picture: &HostPicture, plane: usize) -> Vec<String> {
        let plane = &picture.planes()[plane];
        let dark = |v: &u8| if *v == 16 || *v == 128 { '#' } else { '.' };
        plane.data.chunks(plane.stride).map(|row| row.iter().map(dark).collect()).collect()
    }

    #[test]
    fn a_pixel_that_is_only_touched_is_black_too() {
        // From 2.4 to 5.2 across, from 1.1 to 2.9 down: columns 2..=5, rows 1..=2.
        let mask = polygon(&[(0.24, 0.11), (0.52, 0.11), (0.52, 0.29), (0.24, 0.29)]);
        let masked = picture(10, 10, 200).masked(&[mask]);
        let luma = rows(&masked, 0);
        assert_eq!(luma[0], "..........");
        assert_eq!((&*luma[1], &*luma[2]), ("..####....", "..####...."));
        assert_eq!(luma[3], "..........");
        assert_eq!(rows(&masked, 1)[..2], [".##..", ".##.."], "chroma that belongs to such a pixel");
        assert_eq!(rows(&masked, 2)[2], ".....");
    }

    #[test]
    fn a_concave_mask_leaves_its_notch() {
        let mask = polygon(&[
            (0.0, 0.0),
            (1.0, 0.0),
            (1.0, 0.99),
            (0.71, 0.99),
            (0.71, 0.29),
            (0.29, 0.29),
            (0.29, 0.99),
            (0.0, 0.99),
        ]);
        let luma = rows(&picture(10, 10, 200).masked(&[mask]), 0);
        assert_eq!((&*luma[2], &*luma[5]), ("##########", "###....###"));
    }

    #[test]
    fn a_sliver_thinner_than_a_pixel_hides_what_it_runs_through() {
        let mask = polygon(&[(0.0, 0.0), (1.0, 0.98), (1.0, 1.0)]);
        let luma = rows(&picture(10, 10, 200).masked(&[mask]), 0);
        assert!((0..10).all(|i| luma[i].as_bytes()[i] == b'#'), "{luma:?}");
    }

    #[test]
    fn nothing_that_was_under_a_mask_is_left() {
        let whole = [Polygon::whole()];
        for (width, height) in [(33, 17), (1, 1), (64, 48)] {
            let (a, b) =
                (picture(width, height, 30).masked(&whole), picture(width, height, 220).masked(&whole));
            for (a, b) in a.planes().iter().zip(b.planes()) {
                assert_eq!(a.data, b.data);
                assert!(a.data.iter().all(|v| *v == a.data[0]));
            }
        }
        let luma = crate::Luma::of(&picture(64, 48, 220).masked(&whole));
        assert_eq!(
            format!("{luma:?}"),
            format!("{:?}", crate::Luma::of(&picture(64, 48, 30).masked(&whole)))
        );
    }

    #[test]
    fn without_masks_nothing_is_copied() {
        let picture = picture(8, 8, 9);
        let at = picture.planes()[0].data.as_ptr();
        assert_eq!(picture.masked(&[]).planes()[0].data.as_ptr(), at);
    }
}
