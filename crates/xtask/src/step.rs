//! One command of the set-up: run it, show that it lives, and keep its last lines for the error.

use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of a failed command's output that the error shows.
const TAIL_LINES: usize = 15;
/// Longest line kept, bytes; a progress line is cut to fit an ordinary terminal.
const LINE_BYTES: usize = 400;
const TERMINAL_COLUMNS: usize = 100;
/// Between two plain progress lines where the output is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(15);

/// A command with a name for people.
#[derive(Clone, Debug)]
pub struct Step {
    what: String,
    words: Vec<String>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Output goes to the progress line; failure ends the set-up.
    Must,
    /// As above, but a failure is only reported.
    May,
    /// The command may ask the user something: it gets the terminal.
    Asks,
}

impl Step {
    pub fn new<'a>(what: impl Into<String>, words: impl IntoIterator<Item = &'a str>) -> Step {
        Step { what: what.into(), words: words.into_iter().map(str::to_owned).collect(), mode: Mode::Must }
    }

    /// A command that may ask for a password.
    pub fn asking<'a>(what: impl Into<String>, words: impl IntoIterator<Item = &'a str>) -> Step {
        Step { mode: Mode::Asks, ..Step::new(what, words) }
    }

    pub fn may_fail(self) -> Step {
        Step { mode: Mode::May, ..self }
    }

    /// The command as one would type it.
    pub fn by_hand(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c);
        let quote = |word: &String| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        };
        self.words.iter().map(quote).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Where it cannot be started or fails: which command, its last lines, and how to do it by hand.
    pub fn run(&self) -> Result<()> {
        let begun = Instant::now();
        let tail = Arc::new(Mutex::new(Tail::default()));
        let status =
            self.run_to_end(begun, &tail).with_context(|| format!("cannot run `{}`", self.by_hand()))?;
        let seconds = begun.elapsed().as_secs_f64();
        if status.success() {
            if self.mode != Mode::Asks {
                say(&format!("{}: done in {seconds:.1} s", self.what));
            }
            return Ok(());
        }
        let lines = lock(&tail).lines();
        let report = format!(
            "{} failed after {seconds:.1} s ({status}){}\nby hand: {}",
            self.what,
            lines.iter().map(|line| format!("\n  | {line}")).collect::<String>(),
            self.by_hand()
        );
        if self.mode == Mode::May {
            say(&format!("warning: {report}\ngoing on"));
            return Ok(());
        }
        bail!(report)
    }

    fn run_to_end(&self, begun: Instant, tail: &Arc<Mutex<Tail>>) -> Result<ExitStatus> {
        let (program, args) = self.words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(args);
        if self.mode == Mode::Asks {
            println!("{} …", self.what);
            return Ok(command.status()?);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let readers = [
            child.stdout.take().map(|pipe| follow(pipe, tail)),
            child.stderr.take().map(|pipe| follow(pipe, tail)),
        ];
        let status = self.show_until_done(&mut child, begun, tail)?;
        for reader in readers.into_iter().flatten() {
            // A reader that panicked has lost lines of a report, nothing else.
            reader.join().ok();
        }
        Ok(status)
    }

    fn show_until_done(&self, child: &mut Child, begun: Instant, tail: &Mutex<Tail>) -> Result<ExitStatus> {
        let terminal = std::io::stdout().is_terminal();
        if !terminal {
            println!("{} …", self.what);
        }
        let mut shown = begun;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let line = progress(&self.what, begun.elapsed(), &lock(tail).last());
            if terminal {
                print!("\r\x1b[2K{line}");
                std::io::stdout().flush()?;
            } else if shown.elapsed() >= PLAIN_EVERY {
                println!("{line}");
                shown = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Prints a line, over the progress line where there is one.
fn say(line: &str) {
    let over = if std::io::stdout().is_terminal() { "\r\x1b[2K" } else { "" };
    println!("{over}{line}");
}

fn progress(what: &str, elapsed: Duration, last: &str) -> String {
    let text = format!("[{:>3} s] {what}: {last}", elapsed.as_secs());
    text.chars().filter(|c| !c.is_control()).take(TERMINAL_COLUMNS).collect()
}

fn lock(tail: &Mutex<Tail>) -> std::sync::MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(mut pipe: impl Read + Send + 'static, tail: &Arc<Mutex<Tail>>) -> JoinHandle<()> {
    let tail = Arc::clone(tail);
    std::thread::spawn(move || {
        let mut partial = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk) {
            for byte in &chunk[..length] {
                match byte {
                    b'\n' | b'\r' => lock(&tail).push(&std::mem::take(&mut partial)),
                    _ if partial.len() < LINE_BYTES => partial.push(*byte),
                    _ => {}
                }
            }
        }
        lock(&tail).push(&partial);
    })
}

/// The last lines that a command printed.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn last(&self) -> String {
        self.0.back().cloned().unwrap_or_default()
    }

    fn lines(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_its_last_lines_and_the_way_by_hand() {
        let script = "for i in $(seq 100); do echo line $i; done; echo why it failed >&2; exit 7";
        let error = Step::new("the long job", ["sh", "-c", script]).run().unwrap_err().to_string();
        assert!(error.contains("the long job failed") && error.contains("exit status: 7"), "{error}");
        assert!(
            error.contains("why it failed") && error.contains("line 100") && !error.contains("line 50\n"),
            "{error}"
        );
        assert!(error.contains(&format!("by hand: sh -c '{script}'")), "{error}");
    }

    #[test]
    fn a_step_that_may_fail_does_not_end_the_set_up() {
        assert!(Step::new("update", ["sh", "-c", "exit 1"]).may_fail().run().is_ok());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = format!("{:#}", Step::new("x", ["no-such-program-anywhere", "a b"]).run().unwrap_err());
        assert!(
            error.contains("no-such-program-anywhere 'a b'") && error.contains("No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_progress_line_fits_the_terminal_whatever_the_command_prints() {
        let line =
            progress("apt-get", Duration::from_secs(61), &format!("Get:1 \x1b[31m{}", "x".repeat(500)));
        assert!(line.starts_with("[ 61 s] apt-get: Get:1 [31m"), "{line}");
        assert_eq!(line.chars().count(), TERMINAL_COLUMNS);
    }
}
