//! People.

use super::brush::{Brush, Rgb, between, pick};
use super::view::Stand;

/// What someone is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pose {
    /// Walking; the phase of the step in radians.
    Walk(f32),
    /// Standing.
    Stand,
    /// Sitting on something 0.4 m high.
    Sit,
}

struct Look {
    size: f32,
    broad: f32,
    skin: Rgb,
    hair: Rgb,
    top: Rgb,
    legs: Rgb,
    shoes: Rgb,
    sleeves: bool,
    skirt: bool,
    coat: bool,
    long_hair: bool,
    hat: Option<Rgb>,
    bag: Option<Rgb>,
}

fn clothes(rng: &mut fastrand::Rng) -> Rgb {
    match rng.u8(..10) {
        0..3 => Rgb::hsv(0.0, 0.0, between(rng, 0.1, 0.3)),
        3..5 => Rgb::hsv(0.6, between(rng, 0.1, 0.5), between(rng, 0.2, 0.5)),
        5..6 => Rgb::hsv(0.1, between(rng, 0.0, 0.25), between(rng, 0.7, 0.95)),
        _ => Rgb::hsv(rng.f32(), between(rng, 0.3, 0.85), between(rng, 0.4, 0.9)),
    }
}

fn look(seed: u64) -> Look {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let child = rng.f32() < 0.08;
    Look {
        size: if child { between(rng, 1.1, 1.4) } else { between(rng, 1.54, 1.84) },
        broad: between(rng, 0.88, 1.25),
        skin: Rgb(0.86, 0.66, 0.52).times(between(rng, 0.75, 1.08)),
        hair: if rng.f32() < 0.85 { Rgb(0.1, 0.08, 0.07) } else { Rgb(0.5, 0.48, 0.46) },
        top: clothes(rng),
        legs: clothes(rng).times(0.8),
        shoes: pick(rng, &[Rgb(0.1, 0.1, 0.1), Rgb(0.85, 0.85, 0.85), Rgb(0.4, 0.25, 0.15)]),
        sleeves: rng.f32() < 0.65,
        skirt: rng.f32() < 0.15,
        coat: rng.f32() < 0.2,
        long_hair: rng.f32() < 0.4,
        hat: (rng.f32() < 0.2).then(|| clothes(rng)),
        bag: (rng.f32() < 0.3).then(|| clothes(rng)),
    }
}

/// Height of someone, metres.
pub fn height(seed: u64) -> f32 {
    look(seed).size
}

/// Draws a person; `raised` holds a hand up, as for an umbrella.
pub fn draw(brush: &mut Brush<'_>, stand: &Stand, seed: u64, pose: Pose, raised: bool) {
    let look = look(seed);
    let Some((x0, y0)) = brush.view.project(stand.at) else { return };
    let k = brush.view.scale(brush.view.depth(stand.at)) * look.size;
    let away = stand.at.minus(brush.view.eye());
    let (side, front) = (stand.heading - away.u.atan2(away.s)).sin_cos();
    let drop = if pose == Pose::Sit { 0.25 } else { 0.0 };
    // Shares of the body height: x to the right, y up from the ground.
    let at = |x: f32, y: f32| (x0 + x * k, y0 - (y - drop) * k);
    let fig = Figure { k, side, front, look: &look };
    let phase = match pose {
        Pose::Walk(phase) => phase,
        _ => 0.0,
    };
    let step = if matches!(pose, Pose::Walk(_)) { phase.sin() } else { 0.12 };
    let near = if side >= 0.0 { 1.0 } else { -1.0 };
    arm(brush, &fig, &at, -near, -step, false);
    for leg in [-near, near] {
        if pose == Pose::Sit {
            sitting_leg(brush, &fig, &at, leg);
        } else {
            let lift = if matches!(pose, Pose::Walk(_)) { (leg * phase.cos()).max(0.0) * 0.045 } else { 0.0 };
            walking_leg(brush, &fig, &at, leg, leg * step, lift);
        }
    }
    torso(brush, &fig, &at);
    arm(brush, &fig, &at, near, step, raised);
    head(brush, &fig, &at);
}

struct Figure<'a> {
    k: f32,
    side: f32,
    front: f32,
    look: &'a Look,
}

type At<'a> = &'a dyn Fn(f32, f32) -> (f32, f32);

fn walking_leg(brush: &mut Brush<'_>, fig: &Figure<'_>, at: At<'_>, leg: f32, step: f32, lift: f32) {
    let Figure { k, side, front, look } = *fig;
    let hip_x = 0.045 * leg * front.abs() * look.broad;
    let foot_x = hip_x * 1.1 + step * 0.15 * side;
    let knee_x = hip_x + (0.6 * step * 0.15 + lift * 1.2) * side;
    let legs = if look.skirt { look.skin } else { look.legs };
    let shade = if leg * side < 0.0 { 0.78 } else { 1.0 };
    let knee = at(knee_x, 0.27 + lift * 0.4);
    let ankle = at(foot_x, 0.035 + lift);
    brush.limb(at(hip_x, 0.5), knee, 0.1 * k * look.broad, 0.075 * k, legs.times(shade));
    brush.limb(knee, ankle, 0.075 * k, 0.055 * k, legs.times(shade * 0.93));
    let toe = at(foot_x + 0.055 * side, 0.018 + lift * 0.8);
    brush.limb(at(foot_x - 0.015 * side, 0.022 + lift), toe, 0.045 * k, 0.04 * k, look.shoes);
}

