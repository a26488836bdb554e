//! Durations (`500ms 2s 3min 24h 7d`) and sizes (`10GiB`).

use std::time::Duration;

use crate::mistake::Problem;

const DURATION: &str = "expected a number with a unit: 500ms, 2s, 3min, 24h or 7d";
const SIZE: &str = "expected a number with a unit: 500MB, 512MiB or 10GiB";

/// Milliseconds per unit, largest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
/// Bytes per unit, largest first among the powers of two.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration to the millisecond.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = split(text, DURATION)?;
    match TIMES.iter().find(|(name, _)| *name == unit) {
        Some((_, millis)) => Ok(Duration::from_millis(scaled(number, *millis, DURATION)?)),
        None if unit.is_empty() => Err(Problem::new("has no unit", DURATION)),
        None if unit == "m" => {
            Err(Problem::new("has the unit m, which could be minutes or months", "write min for minutes"))
        }
        None => Err(Problem::new(format!("has the unknown unit {unit:?}"), DURATION)),
    }
}

/// Reads a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, Problem> {
    let (number, unit) = split(text, SIZE)?;
    match SIZES.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => scaled(number, *bytes, SIZE),
        None if unit.is_empty() => Err(Problem::new("has no unit", SIZE)),
        None => Err(Problem::new(format!("has the unknown unit {unit:?}"), SIZE)),
    }
}

fn split<'t>(text: &'t str, expected: &str) -> Result<(f64, &'t str), Problem> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| Problem::new("does not begin with a number", expected))?;
    let unit = text[end..].trim_start();
    Ok((number, unit.get(..unit.len().min(12)).unwrap_or("?")))
}

fn scaled(number: f64, unit: u64, expected: &str) -> Result<u64, Problem> {
    let value = number * unit as f64;
    // Beyond 2^53 a float no longer holds every whole number; nothing here comes near.
    if value > 9e15 {
        return Err(Problem::new("is too large", expected));
    }
    Ok(value.round() as u64)
}

/// The way a person would write it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis() as u64;
    let unit = TIMES.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
    unit.map_or("0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

/// The way a person would write it.
pub(crate) fn show_size(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or("0B".to_owned(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("3min", 180_000),
            ("24h", 86_400_000),
            ("7 d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let problem = |text| duration(text).unwrap_err().problem;
        assert_eq!(problem("10"), "has no unit");
        assert_eq!(problem("-1s"), "does not begin with a number");
        assert_eq!(problem("soon"), "does not begin with a number");
        assert_eq!(problem("1.2.3s"), "does not begin with a number");
        assert_eq!(problem("5sec"), "has the unknown unit \"sec\"");
        assert_eq!(problem("3m"), "has the unit m, which could be minutes or months");
        assert_eq!(problem(&format!("{}d", "9".repeat(400))), "is too large");
    }

    #[test]
    fn sizes_and_the_way_back() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("500 MB"), Ok(500_000_000));
        assert_eq!(size("5").unwrap_err().problem, "has no unit");
        assert_eq!(show_size(10 << 30), "10GiB");
        for text in ["90s", "3min", "250ms", "1h", "7d", "0s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }
}
