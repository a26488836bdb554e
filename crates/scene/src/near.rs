//! Which look deserves to be shown from near.
//!
//! A situation's `first` picture is of the look at which its rule held: just then somebody may walk before it, or it may
//! stand half outside. While it is young, every look is judged: are all its things whole (not cut by the picture's edge) and
//! in front, and how sharp is their part of the picture? Where a look is clearly better than what was sent, one more
//! `updated` goes out with that part of it. So nothing waits in memory: the picture is that of the look at hand.

use std::time::Duration;

use flow::{Detection, Event, EventObject, HostPicture, NormBox};

use crate::rules::Watch;

/// A look is better when it is sharper by this factor.
const BETTER: f32 = 1.3;
/// So often at most a better look of one situation is sent.
pub(crate) const MOST: u8 = 3;
/// A situation is judged for so long after it began: what has not been seen well by then will not be.
pub(crate) const YOUNG: Duration = Duration::from_secs(600);
/// A thing this near to the picture's edge, in shares of it, may go on behind it.
const EDGE: f32 = 0.004;
/// A thing is in front while no other covers more than this share of it.
const COVERED: f32 = 0.1;
/// The part that is shown is larger than the things by this share of their size on each side: what stands around tells where.
const MARGIN: f32 = 0.25;
/// Evidence is scaled down to so many columns; a part of a picture that is much wider shows more than the whole.
const SCALED_TO: u32 = 1_280;
/// Samples along each side of the part, at most, of which the sharpness is measured.
const SAMPLES: usize = 128;

