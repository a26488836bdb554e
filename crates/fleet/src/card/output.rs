//! How a model's output is read: the head, and what differs between exports of one head.

/// The family of detectors whose output it is. What each one's tensors look like is said in `infer`'s `heads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Head {
    /// YOLOX (arXiv:2107.08430).
    Yolox,
    /// YOLOv5, and what kept its output (YOLOv7).
    Yolov5,
    /// YOLOv8, YOLO11, YOLO12: no objectness, boxes across.
    Yolov8,
    /// YOLOv10, YOLO26 and others that give finished boxes: one row each.
    End2end,
    /// RT-DETR, D-FINE, DEIM, RF-DETR.
    Detr,
    /// NanoDet, NanoDet-Plus.
    Nanodet,
    /// PP-PicoDet.
    Picodet,
    /// RTMDet.
    Rtmdet,
    /// SSD as OpenVINO or TensorFlow finish it.
    Ssd,
    /// FastestDet.
    Fastestdet,
    /// One class for the whole picture.
    Classifier,
}

/// All heads, with their names in the card.
const HEADS: [(Head, &str); 11] = [
    (Head::Yolox, "yolox"),
    (Head::Yolov5, "yolov5"),
    (Head::Yolov8, "yolov8"),
    (Head::End2end, "end2end"),
    (Head::Detr, "detr"),
    (Head::Nanodet, "nanodet"),
    (Head::Picodet, "picodet"),
    (Head::Rtmdet, "rtmdet"),
    (Head::Ssd, "ssd"),
    (Head::Fastestdet, "fastestdet"),
    (Head::Classifier, "classifier"),
];

/// The names alone, for the shape of the card.
pub(crate) const HEAD_NAMES: &[&str] = &{
    let mut names = [""; HEADS.len()];
    let mut i = 0;
    while i < HEADS.len() {
        names[i] = HEADS[i].1;
        i += 1;
    }
    names
};

impl Head {
    /// Every head.
    pub fn all() -> impl Iterator<Item = Self> {
        HEADS.iter().map(|(head, _)| *head)
    }

    /// The name in the card.
    pub fn name(self) -> &'static str {
        HEADS.iter().find(|(head, _)| *head == self).map_or("", |(_, name)| name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        HEADS.iter().find(|(_, n)| *n == name).map(|(head, _)| *head)
    }

    /// Keys of `output` that mean something to this head.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Yolox => &["names", "strides", "boxes"],
            Self::Yolov5 => &["names", "strides", "anchors", "boxes"],
            Self::Yolov8 => &["names", "boxes", "activation"],
            Self::End2end => &["names", "boxes"],
            Self::Detr => &["names", "boxes", "activation", "first_class"],
            Self::Nanodet | Self::Picodet => &["names", "strides", "reg_max", "centre", "activation"],
            Self::Rtmdet => &["names", "strides", "centre", "activation"],
            Self::Ssd => &["names", "boxes", "first_class"],
            Self::Fastestdet => &["names"],
            Self::Classifier => &["names", "activation"],
        }
    }

    /// Whether its model must have an input whose sides are multiples of the largest stride: its boxes are counted
    /// from them.
    pub(crate) fn has_grid(self) -> bool {
        matches!(self, Self::Yolox | Self::Yolov5)
    }
}

/// What scores still have to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: they are scores already.
    None,
    /// Each by itself.
    Sigmoid,
    /// Across the classes.
    Softmax,
}

/// What box coordinates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boxes {
    /// Offsets within a grid, to be worked out here.
    Grid,
    /// Pixels of the model's input.
    Pixels,
    /// Shares of the model's input, 0 to 1.
    Unit,
}

/// What differs between exports of one head. Each head uses a part of it ([`Output::of`] gives the usual values).
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Names of the output tensors, in the order in which the head describes its parts. Empty: found by their shapes.
    pub names: Vec<String>,
    /// Pixels of the input per cell of each grid, in the model's order.
    pub strides: Vec<u32>,
    /// A distance is spread over `reg_max + 1` bins (Generalized Focal Loss).
    pub reg_max: usize,
    /// Where a cell's point lies, as a share of the cell: 0 its corner, 0.5 its middle.
    pub centre: f32,
    /// What scores still have to go through.
    pub activation: Activation,
    /// What box coordinates are.
    pub boxes: Boxes,
    /// Width and height of the anchors per stride, in pixels of the input.
    pub anchors: Vec<Vec<[f32; 2]>>,
    /// The label of the first class in `classes`; labels below it mean nothing.
    pub first_class: usize,
}

impl Output {
    /// What the head's own exporter gives.
    pub fn of(head: Head) -> Self {
        let strides: &[u32] = match head {
            Head::Nanodet | Head::Picodet => &[8, 16, 32, 64],
            _ => &[8, 16, 32],
        };
        // YOLOv5 (models/yolov5s.yaml).
        let anchors: [&[[f32; 2]]; 3] = [
            &[[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
            &[[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
            &[[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
        ];
        Self {
            names: Vec::new(),
            strides: strides.into(),
            reg_max: 7,
            centre: if head == Head::Picodet { 0.5 } else { 0.0 },
            activation: match head {
                Head::Detr | Head::Rtmdet => Activation::Sigmoid,
                Head::Classifier => Activation::Softmax,
                _ => Activation::None,
            },
            boxes: match head {
                Head::Yolox => Boxes::Grid,
                Head::Ssd => Boxes::Unit,
                _ => Boxes::Pixels,
            },
            anchors: if head == Head::Yolov5 { anchors.map(<[_]>::to_vec).into() } else { Vec::new() },
            first_class: usize::from(head == Head::Ssd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_has_its_own_name() {
        for head in Head::all() {
            assert_eq!(Head::named(head.name()), Some(head));
        }
        assert_eq!(HEAD_NAMES.len(), Head::all().count());
        assert_eq!(Head::named("yolov9"), None);
    }
}
