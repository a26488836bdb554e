//! The files of a configuration: the first one and what it includes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use sha2::{Digest, Sha256};

use crate::check::{Fields, Value, check};
use crate::mistake::{Path, Place, Problem, Report};
use crate::rule_shapes::CODE_SET;
use crate::shape::{Kind, Shape};
use crate::shapes::ROOT;
use crate::tree;

const MAX_FILE: u64 = 32 << 20;
const MAX_FILES: usize = 4_096;
const MAX_INCLUDE_DEPTH: usize = 16;

/// What is read and checked for form.
pub(crate) struct Reader<'r> {
    pub report: &'r mut Report,
    pub hash: &'r mut Sha256,
    /// One per file, in the order of reading: a file, then what it includes.
    pub roots: Vec<Fields>,
    /// Every file opened so far, and which `include` asked for it.
    seen: HashMap<PathBuf, Option<Place>>,
    /// The files whose includes are being read.
    stack: Vec<PathBuf>,
}

impl<'r> Reader<'r> {
    pub fn new(report: &'r mut Report, hash: &'r mut Sha256) -> Self {
        Self { report, hash, roots: vec![], seen: HashMap::new(), stack: vec![] }
    }

    /// Reads the first file and everything that it includes.
    pub fn read(&mut self, path: &FilePath) {
        let number = self.report.add_file(path);
        let Some(text) = read_text(path, MAX_FILE, number, self.report) else { return };
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.seen.insert(canonical.clone(), None);
        self.text(&text, number, path, canonical);
    }

    /// Reads a text as if it were the file `path`.
    pub fn text(&mut self, text: &str, number: u16, path: &FilePath, canonical: PathBuf) {
        let Some(mut root) = read_map(text, number, &ROOT, self.report, self.hash) else { return };
        let includes = root.take("include");
        self.roots.push(root);
        let Some(Value::List(includes)) = includes.map(|item| item.value) else { return };
        self.stack.push(canonical);
        let dir = path.parent().unwrap_or(FilePath::new(""));
        for (index, item) in includes.iter().enumerate() {
            if let Some(pattern) = item.text()
                && let Err(problem) = self.include(dir, pattern, item.place)
            {
                self.report.incomplete = true;
                let path = Path::Root.key("include");
                self.report.add(item.place, &path.index(index), Some(pattern), problem);
            }
        }
        self.stack.pop();
    }

    fn include(&mut self, dir: &FilePath, pattern: &str, place: Place) -> Result<(), Problem> {
        if self.stack.len() >= MAX_INCLUDE_DEPTH {
            return Err(Problem::new(
                "is included too deeply",
                format!("at most {MAX_INCLUDE_DEPTH} levels"),
            ));
        }
        for path in expand(dir, pattern)? {
            let canonical = path.canonicalize().map_err(|error| {
                Problem::new(format!("cannot be read: {error}"), "expected a readable file")
            })?;
            if self.stack.contains(&canonical) {
                let problem = format!("includes {}, which includes this file", path.display());
                return Err(Problem::new(problem, "break the circle"));
            }
            if let Some(first) = self.seen.get(&canonical) {
                let first = first.map_or("at the start".to_owned(), |first| self.report.name(first));
                let problem = format!("includes {} again: first {first}", path.display());
                return Err(Problem::new(problem, "include each file once"));
            }
            if self.seen.len() >= MAX_FILES {
                return Err(Problem::new("includes too many files", format!("at most {MAX_FILES} files")));
            }
            self.seen.insert(canonical.clone(), Some(place));
            let number = self.report.add_file(&path);
            if let Some(text) = read_text(&path, MAX_FILE, number, self.report) {
                self.text(&text, number, &path, canonical);
            }
        }
        Ok(())
    }
}

