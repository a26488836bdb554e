//! `huiyan eval --fit-confidence`: what the confidence that rules state is worth, learned from events whose truth is known.
//!
//! Isotonic regression (pool adjacent violators: Ayer and others, 1955) on groups of events, each with one true and one
//! false event more than there were (Laplace's rule of succession): what is stated higher is never worth less, little data
//! say little, and nothing is ever certain.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use fleet::{Calibration, ModelCard};

use super::Outcome;
use crate::UserError;

/// Events of one group before groups are pooled.
const GROUP: usize = 10;
/// What is stated is told apart no finer than this.
const FINEST: f64 = 0.005;

/// Events of about the same stated confidence.
#[derive(Debug, Clone, Copy)]
struct Pool {
    events: usize,
    right: usize,
    stated: f64,
}

impl Pool {
    fn join(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            right: self.right + other.right,
            stated: self.stated + other.stated,
        }
    }

    /// Their mean stated confidence.
    fn x(&self) -> f64 {
        self.stated / self.events as f64
    }

    /// What it is worth.
    fn y(&self) -> f64 {
        (self.right as f64 + 1.0) / (self.events as f64 + 2.0)
    }
}

/// Stated and observed, both rising; empty without statements.
fn fit(statements: impl Iterator<Item = (f64, bool)>) -> Vec<(f64, f64)> {
    let mut statements: Vec<_> = statements.collect();
    statements.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut pools: Vec<Pool> = Vec::new();
    let groups = statements.len().div_ceil(GROUP).max(1);
    for group in statements.chunks(statements.len().div_ceil(groups).max(1)) {
        let mut pool = Pool {
            events: group.len(),
            right: group.iter().filter(|(_, right)| *right).count(),
            stated: group.iter().map(|(stated, _)| stated).sum(),
        };
        while let Some(before) =
            pools.pop_if(|before| before.y() >= pool.y() || pool.x() - before.x() < FINEST)
        {
            pool = before.join(pool);
        }
        pools.push(pool);
    }
    pools.iter().map(|pool| (pool.x(), pool.y())).collect()
}

/// Learns from what was evaluated, and writes the file. `rules`: the kind of rule of each situation.
pub fn write(
    path: &Path,
    outcome: &Outcome,
    card: &ModelCard,
    rules: &BTreeMap<String, &'static str>,
) -> anyhow::Result<()> {
    let text = text(outcome, card, rules)?;
    std::fs::write(path, text).map_err(|e| UserError(format!("{}: {e}", path.display())))?;
    Ok(())
}

fn text(
    outcome: &Outcome,
    card: &ModelCard,
    rules: &BTreeMap<String, &'static str>,
) -> anyhow::Result<String> {
    let mut out = format!(
        "# What the confidence of events is worth that this model's detections lead to: [stated by the rule, observed].\n\
         # Written by `huiyan eval --fit-confidence`; read with the card. Another model's, or another file's, is refused.\n\
         model: {}\nsha256: {}\nmeasured: {}\nsituations:\n",
        card.id,
        card.sha256,
        // JSON's quotes are YAML's. How long it took is of no interest to who reads it.
        serde_json::json!(outcome.said.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ")),
    );
    let mut learned = 0;
    for (situation, rule) in rules {
        let statements: Vec<_> = outcome.judged.statements(Some(situation)).collect();
        let right = statements.iter().filter(|(_, right)| *right).count();
        let points = fit(statements.iter().copied());
        let rounded = points.iter().map(|(x, y)| ((x * 1e3).round() / 1e3, (y * 1e4).round() / 1e4));
        let rounded: Vec<(f64, f64)> = rounded.collect();
        let counts = (statements.len() as u64, right as u64);
        let small = rounded.iter().map(|(x, y)| (*x as f32, *y as f32)).collect();
        // Without an event there is nothing to say.
        let Some(known) = Calibration::new(rule, counts, small) else { continue };
        let list: Vec<_> = rounded.iter().map(|(x, y)| format!("[{x:.3}, {y:.4}]")).collect();
        let _ = writeln!(
            out,
            "  {situation}: {{rule: {rule}, events: {}, right: {}, points: [{}]}}",
            known.events,
            known.right,
            list.join(", ")
        );
        learned += 1;
    }
    if learned == 0 {
        return Err(UserError("no event was told, so that there is nothing to learn from".into()).into());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_always_true_is_as_good_as_certain_and_no_more() {
        let points = fit((0..118).map(|n| (0.4 + f64::from(n) / 300.0, true)));
        assert_eq!(points.len(), 1, "{points:?}");
        assert!((points[0].1 - 119.0 / 120.0).abs() < 1e-9);
        // Three events say little.
        let points = fit([(0.9, true), (0.8, true), (0.7, true)].into_iter());
        assert!((points[0].1 - 0.8).abs() < 1e-9, "{points:?}");
        assert_eq!(fit(std::iter::empty()), []);
    }

    #[test]
    fn what_is_stated_higher_is_never_worth_less() {
        // Overconfident above, and by chance better in the middle than above.
        let share = |n: u32| match n {
            0..100 => 3,
            100..200 => 8,
            200..300 => 7,
            _ => 9,
        };
        let points = fit((0..400).map(|n| (f64::from(n) / 400.0, n % 10 < share(n))));
        assert!(points.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 < p[1].1), "{points:?}");
        let near =
            |x: f64| points.iter().min_by(|a, b| (a.0 - x).abs().total_cmp(&(b.0 - x).abs())).unwrap().1;
        assert!((near(0.12) - 0.3).abs() < 0.05, "{points:?}");
        assert!((near(0.5) - 0.75).abs() < 0.05, "{points:?}");
        assert!((near(0.9) - 0.9).abs() < 0.06, "{points:?}");
    }

    #[test]
    fn a_fitted_curve_brings_the_error_down_on_others() {
        // Of what is said to be 0.5 sure, nine in ten are true; of what is said to be 0.9 sure, the same.
        let draw = |seed: u64| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..400).map(|_| (if rng.bool() { 0.5 } else { 0.9 }, rng.f64() < 0.9)).collect::<Vec<_>>()
        };
        let points = fit(draw(1).into_iter()).iter().map(|(x, y)| (*x as f32, *y as f32)).collect();
        let curve = Calibration::new("dwell", (400, 360), points).unwrap();
        let worth = |stated: f64| f64::from(curve.of(flow::Score::new(stated as f32).unwrap()).get());
        let error = |list: Vec<(f64, bool)>| {
            super::super::figures::reliability(list.into_iter()).expected_calibration_error.unwrap()
        };
        let before = error(draw(2));
        let after = error(draw(2).into_iter().map(|(stated, right)| (worth(stated), right)).collect());
        assert!(before > 0.15 && after < 0.05, "{before} {after}");
    }
}