/// How well a situation's things are seen in a look, and the part of the picture that shows them; `None`: not whole.
pub(crate) fn judge(
    objects: &[EventObject],
    seen: &[Detection],
    picture: &HostPicture,
) -> Option<(f32, NormBox)> {
    let first = objects.first()?.bbox;
    let around = objects.iter().fold(first.to_array(), |a, object| {
        let b = object.bbox.to_array();
        [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
    });
    let [x0, y0, x1, y1] = around;
    if x0 < EDGE || y0 < EDGE || x1 > 1.0 - EDGE || y1 > 1.0 - EDGE {
        return None;
    }
    let own = |other: &Detection| objects.iter().any(|object| object.bbox == other.bbox);
    // What has its foot lower in the picture stands nearer to the camera.
    let covers = |object: &EventObject, other: &Detection| {
        other.bbox.y1() > object.bbox.y1()
            && other.bbox.intersection(&object.bbox) > COVERED * object.bbox.area()
    };
    let others = || seen.iter().filter(|other| !own(other));
    if objects.iter().any(|object| others().any(|other| covers(object, other))) {
        return None;
    }
    let around = NormBox::clamped(x0, y0, x1, y1)?;
    let (w, h) = (around.width() * MARGIN, around.height() * MARGIN);
    Some((sharpness(picture, &around), NormBox::clamped(x0 - w, y0 - h, x1 + w, y1 + h)?))
}

/// What `first` already shows of a situation that begins: the same, where its picture is not scaled down by much.
pub(crate) fn of_first(quality: Option<f32>, picture: &HostPicture) -> f32 {
    if picture.width() > SCALED_TO + SCALED_TO / 4 { 0.0 } else { quality.unwrap_or(0.0) }
}

/// Whether a look of this quality is clearly better than what was sent.
pub(crate) fn is_better(quality: f32, sent: f32) -> bool {
    quality > 0.0 && quality >= sent * BETTER
}

/// Energy of the Laplacian over a part of the picture, against its brightness (Pech-Pacheco et al.: "Diatom autofocusing in
/// brightfield microscopy", ICPR 2000, measure by its variance). Of luma at the picture's own scale, on some of the pixels.
fn sharpness(picture: &HostPicture, part: &NormBox) -> f32 {
    let plane = &picture.planes()[0];
    let pixels = |from: f32, to: f32, size: u32| {
        let last = (size as usize).saturating_sub(2);
        let first = ((from * size as f32) as usize).max(1);
        (first, ((to * size as f32) as usize).min(last))
    };
    let (left, right) = pixels(part.x0(), part.x1(), picture.width());
    let (top, bottom) = pixels(part.y0(), part.y1(), picture.height());
    if left >= right || top >= bottom {
        return 0.0;
    }
    let (across, down) = ((right - left).div_ceil(SAMPLES).max(1), (bottom - top).div_ceil(SAMPLES).max(1));
    let (mut energy, mut light, mut count) = (0.0f64, 0.0f64, 0.0f64);
    for y in (top..bottom).step_by(down) {
        let row = |y: usize| &plane.data[y * plane.stride..];
        let (above, here, below) = (row(y - 1), row(y), row(y + 1));
        for x in (left..right).step_by(across) {
            let around = [above[x], below[x], here[x - 1], here[x + 1]].map(i32::from).iter().sum::<i32>();
            let laplacian = f64::from(4 * i32::from(here[x]) - around);
            energy += laplacian * laplacian;
            light += f64::from(here[x]);
            count += 1.0;
        }
    }
    let mean = light / count + 16.0;
    (energy / count / (mean * mean)) as f32
}

impl crate::Scene {
    /// Whether there is a young situation for which [`near`](Self::near) may find a better look: only then it needs the
    /// picture in main memory.
    pub fn wants_near(&self) -> bool {
        self.watches_shown().any(|watch| watch.stories().any(|story| story.may_be_shown_better()))
    }

    /// Takes the picture of the look just taken, its own pixels: an `updated` for each open situation that it shows clearly
    /// better than any picture sent before ([`Event::near`] says which part of it). Call it after
    /// [`look`](Self::look) with an inferred look, and send its events after that one's; unless called, no situation is
    /// shown from near.
    pub fn near(&mut self, look: &flow::Detections, picture: &HostPicture) -> Vec<Event> {
        let mut events = Vec::new();
        if look.basis != flow::Basis::Inferred {
            return events;
        }
        for watch in self.watches_shown_mut() {
            let Watch { rule, state, .. } = watch;
            for story in state.stories_mut() {
                if !story.is_seen_in(look) || !story.may_be_shown_better() {
                    continue;
                }
                let judged = judge(story.objects(), &look.list, picture);
                events.extend(story.show_near(rule, judged, picture, look));
            }
        }
        self.place_shown(&mut events);
        events
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flow::{ClassName, Matrix, Plane, Score, Timestamp};

    use super::*;

    /// 320 by 240, every pixel a function of its place.
    fn picture(sample: impl Fn(usize, usize) -> u8) -> HostPicture {
        let luma: Vec<u8> = (0..320 * 240).map(|at| sample(at % 320, at / 320)).collect();
        let chroma = || Plane { data: Bytes::from(vec![128; 160 * 120]), stride: 160 };
        let luma = Plane { data: luma.into(), stride: 320 };
        HostPicture::new(320, 240, [luma, chroma(), chroma()], Matrix::Bt601, false).unwrap()
    }

    fn thing(x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
        let bbox = NormBox::new(x0, y0, x1, y1).unwrap();
        Detection { class: ClassName::new("car"), score: Score::new(0.8).unwrap(), bbox }
    }

    fn object(of: &Detection) -> EventObject {
        EventObject {
            class: of.class.clone(),
            score: of.score,
            bbox: of.bbox,
            track: 1,
            first_seen: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_sharp_look_beats_a_blurred_one_in_any_light() {
        let stripes = |x: usize, _: usize| if (x / 8).is_multiple_of(2) { 60 } else { 160 };
        // The same through a lens that smears over eight pixels.
        let smeared =
            |x: usize, y: usize| ((0..8).map(|dx| u32::from(stripes(x + dx, y))).sum::<u32>() / 8) as u8;
        let car = thing(0.2, 0.2, 0.6, 0.8);
        let of = |picture: &HostPicture| judge(&[object(&car)], std::slice::from_ref(&car), picture).unwrap();
        let (sharp, part) = of(&picture(stripes));
        let (blurred, _) = of(&picture(smeared));
        assert!(is_better(sharp, blurred) && !is_better(blurred, sharp), "{sharp} {blurred}");
        let dusk = of(&picture(|x, y| stripes(x, y) / 2)).0;
        assert!((0.4..1.1).contains(&(dusk / sharp)), "{dusk} {sharp}");
        assert_eq!(part.to_array().map(|v| (v * 100.0).round()), [10.0, 5.0, 70.0, 95.0]);
        // The rest of the picture does not count.
        let elsewhere =
            picture(
                |x, y| if (60..200).contains(&x) && (40..200).contains(&y) { 100 } else { stripes(x, y) },
            );
        assert!(of(&elsewhere).0 < blurred);
    }

    #[test]
    fn what_is_cut_or_covered_is_not_whole() {
        let noise = picture(|x, y| (x * 7 + y * 13) as u8);
        let whole = |car: &Detection, others: &[Detection]| {
            let seen: Vec<_> = std::iter::once(car).chain(others).cloned().collect();
            judge(&[object(car)], &seen, &noise).is_some()
        };
        let car = thing(0.3, 0.3, 0.6, 0.6);
        assert!(whole(&car, &[]));
        assert!(
            whole(&car, &[thing(0.7, 0.3, 0.9, 0.7), thing(0.35, 0.2, 0.55, 0.5)]),
            "beside it and behind it"
        );
        assert!(!whole(&car, &[thing(0.4, 0.4, 0.5, 0.8)]), "before it");
        assert!(!whole(&thing(0.0, 0.3, 0.3, 0.6), &[]));
        assert!(!whole(&thing(0.3, 0.7, 0.6, 1.0), &[]));
        // Things of one situation do not cover each other.
        let (stall, vendor) = (thing(0.3, 0.3, 0.6, 0.6), thing(0.4, 0.4, 0.5, 0.7));
        assert!(judge(&[object(&stall), object(&vendor)], &[stall, vendor], &noise).is_some());
    }
}
