//! Figures, and what they look like.

use std::fmt::Write as _;

/// One measured figure. `floor` is what the same work costs without us, measured in the same run; `ratio` is the
/// share of the floor's performance that was reached, 1.0 being the floor itself, for rates and for costs alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Figure {
    /// Its name, the same in every version.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The floor in the same unit.
    pub floor: Option<f64>,
    /// Value / floor for a rate, floor / value for a cost.
    pub ratio: Option<f64>,
}

/// Whether more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More is better.
    Rate,
    /// Less is better.
    Cost,
}

impl Figure {
    /// A figure without a floor.
    pub fn plain(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, floor: None, ratio: None }
    }
}

/// A measurement and its floor, taken in turn, so that what else the machine does falls on both.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    floor: Vec<f64>,
}

impl Pairs {
    /// Adds a round. Where there is no floor to measure, `floor` is `None` in every round.
    pub fn push(&mut self, ours: f64, floor: Option<f64>) {
        self.ours.push(ours);
        self.floor.extend(floor);
    }

    /// The median of what was measured; `None` before the first round.
    pub fn ours(&self) -> Option<f64> {
        median(self.ours.iter().copied())
    }

    /// The median of the floors; `None` where there is none.
    pub fn floor(&self) -> Option<f64> {
        median(self.floor.iter().copied())
    }

    /// The medians; the ratio is the median of the rounds' ratios.
    pub fn figure(&self, name: impl Into<String>, unit: &'static str, kind: Kind) -> Figure {
        let ratios = self.ours.iter().zip(&self.floor).map(|(ours, floor)| match kind {
            Kind::Rate => ours / floor,
            Kind::Cost => floor / ours,
        });
        let ratio = median(ratios);
        Figure {
            name: name.into(),
            value: self.ours().unwrap_or(f64::NAN),
            unit,
            floor: median(self.floor.iter().copied()),
            ratio,
        }
    }
}

/// The middle value, `None` of nothing. Of an even number, the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// The line nearest to these points (least squares): its slope and its value at 0. `None` of fewer than two points, or
/// of points one above the other.
pub fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    (points.len() > 1 && spread > 0.0).then_some((slope, y - slope * x))
}

/// The median of the slopes between all pairs of points (Theil and Sen): a few points far off do not tilt it. `None` as
/// for [`fit`].
pub fn median_slope(points: &[(f64, f64)]) -> Option<f64> {
    let pairs = points.iter().enumerate().flat_map(|(n, a)| points[n + 1..].iter().map(move |b| (a, b)));
    median(pairs.filter(|(a, b)| a.0 != b.0).map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)))
}

/// A table for people.
pub fn table(machine: &str, figures: &[Figure]) -> String {
    let width = figures.iter().map(|f| f.name.len()).max().unwrap_or(0).max(6);
    let mut text =
        format!("{machine}\n\n{:width$} {:>10} {:>10} {:>6}  unit\n", "figure", "value", "floor", "ratio");
    for figure in figures {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), short);
        let ratio = figure.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:width$} {:>10} {:>10} {ratio:>6}  {}",
            figure.name,
            short(figure.value),
            number(figure.floor),
            figure.unit
        );
    }
    text
}

/// Three digits, or all of a large number.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_rounds_and_one_is_the_floor() {
        let mut pairs = Pairs::default();
        // The machine slowed down to a half in the second round; the ratio does not care.
        for (ours, floor) in [(80.0, 100.0), (40.0, 50.0), (81.0, 100.0)] {
            pairs.push(ours, Some(floor));
        }
        let rate = pairs.figure("a", "1/s", Kind::Rate);
        assert_eq!((rate.value, rate.floor, rate.ratio), (80.0, Some(100.0), Some(0.8)));
        let cost = pairs.figure("a", "ms", Kind::Cost);
        assert_eq!(cost.ratio, Some(1.25));

        let mut alone = Pairs::default();
        alone.push(3.0, None);
        let text = serde_json::to_string(&alone.figure("b", "1/s", Kind::Rate)).unwrap();
        assert_eq!(text, r#"{"name":"b","value":3.0,"unit":"1/s","floor":null,"ratio":null}"#);
    }

    #[test]
    fn the_middle_of_some_values() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }

    #[test]
    fn a_line_through_points() {
        let points: Vec<_> = (0..10).map(|n| (f64::from(n), 5.0 - 2.0 * f64::from(n))).collect();
        let (slope, start) = fit(&points).unwrap();
        assert!((slope + 2.0).abs() < 1e-9 && (start - 5.0).abs() < 1e-9);
        assert_eq!(fit(&points[..1]), None);
        assert_eq!(fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
        let mut spike = points;
        spike[2].1 = 1_000.0;
        assert!((median_slope(&spike).unwrap() + 2.0).abs() < 1e-9);
        assert_eq!(median_slope(&spike[..1]), None);
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let text =
            table("a machine", &[Figure::plain("decode.x", 1234.5, "1/s"), Figure::plain("y", 0.1234, "ms")]);
        assert!(text.contains("decode.x       1234          -      -  1/s\n"), "{text}");
        assert!(text.contains("y             0.123          -      -  ms\n"), "{text}");
    }
}
