//! Pictures that are much larger than their model, looked at in overlapping tiles and as a whole.
//!
//! A tile is a view of the picture's planes: nothing is copied. What the model saw in the tiles is put together in the
//! picture's own coordinates. A thing that lies across a seam is seen whole by the tile whose overlap holds it, and cut
//! by its neighbours: the cut boxes go. A thing larger than the overlap is cut in every tile: the look at the whole
//! picture sees it, and where that does not, its pieces are joined.

use std::sync::Arc;

use fleet::Tiles;
use flow::{CameraId, Detection, Detections, Frame, HostPicture, Luma, NormBox, Plane};

use crate::detector::Runner;
use crate::{LookError, Work};

/// A box that ends this near to its tile's edge, in pixels of the picture, may go on beyond it.
const EDGE: f32 = 3.0;
/// A box that lies inside a better one by this share of its area is a part of it.
const PART_OF: f32 = 0.6;
/// A thing seen in two looks has boxes that overlap by more than this IoU.
const COARSE_IOU: f32 = 0.3;
/// Two pieces belong together if they share this much of the side along the seam.
const ALONG: f32 = 0.6;
/// More tiles than this are not looked at: 16,384 x 16,384 pixels in tiles of 640.
const MAX_TILES: usize = 1_024;

/// A part of a picture, in pixels. Left and top are even, so that chroma can be cut, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// Where tiles begin along one side: evenly spread, with at least the overlap asked for; the last one ends at the end.
fn starts(side: u32, tile: u32, overlap: f32) -> Vec<u32> {
    if tile >= side {
        return vec![0];
    }
    let step = ((tile as f32 * (1.0 - overlap)) as u32).max(1);
    let gaps = (side - tile).div_ceil(step);
    (0..=gaps).map(|i| ((u64::from(side - tile) * u64::from(i) / u64::from(gaps)) as u32) & !1).collect()
}

/// The tiles of a picture; none where one would be the whole.
fn cut((width, height): (u32, u32), tiles: &Tiles, input: (u32, u32)) -> Vec<Region> {
    let wide = tiles.size.unwrap_or(input.0).min(width);
    let high = (u64::from(tiles.size.unwrap_or(input.0)) * u64::from(input.1) / u64::from(input.0)) as u32;
    let high = high.clamp(1, height);
    if (wide, high) == (width, height) {
        return Vec::new();
    }
    let columns = starts(width, wide, tiles.overlap);
    let rows = starts(height, high, tiles.overlap);
    let region = |(left, top)| {
        // An even start may leave the last pixel over: the last tile reaches to the end.
        let (wide, high) = (wide.max(2).next_multiple_of(2), high.max(2).next_multiple_of(2));
        let last = (left + wide + 1 >= width, top + high + 1 >= height);
        Region {
            left,
            top,
            width: if last.0 { width - left } else { wide },
            height: if last.1 { height - top } else { high },
        }
    };
    rows.iter()
        .flat_map(|top| columns.iter().map(move |left| (*left, *top)))
        .map(region)
        .take(MAX_TILES)
        .collect()
}

/// A view of a part of the picture, as a frame of its own.
pub(crate) fn view(frame: &Frame, picture: &HostPicture, region: Region) -> Option<Frame> {
    let mut planes = Vec::with_capacity(3);
    for (index, plane) in picture.planes().iter().enumerate() {
        let shift = u32::from(index > 0);
        let start = (region.top >> shift) as usize * plane.stride + (region.left >> shift) as usize;
        let rows = region.height.div_ceil(1 << shift) as usize;
        let end = start + plane.stride * (rows - 1) + region.width.div_ceil(1 << shift) as usize;
        planes.push(Plane { data: plane.data.slice(start..end), stride: plane.stride });
    }
    let planes = planes.try_into().ok()?;
    let picture =
        HostPicture::new(region.width, region.height, planes, picture.matrix, picture.full_range).ok()?;
    // Nobody asks what has changed in a tile.
    let luma = Luma::from_cells(1, 1, vec![0])?;
    Some(Frame::with_luma(frame.id.clone(), frame.captured, picture, luma))
}

