//! Whether a model file is what its card says.

use std::fmt;

use fleet::{Head, ModelCard};

use crate::heads::yolox;

/// An input or output of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    /// The type of its elements, as ONNX Runtime's binding names it: `f32`, `u8`, …; `None` for what is no tensor.
    pub element: Option<String>,
    /// Its dimensions; -1 for one that may be anything.
    pub shape: Vec<i64>,
}

/// One point in which a card and its file differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The key in the card.
    pub key: &'static str,
    /// What the card says.
    pub card: String,
    /// What the file says.
    pub file: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the card says {}, the file {}", self.key, self.card, self.file)
    }
}

fn differ(key: &'static str, card: impl fmt::Display, file: impl fmt::Display) -> Disagreement {
    Disagreement { key, card: card.to_string(), file: file.to_string() }
}

/// `1x3x416x416`, with `?` for what may be anything.
pub(crate) fn dimensions(shape: &[i64]) -> String {
    let text: Vec<_> = shape.iter().map(|&d| if d < 0 { "?".to_owned() } else { d.to_string() }).collect();
    text.join("x")
}

/// Whether a dimension of the file allows the value.
fn allows(dimension: i64, value: u64) -> bool {
    dimension < 0 || u64::try_from(dimension) == Ok(value)
}

/// Everything in which the card and the file differ; empty when they agree.
pub(crate) fn differences(card: &ModelCard, inputs: &[Tensor], outputs: &[Tensor]) -> Vec<Disagreement> {
    let mut list = Vec::new();
    input(card, inputs, &mut list);
    output(card, outputs, &mut list);
    list
}

/// What a card and the shape of a first f32 output disagree in.
pub(crate) fn output_differences(card: &ModelCard, shape: &[i64]) -> Vec<Disagreement> {
    let mut list = Vec::new();
    output(card, &[Tensor { element: Some("f32".into()), shape: shape.to_vec() }], &mut list);
    list
}

fn input(card: &ModelCard, inputs: &[Tensor], list: &mut Vec<Disagreement>) {
    let [tensor] = inputs else {
        list.push(differ("input", "one picture tensor", format_args!("has {} inputs", inputs.len())));
        return;
    };
    if tensor.element.as_deref() != Some("f32") {
        list.push(differ("input", "f32 samples", format_args!("takes {}", element(tensor))));
        return;
    }
    let &[batch, planes, height, width] = &*tensor.shape else {
        list.push(differ("input", "batch x 3 x height x width", takes(&tensor.shape)));
        return;
    };
    if !allows(planes, 3) {
        list.push(differ("input", "3 colour planes (batch x 3 x height x width)", takes(&tensor.shape)));
        return;
    }
    if !allows(width, card.width.into()) {
        list.push(differ("input.width", card.width, takes(&tensor.shape)));
    }
    if !allows(height, card.height.into()) {
        list.push(differ("input.height", card.height, takes(&tensor.shape)));
    }
    // A file that takes any number would run a card of one, but the card is what people plan with.
    match (card.batch, u64::try_from(batch)) {
        (None, Ok(fixed)) => {
            list.push(differ("batch", "any number of pictures", format_args!("takes {fixed}")))
        }
        (Some(n), Ok(fixed)) if n as u64 != fixed => {
            list.push(differ("batch", n, format_args!("takes {fixed}")));
        }
        (Some(n), Err(_)) => list.push(differ("batch", n, "takes any number of pictures")),
        (None, Err(_)) | (Some(_), Ok(_)) => {}
    }
}

fn element(tensor: &Tensor) -> &str {
    tensor.element.as_deref().unwrap_or("what is no tensor")
}

fn takes(shape: &[i64]) -> String {
    format!("takes {}", dimensions(shape))
}

fn output(card: &ModelCard, outputs: &[Tensor], list: &mut Vec<Disagreement>) {
    match card.head {
        Head::Yolox => yolox_output(card, outputs, list),
    }
}

