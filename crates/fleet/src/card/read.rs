//! `card.yaml` → a checked [`ModelCard`].

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flow::{ClassName, ModelId};
use sha2::{Digest, Sha256};

use super::{
    Activation, Boxes, Channels, Extra, Filter, Head, Layout, ModelCard, NO_CLASS, Output, Range, Resize,
    Thresholds,
};
use crate::check::{Fields, Item, Value};
use crate::mistake::{Path as Dotted, Place, Problem, Report, listed};
use crate::shapes::{CARD, OUTPUT, THRESHOLDS};
use crate::sources::{read_bounded, read_map, read_text};

/// Bytes of a card or a list of classes.
const MAX_CARD: u64 = 1 << 20;

/// What is asked of the model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileNeed {
    /// It is there and has the card's SHA-256.
    Pulled,
    /// Nothing.
    None,
}

/// Reads a card into a report that may hold other files. `None` only if the report says why.
pub(crate) fn read(dir: &Path, need: FileNeed, report: &mut Report, hash: &mut Sha256) -> Option<ModelCard> {
    let card_path = dir.join("card.yaml");
    let number = report.add_file(&card_path);
    let text = read_text(&card_path, MAX_CARD, number, report)?;
    let fields = read_map(&text, number, &CARD, report, hash)?;
    let whole = Item { place: Place { file: number, line: 1, column: 1 }, value: Value::Bad };
    let mut card = Reading { dir, report, fields: &fields, whole: &whole };
    let id = card.id();
    let url = card.url();
    let file = card.file(need);
    let head = fields.text("head").and_then(|name| Head::named(&name));
    let output = head.and_then(|head| card.output(head));
    let input = card.input(head.zip(output.as_ref()));
    let classes = card.classes();
    let thresholds = card.thresholds();
    let (file, sha256) = file?;
    let input = input?;
    Some(ModelCard {
        id: id?,
        version: fields.text("version")?.into(),
        licence: fields.text("licence")?.into(),
        source: fields.text("source")?.into(),
        card_path,
        file,
        sha256,
        url: url?,
        width: input.width,
        height: input.height,
        input_name: input.name,
        layout: input.layout,
        channels: input.channels,
        range: input.range,
        resize: input.resize,
        filter: input.filter,
        extra: input.extra,
        head: head?,
        output: output?,
        classes: classes?,
        thresholds: thresholds?,
        batch: match fields.item("batch").map(|item| &item.value) {
            Some(Value::Whole(n)) => Some(*n as usize),
            Some(Value::Bad) => return None,
            _ => None,
        },
        notes: fields.text("notes").unwrap_or_default().into(),
    })
}

/// The `input` of a card.
struct Input {
    width: u32,
    height: u32,
    name: Option<String>,
    layout: Layout,
    channels: Channels,
    range: Range,
    resize: Resize,
    filter: Filter,
    extra: Vec<(String, Extra)>,
}

/// A card whose form was checked, on its way to a [`ModelCard`].
struct Reading<'c> {
    dir: &'c Path,
    report: &'c mut Report,
    fields: &'c Fields,
    /// Stands for what is absent: mistakes about it are reported at the top.
    whole: &'c Item,
}

