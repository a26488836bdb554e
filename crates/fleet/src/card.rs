//! `models/<id>/card.yaml`: what a model file expects and gives.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flow::{ClassName, ModelId};
use sha2::{Digest, Sha256};

use crate::check::{Fields, Item, Value};
use crate::mistake::{Mistakes, Path as Dotted, Place, Problem, Report};
use crate::shapes::{CARD, THRESHOLDS};
use crate::sources::{read_bounded, read_map, read_text};

/// Bytes of a card or a list of classes.
const MAX_CARD: u64 = 1 << 20;

/// A checked card. Whether the file agrees with it is checked where the file is opened (`infer`).
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    /// The name of its folder.
    pub id: ModelId,
    /// The author's version.
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
    /// The card itself, for error messages.
    pub card_path: PathBuf,
    /// The model file.
    pub file: PathBuf,
    /// Lower-case hex SHA-256 of the model file.
    pub sha256: String,
    /// Pixels per row that the model takes.
    pub width: u32,
    /// Rows that the model takes.
    pub height: u32,
    /// Order of the colour planes.
    pub channels: Channels,
    /// What a sample is scaled to.
    pub range: Range,
    /// How a picture is made to fit.
    pub resize: Resize,
    /// How the output is read.
    pub head: Head,
    /// The model's classes, in its order.
    pub classes: Vec<ClassName>,
    /// Thresholds.
    pub thresholds: Thresholds,
    /// `None`: any number of pictures at once; `Some(n)`: exactly n.
    pub batch: Option<usize>,
    /// What the model is for and not for, in words.
    pub notes: String,
}

/// Order of the colour planes in the input tensor, which is always planar (NCHW, f32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// What an 8-bit sample becomes: `(sample - mean) / deviation`, per plane in the tensor's order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by; none is 0.
    pub deviation: [f32; 3],
}

/// How a picture is made to fit the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Scaled to fit, put into the top left corner, the rest filled with `pad`.
    LetterboxTopLeft {
        /// The fill, 0..=255.
        pad: u8,
    },
    /// Scaled to fit, put into the middle, the rest filled with `pad`.
    LetterboxCentre {
        /// The fill, 0..=255.
        pad: u8,
    },
    /// Each side scaled by itself.
    Stretch,
}

/// How the output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// YOLOX: `N × anchors × (4 + 1 + classes)`, strides 8, 16, 32, grid not yet decoded (arXiv:2107.08430).
    Yolox,
}

impl Head {
    /// The name in the card.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yolox => "yolox",
        }
    }
}

/// Thresholds of the post-processing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Below it a detection is not reported.
    pub score: f32,
    /// Two boxes of a class that overlap more than this are one thing (IoU).
    pub nms_iou: f32,
}

impl ModelCard {
    /// Reads and checks `dir/card.yaml`; all mistakes at once. The model file must be there and have the
    /// SHA-256 that the card gives; what is inside it is checked where it is opened (`infer`).
    pub fn load(dir: &Path) -> Result<Self, Mistakes> {
        let mut report = Report::default();
        let card = read(dir, &mut report, &mut Sha256::new());
        report.finish(card)
    }
}

/// Reads a card into a report that may hold other files. `None` only if the report says why.
pub(crate) fn read(dir: &Path, report: &mut Report, hash: &mut Sha256) -> Option<ModelCard> {
    let card_path = dir.join("card.yaml");
    let number = report.add_file(&card_path);
    let text = read_text(&card_path, MAX_CARD, number, report)?;
    let fields = read_map(&text, number, &CARD, report, hash)?;
    let whole = Item { place: Place { file: number, line: 1, column: 1 }, value: Value::Bad };
    let mut card = Reading { dir, report, fields: &fields, whole: &whole };
    let id = card.id();
    let file = card.file();
    let input = card.input();
    let classes = card.classes();
    let thresholds = card.thresholds();
    let (width, height, channels, range, resize) = input?;
    let (file, sha256) = file?;
    Some(ModelCard {
        id: id?,
        version: fields.text("version")?.into(),
        licence: fields.text("licence")?.into(),
        source: fields.text("source")?.into(),
        card_path,
        file,
        sha256,
        width,
        height,
        channels,
        range,
        resize,
        head: fields.text("head").map(|_| Head::Yolox)?,
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

    /// The model file and its hash, which must be the card's.
    fn file(&mut self) -> Option<(PathBuf, String)> {
        let name = self.fields.text("file")?;
        let file = self.dir.join(&*name);
        let expected = self.fields.text("sha256");
        let found = match sha256_of(&file) {
            Ok(found) => found,
            Err(error) => {
                let problem =
                    Problem::new(format!("cannot be read: {error}"), format!("expected {}", file.display()));
                self.mistake("file", Some(&name), problem);
                return None;
            }
        };
        let expected = expected?;
        if *expected != *found {
            let problem = format!("is not the SHA-256 of {}, which is {found:?}", file.display());
            let way = "the file is damaged or another one: fetch it again, or correct the card";
            self.mistake("sha256", Some(&expected), Problem::new(problem, way));
            return None;
        }
        Some((file, found))
    }

    fn input(&mut self) -> Option<(u32, u32, Channels, Range, Resize)> {
        let input = self.fields.map("input")?;
        let path = Dotted::Root.key("input");
        let (width, height) = (input.whole("width"), input.whole("height"));
        // YOLOX halves the picture five times.
        for (key, size) in [("width", width), ("height", height)] {
            if let (Some(size), Some(item)) = (size, input.item(key))
                && size % 32 != 0
            {
                let problem = Problem::new("is no multiple of 32", "head yolox needs one");
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
        let resize = match &*input.text("resize")? {
            "letterbox_top_left" => Resize::LetterboxTopLeft { pad: pad? },
            "letterbox_centre" => Resize::LetterboxCentre { pad: pad? },
            _ => Resize::Stretch,
        };
        let channels = if &*input.text("channels")? == "rgb" { Channels::Rgb } else { Channels::Bgr };
        let range = Range { mean: planes(input.numbers("mean")?)?, deviation: planes(deviation?)? };
        Some((width? as u32, height? as u32, channels, range, resize))
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
            if !seen.insert(name) {
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