/// Reads one YAML document that is a map of this shape.
pub(crate) fn read_map(
    text: &str,
    number: u16,
    shape: &'static Shape,
    report: &mut Report,
    hash: &mut Sha256,
) -> Option<Fields> {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
    let tree = tree::parse(text, number, report)?;
    // A `Kind` that borrows `shape` for good, without a static of its own for each shape.
    let kind: &'static Kind = if std::ptr::eq(shape, &ROOT) {
        &ROOT_KIND
    } else if std::ptr::eq(shape, &CODE_SET) {
        &CODE_SET_KIND
    } else if std::ptr::eq(shape, &crate::calibration::FILE) {
        &CALIBRATION_KIND
    } else {
        &CARD_KIND
    };
    match check(&tree, kind, report).value {
        Value::Map(fields) => Some(fields),
        _ => None,
    }
}

static ROOT_KIND: Kind = Kind::Map(&ROOT);
static CODE_SET_KIND: Kind = Kind::Map(&CODE_SET);
static CALIBRATION_KIND: Kind = Kind::Map(&crate::calibration::FILE);
static CARD_KIND: Kind = Kind::Map(&crate::shapes::CARD);

/// Reads a text file; what is wrong with it goes into the report.
pub(crate) fn read_text(path: &FilePath, limit: u64, number: u16, report: &mut Report) -> Option<String> {
    let whole = Place { file: number, line: 0, column: 0 };
    let fail = |report: &mut Report, place, problem| {
        report.incomplete = true;
        report.add(place, &Path::Root, None, problem);
        None
    };
    let bytes = match read_bounded(path, limit) {
        Ok(bytes) => bytes,
        Err(problem) => return fail(report, whole, problem),
    };
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            if text.starts_with('\u{feff}') {
                text.remove(0);
            }
            Some(text)
        }
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|b| **b == b'\n').count() as u32;
            let place = Place { file: number, line, column: 1 };
            fail(report, place, Problem::new("is not UTF-8 from this line on", "save the file as UTF-8"))
        }
    }
}

/// Reads a plain file of at most `limit` bytes: never a device, never without end.
pub(crate) fn read_bounded(path: &FilePath, limit: u64) -> Result<Vec<u8>, Problem> {
    let unreadable =
        |error: std::io::Error| Problem::new(format!("cannot be read: {error}"), "expected a readable file");
    let meta = path.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Problem::new("is a folder", "expected a file"));
    }
    if !meta.is_file() {
        return Err(Problem::new("is no plain file", "expected a file"));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(limit) as usize);
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(Problem::new("is too large", format!("at most {} MiB", (limit >> 20).max(1))));
    }
    Ok(bytes)
}

/// The files that a path or pattern stands for, sorted.
fn expand(dir: &FilePath, pattern: &str) -> Result<Vec<PathBuf>, Problem> {
    if pattern.contains("**") {
        return Err(Problem::new("holds **", "write one * for each folder: cameras/*/*.yaml"));
    }
    let mut found = vec![dir.to_owned()];
    if pattern.starts_with('/') {
        found = vec![PathBuf::from("/")];
    }
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = vec![];
        for folder in &found {
            let folder = if folder.as_os_str().is_empty() { FilePath::new(".") } else { folder };
            for entry in folder.read_dir().into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if !name.starts_with('.') && matches(part, name) && next.len() <= MAX_FILES {
                    let base = if folder == FilePath::new(".") { FilePath::new("") } else { folder };
                    next.push(base.join(name));
                }
            }
        }
        next.sort();
        found = next;
    }
    let wild = pattern.contains(['*', '?']);
    if wild {
        found.retain(|path| path.is_file());
    }
    match found.first() {
        Some(first) if wild || first.exists() => Ok(found),
        Some(first) => Err(Problem::new("is missing", format!("there is no file {}", first.display()))),
        None => {
            let dir = if dir.as_os_str().is_empty() { FilePath::new(".") } else { dir };
            Err(Problem::new("matches no file", format!("looked in {}", dir.display())))
        }
    }
}

/// Whether a name fits a pattern of `*` (any number of characters) and `?` (one).
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last star has to take one character more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a?c*", "abcdef", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
