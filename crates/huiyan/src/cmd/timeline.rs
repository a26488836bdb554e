//! A replay as one picture: a row for each zone and situation, time to the right; how much was seen there, how far the
//! clocks were, and what was told.

use std::path::Path;

use embedded_graphics::pixelcolor::Rgb888;
use fleet::Camera;
use flow::{Detections, Event, EventId, Phase, Polygon, Timestamp};
use scene::Scene;

use crate::UserError;
use crate::annotate::Canvas;

const WIDTH: i32 = 1_280;
/// Left of the rows: their names.
const NAMES: i32 = 230;
const RIGHT: i32 = 20;
const ROW: i32 = 76;
const TOP: i32 = 34;
const AXIS: i32 = 40;

const INK: Rgb888 = Rgb888::new(30, 34, 40);
const PALE: Rgb888 = Rgb888::new(236, 239, 243);
const SEEN: Rgb888 = Rgb888::new(168, 178, 190);
const CLOCK: Rgb888 = Rgb888::new(20, 105, 218);
const TOLD: Rgb888 = Rgb888::new(214, 60, 46);

/// What a replay showed, look by look.
pub struct Timeline {
    title: String,
    rows: Vec<Row>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

struct Row {
    zone: String,
    situation: String,
    polygon: Polygon,
    looks: Vec<Reading>,
    told: Vec<Told>,
}

/// One look at one zone.
struct Reading {
    at: Timestamp,
    /// Things with their foot in the zone.
    things: usize,
    /// The furthest clock, as a share of what it must reach; may be more.
    clock: f32,
}

struct Told {
    event: EventId,
    first_seen: Timestamp,
    began: Timestamp,
    until: Timestamp,
    ended: bool,
}

impl Timeline {
    /// Of a camera, nothing seen yet.
    pub fn new(camera: &Camera) -> Self {
        let rows = camera.zones.iter().flat_map(|zone| {
            zone.rules.iter().map(|rule| Row {
                zone: zone.id.to_string(),
                situation: rule.situation.to_string(),
                polygon: zone.polygon.clone(),
                looks: Vec::new(),
                told: Vec::new(),
            })
        });
        Self { title: camera.id.to_string(), rows: rows.collect(), from: None, to: None }
    }

    /// Takes a look, its events, and the scene after it.
    pub fn look(&mut self, seen: &Detections, events: &[Event], scene: &Scene) {
        let at = seen.captured;
        self.from.get_or_insert(at);
        self.to = Some(at);
        let clocks = scene.clocks();
        for row in &mut self.rows {
            let things = seen.list.iter().filter(|d| row.polygon.contains(d.bbox.foot())).count();
            let mine = clocks
                .iter()
                .filter(|c| c.zone.as_str() == row.zone && c.situation.as_str() == row.situation);
            let share = mine.map(|c| c.ran.as_secs_f32() / c.at_least.as_secs_f32().max(0.001));
            row.looks.push(Reading { at, things, clock: share.fold(0.0, f32::max) });
            for event in events {
                if event.key.zone.as_str() == row.zone && event.key.situation.as_str() == row.situation {
                    row.tell(event, at);
                }
            }
            // What is open goes on until it is said to be over.
            row.told.iter_mut().filter(|told| !told.ended).for_each(|told| told.until = at);
        }
    }

    /// Writes the picture, a PNG.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let canvas = self.draw()?;
        canvas.png(path).map_err(|error| UserError(format!("{}: {error}", path.display())).into())
    }