/// Something seen, and where the seams are that cut it.
#[derive(Debug, Clone)]
struct Piece {
    detection: Detection,
    /// Left, top, right, bottom: the box ends at a seam.
    cut: [bool; 4],
    /// Which look saw it: 0 for the whole picture, then the tiles.
    source: usize,
}

impl Piece {
    fn is_cut(&self) -> bool {
        self.cut.contains(&true)
    }

    /// From a tile's coordinates to the picture's.
    fn from_tile(
        detection: &Detection,
        (source, region): (usize, Region),
        (width, height): (u32, u32),
    ) -> Option<Self> {
        let (w, h) = (region.width as f32, region.height as f32);
        let b = &detection.bbox;
        let [x0, y0, x1, y1] = [b.x0() * w, b.y0() * h, b.x1() * w, b.y1() * h];
        let (left, top) = (region.left as f32, region.top as f32);
        let cut = [
            region.left > 0 && x0 < EDGE,
            region.top > 0 && y0 < EDGE,
            region.left + region.width < width && x1 > w - EDGE,
            region.top + region.height < height && y1 > h - EDGE,
        ];
        let (width, height) = (width as f32, height as f32);
        let bbox = NormBox::clamped(
            (left + x0) / width,
            (top + y0) / height,
            (left + x1) / width,
            (top + y1) / height,
        )?;
        Some(Self { detection: Detection { bbox, ..detection.clone() }, cut, source })
    }

    /// Whether the two are pieces of one thing, cut by a seam: each goes on where the other lies.
    fn continues(&self, other: &Self) -> bool {
        let (a, b) = (&self.detection.bbox, &other.detection.bbox);
        let shared = |a0: f32, a1: f32, b0: f32, b1: f32| {
            (a1.min(b1) - a0.max(b0)) / (a1 - a0).min(b1 - b0).max(f32::MIN_POSITIVE)
        };
        let rows = shared(a.y0(), a.y1(), b.y0(), b.y1());
        let columns = shared(a.x0(), a.x1(), b.x0(), b.x1());
        // One ends at a seam that the other crosses from its own side.
        let sideways = (self.cut[2] && other.cut[0]) || (self.cut[0] && other.cut[2]);
        let upright = (self.cut[3] && other.cut[1]) || (self.cut[1] && other.cut[3]);
        (sideways && rows >= ALONG && columns > 0.0) || (upright && columns >= ALONG && rows > 0.0)
    }

    /// Both as one.
    fn join(&mut self, other: &Self) {
        let (a, b) = (&self.detection.bbox, &other.detection.bbox);
        let union =
            NormBox::clamped(a.x0().min(b.x0()), a.y0().min(b.y0()), a.x1().max(b.x1()), a.y1().max(b.y1()));
        // The side that reaches further decides whether it still ends at a seam.
        let further = [b.x0() < a.x0(), b.y0() < a.y0(), b.x1() > a.x1(), b.y1() > a.y1()];
        for (side, further) in further.into_iter().enumerate() {
            if further {
                self.cut[side] = other.cut[side];
            }
        }
        if let Some(union) = union {
            self.detection.bbox = union;
        }
        if other.detection.score.get() > self.detection.score.get() {
            self.detection.score = other.detection.score;
        }
    }
}

