//! Tables and bars for the terminal. Chinese characters take two columns there, so widths are counted as a terminal
//! counts them.

use std::io::IsTerminal as _;

use unicode_width::UnicodeWidthStr as _;

/// What is assumed where the output is no terminal, and what a wide one is used up to.
const WIDTH: usize = 100;
const MAX_WIDTH: usize = 200;
/// Between two columns.
const GAP: &str = "  ";

/// Columns of the terminal that standard output is, within reason.
pub fn width() -> usize {
    if !std::io::stdout().is_terminal() {
        return WIDTH;
    }
    let (_, columns) = console::Term::stdout().size_checked().unwrap_or((0, WIDTH as u16));
    usize::from(columns).clamp(60, MAX_WIDTH)
}

/// Lines of the terminal that standard output is.
pub fn height() -> usize {
    console::Term::stdout().size_checked().map_or(usize::MAX, |(lines, _)| usize::from(lines))
}

/// Which side of its column a text stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A table whose last column is a remark: it stands behind the last cell of its row that holds something, or, where there
/// is no room for it, on lines of its own.
#[derive(Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

/// Lines that a remark may take; the rest of it is cut.
const REMARK_LINES: usize = 2;

impl Table {
    /// With these headings. A heading that begins with `>` is of a column of numbers, which stand on the right.
    pub fn new(headings: &[&str]) -> Self {
        let side = |heading: &&str| if heading.starts_with('>') { Side::Right } else { Side::Left };
        let text = |heading: &&str| heading.trim_start_matches('>').to_owned();
        Self { sides: headings.iter().map(side).collect(), rows: vec![headings.iter().map(text).collect()] }
    }

    /// Adds a row of as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, none of them wider than `width`. Columns without anything in them are left out.
    pub fn lines(&self, width: usize, indent: &str) -> Vec<String> {
        let remark = self.sides.len() - 1;
        let used: Vec<(usize, usize)> = (0..remark)
            .filter(|&column| self.rows.iter().skip(1).any(|row| !row[column].is_empty()))
            .map(|column| (column, self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0)))
            .collect();
        let remarks = self.rows.iter().skip(1).any(|row| !row[remark].is_empty());
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = indent.to_owned();
            for (position, &(column, wide)) in used.iter().enumerate() {
                if position > 0 {
                    line.push_str(GAP);
                }
                line.push_str(&aligned(&row[column], wide, self.sides[column]));
            }
            let mut line = if number == 0 { line } else { line.trim_end().to_owned() };
            if row[remark].is_empty() || !remarks {
                lines.push(cut(line.trim_end(), width));
            } else if line.width() + GAP.len() + row[remark].width() <= width {
                if line.width() > indent.len() {
                    line.push_str(GAP);
                }
                lines.push(line + &row[remark]);
            } else {
                lines.push(cut(line.trim_end(), width));
                lines.extend(below(&row[remark], width, indent));
            }
        }
        lines
    }
}

/// A remark on lines of its own.
fn below(remark: &str, width: usize, indent: &str) -> Vec<String> {
    let indent = format!("{indent}    ");
    let words: Vec<String> = remark.split(' ').map(str::to_owned).collect();
    let text = wrapped(&words, " ", width, indent.width());
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_start().to_owned()).collect();
    if lines.len() > REMARK_LINES {
        let rest = lines.split_off(REMARK_LINES - 1).join(" ");
        lines.push(rest);
    }
    lines.iter().map(|line| cut(&format!("{indent}{line}"), width)).collect()
}

/// The text, filled up with blanks.
pub fn aligned(text: &str, width: usize, side: Side) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    match side {
        Side::Left => format!("{text}{blanks}"),
        Side::Right => format!("{blanks}{text}"),
    }
}

/// The text, or as much of its beginning as fits with an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// A list that breaks between its parts where the line ends; what follows the first line is indented by `indent`.
pub fn wrapped(parts: &[String], separator: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut at = indent;
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            out.push_str(separator);
            at += separator.width();
            if at + part.width() > width {
                out.truncate(out.trim_end().len());
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                at = indent;
            }
        }
        out.push_str(part);
        at += part.width();
    }
    out
}

/// A bar of `share` (0 to 1) of `width` columns, in eighths of a column; what is there is never invisible.
pub fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// 29720 → `29,720`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_with_chinese_names_and_fit_the_width() {
        let mut table = Table::new(&["camera", "name", ">fps", "nothing", "why"]);
        let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
        table.row(row(["hn-1", "富民社区东门", "25.0", "", "loses 4 % of its packets"]));
        table.row(row(["nvr-12", "gate", "", "", "was refused by the recorder"]));
        table.row(row([
            "nvr-13",
            "",
            "8.0",
            "",
            "the connection was refused by the recorder, which has no more sessions to give to anybody, again and again",
        ]));
        let lines = table.lines(54, " ");
        let expected = [
            " camera  name           fps  why",
            " hn-1    富民社区东门  25.0  loses 4 % of its packets",
            " nvr-12  gate  was refused by the recorder",
            " nvr-13                 8.0",
            "     the connection was refused by the recorder, which",
            "     has no more sessions to give to anybody, again a…",
        ];
        assert_eq!(lines, expected);
        assert!(lines.iter().all(|line| line.width() <= 54));
    }

    #[test]
    fn texts_are_cut_and_wrapped_by_their_width_on_the_screen() {
        assert_eq!(cut("慧眼看城市", 10), "慧眼看城市");
        assert_eq!(cut("慧眼看城市", 9), "慧眼看城…");
        assert_eq!(cut("慧眼看城市", 8), "慧眼看…");
        let parts = ["video h264", "audio pcma", "metadata"].map(str::to_owned);
        assert_eq!(wrapped(&parts, ", ", 30, 4), "video h264, audio pcma,\n    metadata");
    }

    #[test]
    fn bars_and_numbers() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(0.0001, 4), "▏");
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(thousands(29_720), "29,720");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_002_003), "1,002,003");
    }
}