fn sitting_leg(brush: &mut Brush<'_>, fig: &Figure<'_>, at: At<'_>, leg: f32) {
    let Figure { k, side, front, look } = *fig;
    let hip_x = 0.06 * leg * front.abs() * look.broad;
    let knee = at(hip_x * 1.3 + 0.2 * side, 0.49 + 0.04 * front);
    let foot = at(hip_x * 1.2 + 0.2 * side, 0.275);
    brush.limb(at(hip_x, 0.5), knee, 0.11 * k * look.broad, 0.085 * k, look.legs);
    brush.limb(knee, foot, 0.075 * k, 0.06 * k, look.legs.times(0.85));
    brush.limb(foot, at(hip_x + 0.24 * side, 0.265), 0.05 * k, 0.04 * k, look.shoes);
}

fn torso(brush: &mut Brush<'_>, fig: &Figure<'_>, at: At<'_>) {
    let Figure { side, front, look, .. } = *fig;
    let flat = front.abs();
    let shoulder = (0.075 + 0.05 * flat) * look.broad;
    let waist = (0.066 + 0.028 * flat) * look.broad;
    let (hem, hem_w) = if look.coat { (0.34, waist * 1.25) } else { (0.47, waist * 1.08) };
    if look.skirt {
        let skirt = [at(-waist, 0.54), at(waist, 0.54), at(waist * 1.7, 0.27), at(-waist * 1.7, 0.27)];
        brush.flat(&skirt, look.legs, 1.0);
    }
    if let Some(bag) = look.bag
        && front < 0.0
    {
        brush.flat(&[at(-0.07, 0.8), at(0.07, 0.8), at(0.07, 0.6), at(-0.07, 0.6)], bag, 1.0);
    }
    let outline = [
        at(-shoulder * 0.55, 0.845),
        at(shoulder * 0.55, 0.845),
        at(shoulder, 0.8),
        at(waist, 0.6),
        at(hem_w, hem),
        at(-hem_w, hem),
        at(-waist, 0.6),
        at(-shoulder, 0.8),
    ];
    brush.flat(&outline, look.top, 1.0);
    let dark =
        [at(0.15 * shoulder, 0.84), at(shoulder, 0.8), at(waist, 0.6), at(hem_w, hem), at(0.2 * waist, hem)];
    brush.flat(&dark, look.top.times(0.7), 0.6);
    if let Some(bag) = look.bag
        && front >= 0.0
    {
        // A backpack, seen from behind or from the side.
        let x = -0.1 * side;
        let w = 0.045 + 0.035 * flat;
        brush.flat(&[at(x - w, 0.81), at(x + w, 0.81), at(x + w, 0.58), at(x - w, 0.58)], bag, 1.0);
    }
}

fn arm(brush: &mut Brush<'_>, fig: &Figure<'_>, at: At<'_>, which: f32, step: f32, raised: bool) {
    let Figure { k, side, front, look } = *fig;
    let x = 0.118 * which * front.abs() * look.broad;
    let shade = if which * side < 0.0 { 0.72 } else { 0.92 };
    let sleeve = look.top.times(shade);
    let lower = if look.sleeves { sleeve } else { look.skin.times(shade) };
    let (elbow, hand) = if raised {
        (at(x + 0.09 * side, 0.66), at(x * 0.6 + 0.13 * side, 0.8))
    } else {
        let swing = -step * 0.11 * side;
        (at(x * 1.15 + 0.55 * swing, 0.66), at(x * 1.1 + swing + 0.02 * side, 0.52))
    };
    brush.limb(at(x, 0.805), elbow, 0.06 * k, 0.055 * k, sleeve);
    brush.limb(elbow, hand, 0.052 * k, 0.042 * k, lower);
    brush.oval(hand.0, hand.1, 0.024 * k, 0.024 * k, look.skin, 1.0);
}

fn head(brush: &mut Brush<'_>, fig: &Figure<'_>, at: At<'_>) {
    let Figure { k, side, front, look } = *fig;
    let x = 0.012 * side;
    brush.limb(at(0.0, 0.83), at(x, 0.88), 0.055 * k, 0.05 * k, look.skin.times(0.85));
    let (cx, cy) = at(x, 0.925);
    let (rx, ry) = (0.056 * k, 0.07 * k);
    if look.long_hair && front < 0.3 {
        brush.oval(cx, cy + 0.02 * ry, rx * 1.28, ry * 1.02, look.hair, 1.0);
    }
    brush.oval(cx, cy, rx, ry, look.skin, 1.0);
    // Hair covers the face from behind, the crown from the front.
    let back = if front > 0.0 { 0.12 + 0.2 * (1.0 - front) } else { 0.45 };
    brush.oval(cx - 0.35 * rx * side, cy - back * ry, rx * 1.03, ry * (1.05 - 0.4 * back), look.hair, 1.0);
    if look.long_hair && front >= 0.3 {
        brush.oval(cx, cy + 0.3 * ry, rx * 0.95, ry, look.hair, 1.0);
    }
    if let Some(hat) = look.hat {
        brush.oval(cx, cy - 0.55 * ry, rx * 1.12, ry * 0.5, hat, 1.0);
        brush.oval(cx + 0.5 * rx * side, cy - 0.3 * ry, rx * 1.15, ry * 0.2, hat.times(0.8), 1.0);
    }
}
