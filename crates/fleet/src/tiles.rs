//! Pictures that are too large for their model, looked at in tiles.

use std::collections::BTreeMap;

use flow::ClassName;

use crate::check::{Entry, Fields, Item, Value};
use crate::shape::{Kind, Shape, default, optional};

/// How a picture is cut into overlapping tiles, beside the look at the whole of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    /// A tile's width in pixels of the picture; `None`: the model's own, so that nothing is scaled. Its height is as
    /// the shape of the model's input has it.
    pub size: Option<u32>,
    /// Share of a tile's width and height that it has in common with its neighbour, 0..=0.5.
    pub overlap: f32,
    /// Boxes of these classes that are lower than this many pixels of the picture do not count.
    pub smallest: BTreeMap<ClassName, f32>,
}

static TILES: Shape = Shape {
    name: "tiles",
    keys: &[
        optional(
            "size",
            Kind::WordOr(&["native"], &Kind::Whole(64, 16_384)),
            "A tile's width in pixels of the picture. Default: native, that of the model's input: nothing is scaled.",
        ),
        default(
            "overlap",
            Kind::Number(0.0, 0.5),
            "0.25",
            "Share of a tile that it has in common with its neighbour: at least as large as the things looked for.",
        ),
        optional(
            "smallest",
            Kind::Table(&Kind::Number(0.0, 16_384.0)),
            "By class: lower boxes do not count, in pixels of the picture.",
        ),
    ],
};

/// `off`, `native`, or its keys.
pub(crate) const KIND: Kind = Kind::WordOr(&["off", "native"], &Kind::Map(&TILES));

/// Reads the key `tiles`; `None` where nothing is said, `Some(None)` for `off`.
pub(crate) fn read(item: Option<&Item>) -> Option<Option<Tiles>> {
    let empty = Fields::empty(&TILES);
    let fields = match &item?.value {
        Value::Text(word) if &**word == "off" => return Some(None),
        Value::Map(fields) => fields,
        _ => &empty,
    };
    let smallest = match fields.item("smallest").map(|item| &item.value) {
        Some(Value::Table(entries)) => entries.iter().filter_map(height).collect(),
        _ => BTreeMap::new(),
    };
    let size = match fields.item("size").map(|item| &item.value) {
        Some(Value::Whole(pixels)) => Some(*pixels as u32),
        _ => None,
    };
    Some(Some(Tiles { size, overlap: fields.number("overlap")? as f32, smallest }))
}

fn height(entry: &Entry) -> Option<(ClassName, f32)> {
    match entry.item.value {
        Value::Number(pixels) => Some((ClassName::new(&entry.name), pixels as f32)),
        _ => None,
    }
}
