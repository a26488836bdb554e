//! What is wrong with a configuration: all of it at once, each mistake with its place.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use crate::address::masked;

/// At most this many mistakes are kept; a list that nobody can read helps nobody.
const KEPT: usize = 1_000;
/// Characters of a value that are shown.
const SHOWN: usize = 80;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mistake {
    /// The file that holds it, as the user named it.
    pub file: PathBuf,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: u32,
    /// Counted from 1, in characters; 0 where the whole file is meant.
    pub column: u32,
    /// Dotted path of the key, for example `cameras[3].zones[0].polygon`; empty for a mistake of syntax.
    pub key: String,
    /// The value as written, shortened, quoted; never a secret. `None` where there is none.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " {value}")?;
        }
        write!(f, " {}", self.problem)?;
        if !self.expected.is_empty() {
            write!(f, "; {}", self.expected)?;
        }
        Ok(())
    }
}

/// All mistakes of a configuration, in the order of its files and lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct Mistakes {
    /// The mistakes; at most 1,000 of them.
    pub list: Vec<Mistake>,
    /// How many more there are.
    pub omitted: usize,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// A place in one of the files of a [`Report`]. Line 0: the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub file: u16,
    pub line: u32,
    pub column: u32,
}

/// A dotted path, built on the stack on the way down and written out only where something is wrong.
#[derive(Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    pub fn key(&'p self, name: &'p str) -> Path<'p> {
        Path::Key(self, name)
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, name) => f.write_str(&clipped(name)),
            Self::Key(parent, name) => write!(f, "{parent}.{}", clipped(name)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// What is wrong with a value and what would be right; the caller knows the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub problem: String,
    pub expected: String,
}

impl Problem {
    pub fn new(problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { problem: problem.into(), expected: expected.into() }
    }
}

/// Collects mistakes and knows the names of the files.
#[derive(Default)]
pub(crate) struct Report {
    files: Vec<PathBuf>,
    list: Vec<(Place, Mistake)>,
    omitted: usize,
    /// A file could not be read or parsed: names that are missing may be in there.
    pub incomplete: bool,
}

impl Report {
    /// Gives a file its number.
    pub fn add_file(&mut self, path: &FilePath) -> u16 {
        self.files.push(path.to_owned());
        u16::try_from(self.files.len() - 1).expect("the loader opens at most 4,096 files")
    }

    pub fn file(&self, place: Place) -> &FilePath {
        &self.files[usize::from(place.file)]
    }

    /// `file:line:column`, to name a second place in a message.
    pub fn name(&self, place: Place) -> String {
        format!("{}:{}:{}", self.file(place).display(), place.line, place.column)
    }

    /// Notes a mistake. `value` is quoted, shortened and stripped of credentials here.
    pub fn add(&mut self, place: Place, path: &Path<'_>, value: Option<&str>, problem: Problem) {
        if self.list.len() < KEPT {
            self.add_named(place, path.to_string(), value, problem);
        } else {
            self.omitted += 1;
        }
    }

    /// The same, with a path that is already written out.
    pub fn add_named(&mut self, place: Place, key: String, value: Option<&str>, problem: Problem) {
        if self.list.len() >= KEPT {
            self.omitted += 1;
            return;
        }
        let mistake = Mistake {
            file: self.file(place).to_owned(),
            line: place.line,
            column: place.column,
            key,
            value: value.map(shown),
            problem: problem.problem,
            expected: problem.expected,
        };
        self.list.push((place, mistake));
    }

    /// Whether anything was noted.
    pub fn is_clean(&self) -> bool {
        self.list.is_empty()
    }

    /// `value`, or the mistakes in the order of the files.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.list.is_empty(), "a refusal needs a reason");
                self.list.sort_by_key(|(place, _)| *place);
                let list = self.list.into_iter().map(|(_, mistake)| mistake).collect();
                Err(Mistakes { list, omitted: self.omitted })
            }
        }
    }
}

/// A value as a message shows it: one line, quoted, short, without credentials.
fn shown(value: &str) -> String {
    // Cut first: a value may be megabytes long. Far beyond what is shown, so that masking sees whole words.
    let head: String = value.chars().take(1_000).collect();
    let masked = masked(&head);
    let short: String = masked.chars().take(SHOWN).collect();
    if short.len() < masked.len() || head.len() < value.len() {
        format!("{:?}", format!("{short}…"))
    } else {
        format!("{short:?}")
    }
}

fn clipped(name: &str) -> String {
    let mut short: String = name.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    masked(&short)
}

/// The known name that is most like `name`, where one is like it at all.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > 100 {
        return None;
    }
    let lower = name.to_lowercase();
    let far = (lower.chars().count() / 3).max(2);
    // Of two that are equally far, people mean the one with the same first letter.
    let distance = |known: &'n str| {
        let other = known.to_lowercase();
        (strsim::osa_distance(&lower, &other), lower.chars().next() != other.chars().next(), known)
    };
    known.into_iter().map(distance).filter(|(d, ..)| *d <= far).min().map(|(.., known)| known)
}

/// `a, b, c`, cut after a dozen.
pub(crate) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        0 => "none".to_owned(),
        1..=12 => names.join(", "),
        n => format!("{} and {} more", names[..12].join(", "), n - 12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_short_and_without_credentials() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(shown("rtsp://u:p@h/x"), r#""rtsp://***@h/x""#);
        let long = shown(&"长".repeat(1_000_000));
        assert!(long.chars().count() < 90 && long.ends_with("…\""), "{long}");
        // The password is longer than what is shown.
        assert!(!shown(&format!("rtsp://u:{}@h/x", "p".repeat(100))).contains("pp"));
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("ulr", ["id", "url", "name"]), Some("url"));
        assert_eq!(nearest("illegal_parkin", ["illegal_parking"]), Some("illegal_parking"));
        assert_eq!(nearest("wroker", ["broker", "worker"]), Some("worker"));
        assert_eq!(nearest("weather", ["id", "url"]), None);
    }

    #[test]
    fn paths_are_dotted() {
        let root = Path::Root;
        let cameras = root.key("cameras");
        let third = cameras.index(3);
        assert_eq!(third.key("url").to_string(), "cameras[3].url");
    }
}