    fn draw(&self) -> anyhow::Result<Canvas> {
        let height = TOP + ROW * self.rows.len() as i32 + AXIS;
        let white = vec![255; (WIDTH * height * 3) as usize];
        let mut canvas = Canvas::of_rgb(WIDTH as u32, height as u32, white)
            .ok_or_else(|| anyhow::anyhow!("a picture of {WIDTH}x{height} cannot be made"))?;
        let (Some(from), Some(to)) = (self.from, self.to) else {
            canvas.label(10, 10, &format!("{}: no look", self.title), INK);
            return Ok(canvas);
        };
        let seconds = to.duration_since(from).as_secs_f64().max(1.0);
        let scale = f64::from(WIDTH - NAMES - RIGHT) / seconds;
        let x = |at: Timestamp| NAMES + (at.duration_since(from).as_secs_f64() * scale) as i32;
        canvas.label(
            10,
            8,
            &format!("{}, {seconds:.0} s from {}", self.title, from.strftime("%F %T UTC")),
            INK,
        );
        canvas.label(WIDTH - 470, 8, "seen", SEEN);
        canvas.label(WIDTH - 420, 8, "clock, as a share of the dwell", CLOCK);
        canvas.label(WIDTH - 160, 8, "told", TOLD);
        for (number, row) in self.rows.iter().enumerate() {
            let top = TOP + ROW * number as i32;
            canvas.label(10, top + 16, &row.zone, INK);
            canvas.label(10, top + 34, &row.situation, INK);
            canvas.area((NAMES, top + 6), (WIDTH - RIGHT, top + ROW - 8), PALE);
            row.draw(&mut canvas, top, &x);
        }
        let base = TOP + ROW * self.rows.len() as i32;
        for second in ticks(seconds) {
            let at = NAMES + (second * scale) as i32;
            canvas.area((at, base - 2), (at + 1, base + 5), INK);
            canvas.label(at - 12, base + 10, &clock_text(second), INK);
        }
        Ok(canvas)
    }
}

impl Row {
    fn tell(&mut self, event: &Event, at: Timestamp) {
        let (until, ended) = match event.phase {
            Phase::Ended { at: gone } => (gone, true),
            Phase::Began | Phase::Updated => (at, false),
        };
        match self.told.iter_mut().find(|told| told.event == event.id) {
            Some(told) => (told.until, told.ended) = (until, ended),
            None => self.told.push(Told {
                event: event.id,
                first_seen: event.first_seen,
                began: event.began,
                until,
                ended,
            }),
        }
    }

    fn draw(&self, canvas: &mut Canvas, top: i32, x: &impl Fn(Timestamp) -> i32) {
        let (bottom, high) = (top + ROW - 8, ROW - 14);
        let most = self.looks.iter().map(|look| look.things).max().unwrap_or(0).max(1) as i32;
        for pair in self.looks.windows(2) {
            let (left, right) = (x(pair[0].at), x(pair[1].at).max(x(pair[0].at) + 1));
            let seen = high * pair[0].things as i32 / most * 2 / 5;
            canvas.area((left, bottom - seen), (right, bottom), SEEN);
        }
        for told in &self.told {
            canvas.area(
                (x(told.first_seen), top + 10),
                (x(told.until).max(x(told.first_seen) + 1), top + 12),
                TOLD,
            );
            canvas.area((x(told.began), top + 6), (x(told.until).max(x(told.began) + 2), top + 18), TOLD);
        }
        for pair in self.looks.windows(2) {
            let level = |share: f32| bottom - 1 - (share.min(1.0) * (high - 16) as f32) as i32;
            canvas.line((x(pair[0].at), level(pair[0].clock)), (x(pair[1].at), level(pair[1].clock)), CLOCK);
        }
    }
}

/// Seconds at which the axis is marked: about ten of them, at round times.
fn ticks(seconds: f64) -> impl Iterator<Item = f64> {
    let steps =
        [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 3_600.0, 7_200.0, 14_400.0, 86_400.0];
    let step = steps.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(seconds / 10.0);
    (0..).map(move |n| f64::from(n) * step).take_while(move |at| *at <= seconds)
}

fn clock_text(second: f64) -> String {
    let second = second as u64;
    match (second / 3_600, second / 60 % 60, second % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_round_times() {
        assert_eq!(ticks(139.0).collect::<Vec<_>>(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        assert!(ticks(86_400.0).count() <= 13);
        assert_eq!((clock_text(80.0), clock_text(7_260.0)), ("1:20".into(), "2h01".into()));
    }
}
