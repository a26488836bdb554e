//! Takes pictures of a street with things in it, and knows what is visible in them.

use std::collections::HashMap;
use std::sync::Arc;

use tiny_skia::Pixmap;

use super::backdrop;
use super::brush::{Brush, Rgb};
use super::develop::{Conditions, Light, Sensor, Weather, grain};
use super::layout::Layout;
use super::moment::{self, Corners, Moment, Sunlight};
use super::shadow;
use super::thing::{Class, Kind, Thing};
use super::view::V3;

/// Sprites that are kept; more are painted anew.
const KEPT: usize = 256;

/// Sprites larger than this are not painted: pixels.
const LARGEST: f32 = 4.0e6;

/// A picture and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green, blue; 3 bytes a pixel.
    pub rgb: Vec<u8>,
    /// The things with a class that are visible at all, in the order in which they were given.
    pub seen: Vec<Seen>,
}

/// A thing in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Which of the given things.
    pub thing: usize,
    /// What.
    pub class: Class,
    /// Left, top, right and bottom edge of what is visible of it, pixels; right and bottom lie outside it.
    pub bbox: [u32; 4],
    /// Visible share of its silhouette, 0..=1; what is outside the picture counts as hidden.
    pub visible: f32,
}

/// A thing as painted, before it is put into the picture.
struct Sprite {
    left: i32,
    top: i32,
    pixmap: Pixmap,
    /// Pixels of its silhouette.
    solid: u32,
}

/// Paints one street under one set of conditions.
pub struct Studio {
    layout: Layout,
    conditions: Conditions,
    width: u32,
    height: u32,
    backdrop: Pixmap,
    sensor: Sensor,
    sprites: HashMap<[u64; 4], Arc<Sprite>>,
    /// Which thing is seen at a pixel: its number + 1.
    owner: Vec<u16>,
    /// Where pixels lie on the ground; worked out once, where the light changes.
    corners: Option<Corners>,
}

/// A picture size that cannot be painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a street of {0}x{1} pixels: expected 64x64 to 4096x4096")]
pub struct SizeError(pub u32, pub u32);

impl Studio {
    /// Paints what never moves.
    pub fn new(layout: Layout, conditions: Conditions) -> Result<Self, SizeError> {
        let (width, height) = (layout.view.width as u32, layout.view.height as u32);
        let backdrop = if (64..=4096).contains(&width) && (64..=4096).contains(&height) {
            backdrop::paint(&layout, &conditions, width, height)
        } else {
            None
        };
        Ok(Self {
            backdrop: backdrop.ok_or(SizeError(width, height))?,
            sensor: Sensor::new(&conditions, width, height),
            sprites: HashMap::new(),
            owner: vec![0; (width * height) as usize],
            corners: None,
            layout,
            conditions,
            width,
            height,
        })
    }

    /// Takes a picture; `moment` decides its noise and raindrops.
    pub fn take(&mut self, things: &[Thing], moment: u64) -> Picture {
        self.take_at(things, &Moment::plain(moment))
    }

