//! What a person sees while the pipeline runs: a table that renews itself, and a line per event above it. Where the
//! output is no terminal, a line now and then.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The table.
pub struct Live {
    screen: Screen,
}

enum Screen {
    Terminal { bars: MultiProgress, rows: Mutex<Vec<ProgressBar>> },
    Plain { last: Mutex<Option<Instant>> },
}

impl Live {
    /// A table on standard output.
    pub fn new() -> Self {
        let screen = if std::io::stdout().is_terminal() {
            let bars = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            Screen::Terminal { bars, rows: Mutex::default() }
        } else {
            Screen::Plain { last: Mutex::default() }
        };
        Self { screen }
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        match &self.screen {
            Screen::Terminal { bars, .. } => {
                // A terminal that has gone away is no reason to stop watching.
                let _ = bars.println(line);
            }
            Screen::Plain { .. } => println!("{line}"),
        }
    }

    /// Renews the table: `rows` on a terminal, `summary` elsewhere.
    pub fn table(&self, rows: &[String], summary: &str) {
        match &self.screen {
            Screen::Terminal { bars, rows: shown } => {
                let mut shown = shown.lock().expect("no holder of this lock panics");
                while shown.len() < rows.len() {
                    let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
                    shown.push(bars.add(ProgressBar::no_length().with_style(style)));
                }
                for (bar, row) in shown.iter().zip(rows) {
                    bar.set_message(row.clone());
                }
            }
            Screen::Plain { last } => {
                let mut last = last.lock().expect("no holder of this lock panics");
                if last.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
                    *last = Some(Instant::now());
                    println!("{summary}");
                }
            }
        }
    }

    /// Leaves the last table on the screen.
    pub fn finish(&self) {
        if let Screen::Terminal { rows, .. } = &self.screen {
            for bar in rows.lock().expect("no holder of this lock panics").iter() {
                bar.abandon();
            }
        }
    }
}