impl Reading<'_> {
    fn mistake(&mut self, key: &str, value: Option<&str>, problem: Problem) {
        let place = self.fields.item(key).unwrap_or(self.whole).place;
        self.report.add(place, &Dotted::Root.key(key), value, problem);
    }

    fn id(&mut self) -> Option<ModelId> {
        let id = self.fields.text("id")?;
        let folder = match self.dir.file_name() {
            Some(name) => Some(name.to_owned()),
            None => self.dir.canonicalize().ok().and_then(|dir| dir.file_name().map(ToOwned::to_owned)),
        };
        let folder = folder?.to_string_lossy().into_owned();
        if *id != *folder {
            let problem = format!("is not the name of its folder, {folder:?}");
            self.mistake("id", Some(&id), Problem::new(problem, "make them equal"));
            return None;
        }
        ModelId::new(&id).ok()
    }

    /// `Some(None)` where there is none.
    fn url(&mut self) -> Option<Option<String>> {
        let Some(item) = self.fields.item("url") else { return Some(None) };
        let text = item.text()?;
        let expected = "expected https://host/path (or http://)";
        let problem = match url::Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => "is no address of a file to fetch",
            Ok(url) if !url.username().is_empty() || url.password().is_some() => "holds a login",
            Ok(_) => return Some(Some(text.to_owned())),
            Err(_) => "is no address",
        };
        let shown = if problem == "holds a login" { "***" } else { text };
        self.mistake("url", Some(shown), Problem::new(problem, expected));
        None
    }

    /// The model file and its hash, which must be the card's.
    fn file(&mut self, need: FileNeed) -> Option<(PathBuf, String)> {
        let name = self.fields.text("file")?;
        let file = self.dir.join(&*name);
        let expected = self.fields.text("sha256");
        if need == FileNeed::None {
            let known = expected?;
            return Some((file, if &*known == "unknown" { String::new() } else { known.into() }));
        }
        let pull = format!("run: huiyan models pull {}", self.dir.display());
        let found = match sha256_of(&file) {
            Ok(found) => found,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && self.fields.item("url").is_some() =>
            {
                let problem = Problem::new(format!("is not there yet ({})", file.display()), pull);
                self.mistake("file", Some(&name), problem);
                return None;
            }
            Err(error) => {
                let problem =
                    Problem::new(format!("cannot be read: {error}"), format!("expected {}", file.display()));
                self.mistake("file", Some(&name), problem);
                return None;
            }
        };
        let expected = expected?;
        if &*expected == "unknown" {
            let problem = "is not known, so nobody vouches for the file";
            let way = format!(
                "that of {} is {found:?}: compare it with its author's and write it here",
                file.display()
            );
            self.mistake("sha256", Some(&expected), Problem::new(problem, way));
            return None;
        }
        if *expected != *found {
            let problem = format!("is not the SHA-256 of {}, which is {found:?}", file.display());
            let way = "the file is damaged or another one: fetch it again, or correct the card";
            self.mistake("sha256", Some(&expected), Problem::new(problem, way));
            return None;
        }
        Some((file, found))
    }

    fn output(&mut self, head: Head) -> Option<Output> {
        let mut output = Output::of(head);
        let Some(item) = self.fields.item("output") else { return Some(output) };
        let Value::Map(fields) = &item.value else { return None };
        let path = Dotted::Root.key("output");
        for key in OUTPUT.names().filter(|key| !head.options().contains(key)) {
            if let Some(item) = fields.item(key) {
                let known = listed(head.options().iter().copied());
                let problem = Problem::new(
                    format!("means nothing to head {}", head.name()),
                    format!("it takes {known}"),
                );
                self.report.add(item.place, &path.key(key), None, problem);
            }
        }
        if let Some(names) = fields.list("names") {
            output.names =
                names.iter().map(|item| item.text().map(ToOwned::to_owned)).collect::<Option<_>>()?;
        }
        if let Some(strides) = fields.list("strides") {
            let whole = |item: &Item| match item.value {
                Value::Whole(n) => Some(n as u32),
                _ => None,
            };
            output.strides = strides.iter().map(whole).collect::<Option<_>>()?;
        }
        if fields.item("anchors").is_some() || (head == Head::Yolov5 && output.strides.len() != 3) {
            output.anchors = self.anchors(fields, output.strides.len())?;
        }
        let written = |key| fields.item(key).is_some();
        if written("reg_max") {
            output.reg_max = fields.whole("reg_max")? as usize;
        }
        if written("centre") {
            output.centre = fields.number("centre")? as f32;
        }
        if written("first_class") {
            output.first_class = fields.whole("first_class")? as usize;
        }
        if written("activation") {
            output.activation = match &*fields.text("activation")? {
                "sigmoid" => Activation::Sigmoid,
                "softmax" => Activation::Softmax,
                _ => Activation::None,
            };
        }
        if written("boxes") {
            output.boxes = match &*fields.text("boxes")? {
                "grid" => Boxes::Grid,
                "pixels" => Boxes::Pixels,
                _ => Boxes::Unit,
            };
        }
        Some(output)
    }

    /// Per stride: width, height, width, height, …
    fn anchors(&mut self, fields: &Fields, strides: usize) -> Option<Vec<Vec<[f32; 2]>>> {
        let path = Dotted::Root.key("output");
        let path = path.key("anchors");
        let place = fields.item("anchors").or(fields.item("strides")).unwrap_or(self.whole).place;
        let lists = fields.list("anchors").unwrap_or_default();
        if lists.len() != strides {
            let problem = format!("has {} lists for {strides} strides", lists.len());
            let expected = "expected one list per stride: width, height, width, height, ...";
            self.report.add(place, &path, None, Problem::new(problem, expected));
            return None;
        }
        let mut anchors = Vec::with_capacity(strides);
        for (index, list) in lists.iter().enumerate() {
            let Value::List(numbers) = &list.value else { return None };
            let number = |item: &Item| match item.value {
                Value::Number(n) => Some(n as f32),
                _ => None,
            };
            let numbers: Vec<f32> = numbers.iter().map(number).collect::<Option<_>>()?;
            if !numbers.len().is_multiple_of(2) {
                let problem =
                    Problem::new(format!("has {} numbers", numbers.len()), "expected pairs: width, height");
                self.report.add(list.place, &path.index(index), None, problem);
                return None;
            }
            anchors.push(numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect());
        }
        Some(anchors)
    }

    fn input(&mut self, head: Option<(Head, &Output)>) -> Option<Input> {
        let input = self.fields.map("input")?;
        let path = Dotted::Root.key("input");
        let (width, height) = (input.whole("width"), input.whole("height"));
        let largest = head.filter(|(head, _)| head.has_grid());
        let multiple =
            largest.and_then(|(head, output)| Some((head, u64::from(*output.strides.iter().max()?))));
        for (key, size) in [("width", width), ("height", height)] {
            if let (Some(size), Some(item), Some((head, stride))) = (size, input.item(key), multiple)
                && size % stride != 0
            {
                let expected = format!("head {} needs one", head.name());
                let problem = Problem::new(format!("is no multiple of {stride}"), expected);
                self.report.add(item.place, &path.key(key), Some(&size.to_string()), problem);
            }
        }
        let deviation = input.numbers("deviation");
        if let (Some(deviation), Some(item)) = (&deviation, input.item("deviation"))
            && deviation.contains(&0.0)
        {
            let problem =
                Problem::new("holds a 0", "samples are divided by it; expected numbers other than 0");
            self.report.add(item.place, &path.key("deviation"), None, problem);
        }
        let planes = |list: Vec<f64>| <[f64; 3]>::try_from(list).ok().map(|list| list.map(|n| n as f32));
        let pad = input.whole("pad").map(|pad| pad as u8);
        let extra = match input.item("extra").map(|item| &item.value) {
            Some(Value::Table(entries)) => entries
                .iter()
                .map(|entry| Some((entry.name.to_string(), extra_named(entry.item.text()?)?)))
                .collect::<Option<_>>()?,
            Some(_) => return None,
            None => Vec::new(),
        };
        Some(Input {
            width: width? as u32,
            height: height? as u32,
            name: input.text("name").map(Into::into),
            layout: if &*input.text("layout")? == "nhwc" { Layout::Nhwc } else { Layout::Nchw },
            channels: if &*input.text("channels")? == "rgb" { Channels::Rgb } else { Channels::Bgr },
            range: Range { mean: planes(input.numbers("mean")?)?, deviation: planes(deviation?)? },
            resize: match &*input.text("resize")? {
                "letterbox_top_left" => Resize::LetterboxTopLeft { pad: pad? },
                "letterbox_centre" => Resize::LetterboxCentre { pad: pad? },
                _ => Resize::Stretch,
            },
            filter: if &*input.text("filter")? == "linear" { Filter::Linear } else { Filter::Smooth },
            extra,
        })
    }

    fn classes(&mut self) -> Option<Vec<ClassName>> {
        let written = self.fields.item("classes");
        let names: Vec<(String, Place)> = match (written, self.fields.text("classes_file")) {
            (Some(_), Some(_)) => {
                let problem = Problem::new("stands beside classes", "keep one of the two");
                self.mistake("classes_file", None, problem);
                return None;
            }
            (Some(item), None) => {
                let Value::List(items) = &item.value else { return None };
                items.iter().map(|item| Some((item.text()?.to_owned(), item.place))).collect::<Option<_>>()?
            }
            (None, Some(name)) => self.class_lines(&name)?,
            (None, None) => {
                if self.fields.item("classes_file").is_none() {
                    let problem = Problem::new("is missing", "expected the model's classes, in its order");
                    self.mistake("classes", None, problem);
                }
                return None;
            }
        };
        let mut seen = HashSet::new();
        for (name, place) in &names {
            if name != NO_CLASS && !seen.insert(name) {
                let problem = Problem::new("is listed twice", "classes are told apart by their names");
                self.report.add(*place, &Dotted::Root.key("classes"), Some(name), problem);
            }
        }
        Some(names.iter().map(|(name, _)| ClassName::new(name)).collect())
    }

    fn class_lines(&mut self, name: &str) -> Option<Vec<(String, Place)>> {
        let place = self.fields.item("classes_file").unwrap_or(self.whole).place;
        let text = read_bounded(&self.dir.join(name), MAX_CARD).map(String::from_utf8);
        let problem = match text {
            Ok(Ok(text)) if text.lines().any(|line| !line.trim().is_empty()) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                return Some(lines.map(|line| (line.to_owned(), place)).collect());
            }
            Ok(Ok(_)) => Problem::new("holds no class", "expected one class per line"),
            Ok(Err(_)) => Problem::new("is not UTF-8", "expected one class per line"),
            Err(problem) => problem,
        };
        self.mistake("classes_file", Some(name), problem);
        None
    }

    fn thresholds(&mut self) -> Option<Thresholds> {
        let empty = Fields::empty(&THRESHOLDS);
        let fields = match self.fields.item("thresholds").map(|item| &item.value) {
            Some(Value::Map(fields)) => fields,
            Some(_) => return None,
            None => &empty,
        };
        let (score, nms_iou) = (fields.number("score")?, fields.number("nms_iou")?);
        Some(Thresholds { score: score as f32, nms_iou: nms_iou as f32 })
    }
}

fn extra_named(word: &str) -> Option<Extra> {
    match word {
        "height_width" => Some(Extra::HeightWidth),
        "width_height" => Some(Extra::WidthHeight),
        "ones" => Some(Extra::Ones),
        _ => None,
    }
}

/// Lower-case hexadecimal SHA-256 of a file, read piece by piece.
fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("no plain file"));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
