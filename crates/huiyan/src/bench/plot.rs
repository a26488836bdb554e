//! A chart with logarithmic axes, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// Left, top, right and bottom of the plotting area.
const AREA: (f64, f64, f64, f64) = (80.0, 50.0, 580.0, 400.0);
const COLOURS: [&str; 8] =
    ["#c1272d", "#555555", "#999999", "#bbbbbb", "#0b6fa4", "#3f8f4f", "#8a5fa8", "#b07a1f"];

/// A line, or a single point.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Shown beside it.
    pub name: String,
    /// Both coordinates are more than 0; others are left out.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Above the chart.
    pub title: String,
    /// Under the axis.
    pub x: String,
    /// Beside the axis.
    pub y: String,
    /// The first ones have the strongest colours.
    pub series: Vec<Series>,
}

/// An axis from one power of ten to another.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) =
            values.filter(|v| *v > 0.0 && v.is_finite()).fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v.log10().floor()), high.max(v.log10().ceil()))
            });
        let (low, high) = if low > high { (0, 1) } else { (low as i32, high as i32) };
        Self { low, high: high.max(low + 1), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, bool)> {
        let (low, high) = (self.low, self.high);
        (low..=high).flat_map(move |power| {
            let unit = 10f64.powi(power);
            (1..=if power == high { 1 } else { 9 }).map(move |n| (unit * f64::from(n), n == 1))
        })
    }
}

impl Plot {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let (left, top, right, bottom) = AREA;
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::over(points().map(|point| point.0), left, right);
        let y = Axis::over(points().map(|point| point.1), bottom, top);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"28\" font-size=\"16\">{}</text>\n",
            escaped(&self.title)
        );
        // Writing to a string does not fail.
        for (value, whole) in x.ticks() {
            let (at, shade) = (x.place(value), if whole { "#ccc" } else { "#eee" });
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{shade}\"/>"
            );
            if whole {
                let below = bottom + 18.0;
                let _ =
                    writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>");
            }
        }
        for (value, whole) in y.ticks() {
            let (at, shade) = (y.place(value), if whole { "#ccc" } else { "#eee" });
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"{shade}\"/>"
            );
            if whole {
                let (beside, level) = (left - 8.0, at + 4.0);
                let _ =
                    writeln!(svg, "<text x=\"{beside}\" y=\"{level:.1}\" text-anchor=\"end\">{value}</text>");
            }
        }
        let (middle_x, under) = ((left + right) / 2.0, bottom + 42.0);
        let middle_y = (top + bottom) / 2.0;
        let _ = writeln!(
            svg,
            "<text x=\"{middle_x}\" y=\"{under}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(24 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.x),
            escaped(&self.y)
        );
        for (number, series) in self.series.iter().enumerate() {
            svg += &series.svg(number, &x, &y);
        }
        svg + "</svg>\n"
    }
}

impl Series {
    fn svg(&self, number: usize, x: &Axis, y: &Axis) -> String {
        let colour = COLOURS[number % COLOURS.len()];
        let good = |value: f64| value > 0.0 && value.is_finite();
        let places: Vec<(f64, f64)> = self
            .points
            .iter()
            .filter(|point| good(point.0) && good(point.1))
            .map(|point| (x.place(point.0), y.place(point.1)))
            .collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let mut svg = format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, y) in &places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        let (left, line) = (AREA.2 + 16.0, AREA.1 + 20.0 * number as f64);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{line}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            left + 18.0,
            line + 11.0,
            escaped(&self.name)
        );
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_where_their_values_are_and_ticks_at_powers_of_ten() {
        let series = Series { name: "a < b".into(), points: vec![(100.0, 0.1), (1_000.0, 10.0), (0.0, 1.0)] };
        let plot = Plot { title: "t".into(), x: "n".into(), y: "ms".into(), series: vec![series] };
        let svg = plot.svg();
        assert!(svg.contains("<circle cx=\"80.0\" cy=\"400.0\""), "{svg}");
        assert!(svg.contains("<circle cx=\"580.0\" cy=\"50.0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2, "what no logarithm has is left out");
        for text in [">100</text>", ">1000</text>", ">0.1</text>", ">10</text>", "a &lt; b"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_plot_of_nothing_is_still_a_document() {
        let svg = Plot { title: String::new(), x: String::new(), y: String::new(), series: vec![] }.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