fn yolox_output(card: &ModelCard, outputs: &[Tensor], list: &mut Vec<Disagreement>) {
    let Some(anchors) = yolox::anchors(card.width, card.height) else {
        let size = format!("yolox at {}x{}", card.width, card.height);
        list.push(differ("head", size, "cannot: yolox needs multiples of 32"));
        return;
    };
    let [tensor] = outputs else {
        list.push(differ("head", "yolox, with one output", format_args!("has {} outputs", outputs.len())));
        return;
    };
    if tensor.element.as_deref() != Some("f32") {
        list.push(differ("head", "yolox, with f32 output", format_args!("gives {}", element(tensor))));
        return;
    }
    let shape = dimensions(&tensor.shape);
    let &[_, boxes, values] = &*tensor.shape else {
        list.push(differ("head", "yolox, batch x boxes x (5 + classes)", format_args!("gives {shape}")));
        return;
    };
    if !allows(boxes, anchors as u64) {
        let wanted = format!("yolox, {anchors} boxes at {}x{}", card.width, card.height);
        list.push(differ("head", wanted, format_args!("gives {boxes} ({shape})")));
    }
    let classes = card.classes.len();
    if !allows(values, (yolox::BEFORE_CLASSES + classes) as u64) {
        let given = values - yolox::BEFORE_CLASSES as i64;
        list.push(differ("classes", classes, format_args!("gives {given} (output {shape}, 5 + classes)")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn tensor(element: &str, shape: &[i64]) -> Tensor {
        Tensor { element: Some(element.into()), shape: shape.into() }
    }

    fn said(card: &ModelCard, input: &[i64], output: &[i64]) -> Vec<String> {
        let list = differences(card, &[tensor("f32", input)], &[tensor("f32", output)]);
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_card_that_tells_the_truth_passes() {
        let mut card = testing::card(416, 416, 80);
        assert_eq!(said(&card, &[-1, 3, 416, 416], &[-1, 3549, 85]), [""; 0]);
        assert_eq!(said(&card, &[-1, -1, -1, -1], &[-1, -1, -1]), [""; 0]);
        card.batch = Some(4);
        assert_eq!(said(&card, &[4, 3, 416, 416], &[4, 3549, 85]), [""; 0]);
    }

    #[test]
    fn every_lie_is_named_with_both_values() {
        let mut card = testing::card(640, 416, 3);
        assert_eq!(
            said(&card, &[1, 3, 416, 416], &[1, 3549, 85]),
            [
                "input.width: the card says 640, the file takes 1x3x416x416",
                "batch: the card says any number of pictures, the file takes 1",
                "head: the card says yolox, 5460 boxes at 640x416, the file gives 3549 (1x3549x85)",
                "classes: the card says 3, the file gives 80 (output 1x3549x85, 5 + classes)",
            ]
        );
        card = testing::card(416, 416, 80);
        card.batch = Some(4);
        assert_eq!(
            said(&card, &[1, 3, 416, 416], &[1, 3549, 85]),
            ["batch: the card says 4, the file takes 1"]
        );
        assert_eq!(
            said(&card, &[-1, 3, 416, 416], &[-1, 3549, 85]),
            ["batch: the card says 4, the file takes any number of pictures"]
        );
        card.batch = None;
        assert_eq!(
            said(&card, &[-1, 416, 416, 3], &[-1, 52, 52, 85]),
            [
                "input: the card says 3 colour planes (batch x 3 x height x width), the file takes ?x416x416x3",
                "head: the card says yolox, batch x boxes x (5 + classes), the file gives ?x52x52x85",
            ]
        );
        card.height = 400;
        assert_eq!(
            said(&card, &[-1, 3, 400, 416], &[-1, 3549, 85]),
            ["head: the card says yolox at 416x400, the file cannot: yolox needs multiples of 32"]
        );
    }

    #[test]
    fn other_types_and_numbers_of_tensors_are_named() {
        let card = testing::card(416, 416, 80);
        let (input, output) = (tensor("f32", &[-1, 3, 416, 416]), tensor("f32", &[-1, 3549, 85]));
        let list = differences(&card, &[tensor("u8", &[-1, 3, 416, 416])], &[output.clone(), output]);
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            list,
            [
                "input: the card says f32 samples, the file takes u8",
                "head: the card says yolox, with one output, the file has 2 outputs",
            ]
        );
        let no_tensor = Tensor { element: None, shape: Vec::new() };
        let list = differences(&card, &[input.clone(), input], &[no_tensor]);
        assert_eq!(list.len(), 2);
    }
}