    /// Takes a picture under the circumstances of its moment. The boxes of a shaken picture are those of the still one.
    pub fn take_at(&mut self, things: &[Thing], moment: &Moment) -> Picture {
        let mut canvas = self.backdrop.clone();
        self.owner.fill(0);
        let view = self.layout.view;
        let mut order: Vec<(f32, usize)> =
            things.iter().enumerate().map(|(i, t)| (t.order(&view), i)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let sprites: Vec<Option<Arc<Sprite>>> = things.iter().map(|t| self.sprite(t)).collect();

        if moment.sky.is_some() && self.corners.is_none() {
            self.corners = Some(Corners::of(&view));
        }
        let sunlight = moment.sky.map(|sky| Sunlight::new(&self.layout, sky, things));
        if let (Some(sunlight), Some(corners)) = (&sunlight, &self.corners) {
            sunlight.fall(&mut canvas, corners);
        }
        let lights: Vec<f32> = match &sunlight {
            Some(light) => things.iter().map(|thing| light.at(thing.u, thing.s)).collect(),
            None => vec![1.0; things.len()],
        };
        for &(_, i) in &order {
            if sprites[i].is_some() {
                let thing = &things[i];
                let sun = moment.sky.map_or(self.layout.sun, |sky| sky.sun);
                // Under a cloud only what is right below a thing is darker.
                let shadow = self.conditions.shadow * (0.2 + 0.8 * lights[i]);
                let conditions = Conditions { shadow, ..self.conditions };
                shadow::cast(&mut canvas, (&view, sun), &conditions, thing);
            }
        }
        let lit =
            |i: usize| moment.beams && matches!(things[i].kind, Kind::Car(true)) && sprites[i].is_some();
        for &(_, i) in order.iter().filter(|(_, i)| lit(*i)) {
            moment::beam(&mut self.brush(&mut canvas), &things[i]);
        }
        if self.conditions.weather == Weather::Rain {
            for &(_, i) in &order {
                if let Some(sprite) = &sprites[i] {
                    self.mirror(&mut canvas, &things[i], sprite);
                }
            }
        }
        for &(_, i) in &order {
            if let Some(sprite) = &sprites[i] {
                let number = (i + 1).min(usize::from(u16::MAX)) as u16;
                self.put(&mut canvas, sprite, (number, moment::brightness(lights[i])));
            }
        }
        for &(_, i) in order.iter().filter(|(_, i)| lit(*i)) {
            moment::dazzle(&mut self.brush(&mut canvas), &things[i]);
        }
        let mut rng = fastrand::Rng::with_seed(moment.seed ^ self.layout.seed.rotate_left(32));
        if self.conditions.weather == Weather::Rain {
            self.rain(&mut canvas, &mut rng);
        }
        let seen = self.seen(things, &sprites);
        let rgb = self.sensor.expose(canvas.data(), &mut rng);
        let rgb = moment::shaken(rgb, self.width as usize, moment.shake);
        Picture { width: self.width, height: self.height, rgb, seen }
    }

    fn brush<'b>(&'b self, pixmap: &'b mut Pixmap) -> Brush<'b> {
        Brush { view: &self.layout.view, sun: self.layout.sun, pixmap, origin: (0.0, 0.0) }
    }

    fn sprite(&mut self, thing: &Thing) -> Option<Arc<Sprite>> {
        if !thing.still() {
            return self.paint(thing).map(Arc::new);
        }
        let key = key(thing);
        if let Some(sprite) = self.sprites.get(&key) {
            return Some(sprite.clone());
        }
        let sprite = Arc::new(self.paint(thing)?);
        if self.sprites.len() >= KEPT {
            self.sprites.clear();
        }
        self.sprites.insert(key, sprite.clone());
        Some(sprite)
    }

    fn paint(&self, thing: &Thing) -> Option<Sprite> {
        let view = &self.layout.view;
        let [x0, y0, x1, y1] = thing.extent(view)?;
        let outside = x1 < 0.0 || y1 < 0.0 || x0 > view.width || y0 > view.height;
        if outside || (x1 - x0) * (y1 - y0) > LARGEST {
            return None;
        }
        let (left, top) = (x0.floor(), y0.floor());
        let mut pixmap = Pixmap::new((x1 - left).ceil() as u32 + 1, (y1 - top).ceil() as u32 + 1)?;
        let mut brush = Brush { view, sun: self.layout.sun, pixmap: &mut pixmap, origin: (left, top) };
        thing.draw(&mut brush);

        let depth = view.depth(V3::new(thing.u, thing.s, 0.0));
        let grade = self.conditions.grade(&self.layout, thing.u, thing.s, depth);
        let (w, h) = (pixmap.width() as usize, pixmap.height() as f32);
        let mut solid = 0;
        for (i, pixel) in pixmap.data_mut().chunks_exact_mut(4).enumerate() {
            if pixel[3] == 0 {
                continue;
            }
            solid += u32::from(pixel[3] >= 128);
            // Darker towards the ground, and a little rough.
            let (x, y) = ((i % w) as i32, (i / w) as i32);
            let texture = 1.05 - 0.13 * (y as f32 / h) + 0.09 * (grain(x, y, thing.seed as u32) - 0.5);
            grade.apply(pixel, texture);
        }
        Some(Sprite { left: left as i32, top: top as i32, pixmap, solid })
    }

    /// The part of a sprite that lies in the picture: columns and rows of the sprite.
    fn inside(&self, left: i32, top: i32, w: u32, h: u32) -> Option<[usize; 4]> {
        let x0 = (-left).max(0);
        let y0 = (-top).max(0);
        let x1 = (self.width as i32 - left).min(w as i32);
        let y1 = (self.height as i32 - top).min(h as i32);
        (x0 < x1 && y0 < y1).then_some([x0 as usize, y0 as usize, x1 as usize, y1 as usize])
    }

    /// Puts a thing into the picture, under its number and in so much light.
    fn put(&mut self, canvas: &mut Pixmap, sprite: &Sprite, (number, light): (u16, f32)) {
        let (w, h) = (sprite.pixmap.width(), sprite.pixmap.height());
        let Some([x0, y0, x1, y1]) = self.inside(sprite.left, sprite.top, w, h) else { return };
        let source = sprite.pixmap.data();
        let target = canvas.data_mut();
        let dim = (light < 0.999).then_some((light * 256.0) as u32);
        for y in y0..y1 {
            let row = (y as i32 + sprite.top) as usize * self.width as usize;
            for x in x0..x1 {
                let from = (y * w as usize + x) * 4;
                let at = row + (x as i32 + sprite.left) as usize;
                let alpha = source[from + 3];
                if alpha == 0 {
                    continue;
                }
                let mut colour = [source[from], source[from + 1], source[from + 2]];
                if let Some(dim) = dim {
                    colour.iter_mut().for_each(|v| *v = ((u32::from(*v) * dim) >> 8) as u8);
                }
                over(&mut target[at * 4..at * 4 + 3], &colour, u32::from(alpha), 256);
                if alpha >= 128 {
                    self.owner[at] = number;
                }
            }
        }
    }

    /// A thing's faint image on the wet ground under it.
    fn mirror(&self, canvas: &mut Pixmap, thing: &Thing, sprite: &Sprite) {
        let view = &self.layout.view;
        let Some((_, foot)) = view.project(V3::new(thing.u, thing.s, 0.0)) else { return };
        let (w, h) = (sprite.pixmap.width(), sprite.pixmap.height());
        let top = (2.0 * foot) as i32 - sprite.top - h as i32;
        let Some([x0, y0, x1, y1]) = self.inside(sprite.left, top, w, h) else { return };
        let source = sprite.pixmap.data();
        let target = canvas.data_mut();
        for y in y0..y1 {
            let row = (y as i32 + top) as usize * self.width as usize;
            let strength = 80 * (h as usize - y) as u32 / h;
            for x in x0..x1 {
                let from = ((h as usize - 1 - y) * w as usize + x) * 4;
                let at = row + (x as i32 + sprite.left) as usize;
                let alpha = u32::from(source[from + 3]);
                over(&mut target[at * 4..at * 4 + 3], &source[from..from + 3], alpha, strength);
            }
        }
    }

    fn rain(&self, canvas: &mut Pixmap, rng: &mut fastrand::Rng) {
        let view = self.layout.view;
        let mut brush = Brush { view: &view, sun: self.layout.sun, pixmap: canvas, origin: (0.0, 0.0) };
        let lean = 0.08 + 0.1 * ((self.layout.seed % 7) as f32 - 3.0) / 3.0;
        let bright = if self.conditions.light == Light::Day { 0.85 } else { 0.55 };
        for _ in 0..110 {
            let (x, y) = (rng.f32() * view.width, rng.f32() * view.height);
            let near = 0.4 + rng.f32();
            let long = view.height * 0.05 * near;
            let wide = 0.5 + 0.5 * near * view.height / 720.0;
            let drop =
                [(x, y), (x + wide, y), (x + wide + lean * long, y + long), (x + lean * long, y + long)];
            brush.flat(&drop, Rgb(bright, bright, bright * 1.03), 0.16 + 0.14 * near);
        }
    }

    fn seen(&self, things: &[Thing], sprites: &[Option<Arc<Sprite>>]) -> Vec<Seen> {
        let mut found = vec![([u32::MAX, u32::MAX, 0, 0], 0_u32); things.len()];
        for (row, y) in self.owner.chunks_exact(self.width as usize).zip(0_u32..) {
            for (&number, x) in row.iter().zip(0_u32..) {
                if let Some((bbox, count)) = usize::from(number).checked_sub(1).and_then(|i| found.get_mut(i))
                {
                    *bbox = [bbox[0].min(x), bbox[1].min(y), bbox[2].max(x + 1), bbox[3].max(y + 1)];
                    *count += 1;
                }
            }
        }
        let all = found.into_iter().zip(things).zip(sprites).enumerate();
        all.filter_map(|(i, (((bbox, count), thing), sprite))| {
            let solid = sprite.as_ref()?.solid.max(1);
            let class = thing.class().filter(|_| count > 0)?;
            Some(Seen { thing: i, class, bbox, visible: (count as f32 / solid as f32).min(1.0) })
        })
        .collect()
    }
}

fn key(thing: &Thing) -> [u64; 4] {
    let kind = match thing.kind {
        Kind::Person(pose, raised) => {
            1 + 16 * u64::from(raised) + 32 * u64::from(pose == super::person::Pose::Sit)
        }
        Kind::Car(lit) => 2 + 16 * u64::from(lit),
        Kind::Tricycle => 3,
        Kind::Parasol => 4,
        Kind::Umbrella => 5,
        Kind::Pole(rim) => 6 + (u64::from(rim.to_bits()) << 8),
        Kind::Goods => 7,
        Kind::Heap => 8,
        Kind::Barrier => 9,
        Kind::Boxes => 10,
        Kind::Prop(prop) => 11 + 16 * prop as u64,
    };
    let pair = |a: f32, b: f32| (u64::from(a.to_bits()) << 32) | u64::from(b.to_bits());
    [kind, pair(thing.u, thing.s), pair(thing.heading, thing.lift), thing.seed]
}

/// A premultiplied colour over another, `strength` of 256.
fn over(target: &mut [u8], source: &[u8], alpha: u32, strength: u32) {
    let keep = 255 * 256 - alpha * strength;
    for (t, s) in target.iter_mut().zip(source) {
        *t = ((u32::from(*t) * keep / 255 + u32::from(*s) * strength) >> 8).min(255) as u8;
    }
}