/// Puts together what was seen in the tiles and in the whole picture: each thing once, best first.
fn merge(mut pieces: Vec<Piece>, nms_iou: f32) -> Vec<Detection> {
    // What is whole before what is cut, then by score.
    pieces.sort_by(|a, b| {
        a.is_cut().cmp(&b.is_cut()).then(b.detection.score.get().total_cmp(&a.detection.score.get()))
    });
    let mut kept: Vec<Piece> = Vec::new();
    'next: for piece in pieces {
        let bbox = piece.detection.bbox;
        for other in kept.iter_mut().filter(|k| k.detection.class == piece.detection.class) {
            let overlap = other.detection.bbox.intersection(&bbox);
            let part = overlap / bbox.area().max(f32::MIN_POSITIVE);
            // Within a look doubles are gone already; boxes of different looks agree less well.
            let limit = if other.source == piece.source { nms_iou } else { nms_iou.min(COARSE_IOU) };
            let same = other.detection.bbox.iou(&bbox) > limit;
            // Only cut boxes are parts of something: a person in front of a car is no part of it.
            if same || (piece.is_cut() && part >= PART_OF) {
                continue 'next;
            }
            if piece.is_cut() && other.is_cut() && other.continues(&piece) {
                other.join(&piece);
                continue 'next;
            }
        }
        kept.push(piece);
    }
    // What was joined may now hold pieces that came before it.
    let mut list: Vec<Piece> = Vec::with_capacity(kept.len());
    kept.sort_by(|a, b| b.detection.bbox.area().total_cmp(&a.detection.bbox.area()));
    for piece in kept {
        let bbox = piece.detection.bbox;
        let inside = |other: &Piece| {
            other.detection.class == piece.detection.class
                && other.detection.bbox.intersection(&bbox) >= PART_OF * bbox.area()
        };
        if !(piece.is_cut() && list.iter().any(inside)) {
            list.push(piece);
        }
    }
    list.sort_by(|a, b| b.detection.score.get().total_cmp(&a.detection.score.get()));
    list.into_iter().map(|piece| piece.detection).collect()
}

/// Says how a camera's pictures are cut; `None`: they are not.
pub type TilesOf = Arc<dyn Fn(&CameraId) -> Option<Arc<Tiles>> + Send + Sync>;

/// A runner that looks at the pictures of some cameras in tiles.
pub struct Tiled<R> {
    inner: R,
    /// Size of the model's input.
    input: (u32, u32),
    nms_iou: f32,
    /// Pictures that the inner runner is given at once at most.
    batch: usize,
    tiles_of: TilesOf,
}

impl<R: Runner> Tiled<R> {
    /// Around a runner whose model takes pictures of `input` (width, height) and calls boxes that overlap by more than
    /// `nms_iou` one thing; it is given `batch` tiles at once at most.
    pub fn new(inner: R, input: (u32, u32), nms_iou: f32, batch: usize, tiles_of: TilesOf) -> Self {
        Self { inner, input, nms_iou, batch: batch.max(1), tiles_of }
    }

    /// Adds what the tiles show to what was seen in the whole picture.
    fn add_tiles(&mut self, frame: &Frame, tiles: &Tiles, seen: &mut Detections) -> Result<(), LookError> {
        let picture = &*frame.pixels.on_host()?;
        let size = (picture.width(), picture.height());
        let whole = seen.list.drain(..).map(|detection| Piece { detection, cut: [false; 4], source: 0 });
        let mut pieces: Vec<Piece> = whole.collect();
        let regions: Vec<(usize, Region)> = (1..).zip(cut(size, tiles, self.input)).collect();
        for regions in regions.chunks(self.batch) {
            let view = |region: &(usize, Region)| Some((*region, view(frame, picture, region.1)?));
            let views: Vec<((usize, Region), Frame)> = regions.iter().filter_map(view).collect();
            let looks = self.inner.look(&views.iter().map(|(_, view)| view).collect::<Vec<_>>())?;
            for ((region, _), look) in views.iter().zip(looks) {
                pieces.extend(look.list.iter().filter_map(|d| Piece::from_tile(d, *region, size)));
            }
        }
        let small = |d: &Detection| {
            tiles.smallest.get(&d.class).is_some_and(|least| d.bbox.height() * (size.1 as f32) < *least)
        };
        seen.list = merge(pieces, self.nms_iou).into_iter().filter(|d| !small(d)).collect();
        Ok(())
    }
}

impl<R: Runner> Runner for Tiled<R> {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        let mut looks = self.inner.look(frames)?;
        for (frame, seen) in frames.iter().zip(&mut looks) {
            if let Some(tiles) = (self.tiles_of)(&frame.id.camera) {
                self.add_tiles(frame, &tiles, seen)?;
            }
        }
        Ok(looks)
    }

    fn take_work(&mut self) -> Work {
        self.inner.take_work()
    }
}

#[cfg(test)]
mod tests;
