//! Whether a model file is what its card says.

use std::fmt;

use fleet::{Layout, ModelCard};

use crate::heads::{Reader, Tensor, dimensions};

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

pub(crate) fn differ(key: &'static str, card: impl fmt::Display, file: impl fmt::Display) -> Disagreement {
    Disagreement { key, card: card.to_string(), file: file.to_string() }
}

/// Whether a dimension of the file allows the value.
fn allows(dimension: i64, value: u64) -> bool {
    dimension < 0 || u64::try_from(dimension) == Ok(value)
}

/// A file's tensors as the card describes them: which input takes what, and how the outputs are read.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// The input that takes the picture.
    pub picture: Picture,
    /// For each further input of the card its index among the file's inputs, and whether it takes whole numbers.
    pub extra: Vec<(usize, bool)>,
    /// Reads the outputs.
    pub reader: Reader,
}

/// The input that takes the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Its index among the file's inputs.
    pub index: usize,
    /// It takes bytes.
    pub bytes: bool,
}

/// Compares the card with the file's inputs and outputs, or says everything in which they differ.
pub(crate) fn agree(
    card: &ModelCard,
    inputs: &[Tensor],
    outputs: &[Tensor],
) -> Result<Agreed, Vec<Disagreement>> {
    let mut list = Vec::new();
    let extra = extra(card, inputs, &mut list);
    let picture = picture(card, inputs, &mut list);
    match Reader::new(card, outputs) {
        Ok(reader) if list.is_empty() => {
            // Nothing to say means that it was found.
            picture.map(|picture| Agreed { picture, extra, reader }).ok_or(list)
        }
        Ok(_) => Err(list),
        Err(wrong) => {
            list.extend(wrong);
            Err(list)
        }
    }
}

/// The inputs beside the picture.
fn extra(card: &ModelCard, inputs: &[Tensor], list: &mut Vec<Disagreement>) -> Vec<(usize, bool)> {
    let mut found = Vec::new();
    for (name, _) in &card.extra {
        let Some(index) = inputs.iter().position(|input| input.name == *name) else {
            list.push(differ("input.extra", name, format_args!("has {}", names(inputs))));
            continue;
        };
        let input = &inputs[index];
        let wanted = format_args!("{name}, two numbers per picture");
        match (input.element.as_deref(), &*input.shape) {
            (Some(element @ ("f32" | "i64")), [_, -1 | 2]) => found.push((index, element == "i64")),
            (Some("f32" | "i64"), shape) => list.push(differ("input.extra", wanted, takes(shape))),
            _ => list.push(differ("input.extra", wanted, format_args!("takes {}", input.element()))),
        }
    }
    found
}

fn names(tensors: &[Tensor]) -> String {
    tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn picture(card: &ModelCard, inputs: &[Tensor], list: &mut Vec<Disagreement>) -> Option<Picture> {
    let free: Vec<_> = (0..inputs.len())
        .filter(|index| card.extra.iter().all(|(name, _)| *name != inputs[*index].name))
        .collect();
    let index = match (&card.input_name, &*free) {
        (Some(name), _) => {
            let Some(index) = inputs.iter().position(|input| input.name == *name) else {
                list.push(differ("input.name", name, format_args!("has {}", names(inputs))));
                return None;
            };
            if let Some(other) = free.iter().find(|other| **other != index) {
                let name = &inputs[*other].name;
                list.push(differ(
                    "input.extra",
                    format_args!("nothing of {name}"),
                    format_args!("needs {name}"),
                ));
            }
            index
        }
        (None, [index]) => *index,
        (None, _) => {
            let has = format_args!("has {} inputs: {}", inputs.len(), names(inputs));
            list.push(differ("input", "one picture tensor", has));
            return None;
        }
    };
    let tensor = &inputs[index];
    let bytes = match tensor.element.as_deref() {
        Some("f32") => false,
        Some("u8") => true,
        _ => {
            list.push(differ("input", "f32 samples", format_args!("takes {}", tensor.element())));
            return None;
        }
    };
    if bytes && (card.range.mean != [0.0; 3] || card.range.deviation != [1.0; 3]) {
        list.push(differ("input.mean", "another range than 0 to 255", "takes bytes"));
    }
    sides(card, tensor, list);
    Some(Picture { index, bytes })
}

fn sides(card: &ModelCard, tensor: &Tensor, list: &mut Vec<Disagreement>) {
    let (form, order) = match card.layout {
        Layout::Nchw => ("batch x 3 x height x width", [1, 2, 3]),
        Layout::Nhwc => ("batch x height x width x 3", [3, 1, 2]),
    };
    let &[batch, ..] = &*tensor.shape else {
        list.push(differ("input", form, takes(&tensor.shape)));
        return;
    };
    let [Some(planes), Some(height), Some(width)] = order.map(|i| tensor.shape.get(i).copied()) else {
        list.push(differ("input", form, takes(&tensor.shape)));
        return;
    };
    if tensor.shape.len() != 4 || !allows(planes, 3) {
        let card = format!("3 colour planes ({form})");
        list.push(differ("input", card, takes(&tensor.shape)));
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
            list.push(differ("batch", "any number of pictures", format_args!("takes {fixed}")));
        }
        (Some(n), Ok(fixed)) if n as u64 != fixed => {
            list.push(differ("batch", n, format_args!("takes {fixed}")));
        }
        (Some(n), Err(_)) => list.push(differ("batch", n, "takes any number of pictures")),
        (None, Err(_)) | (Some(_), Ok(_)) => {}
    }
}

fn takes(shape: &[i64]) -> String {
    format!("takes {}", dimensions(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn tensor(element: &str, shape: &[i64]) -> Tensor {
        named("tensor", element, shape)
    }

    fn named(name: &str, element: &str, shape: &[i64]) -> Tensor {
        Tensor { name: name.into(), element: Some(element.into()), shape: shape.into() }
    }

    fn differences(card: &ModelCard, inputs: &[Tensor], outputs: &[Tensor]) -> Vec<Disagreement> {
        agree(card, inputs, outputs).err().unwrap_or_default()
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
    }

    #[test]
    fn other_types_and_numbers_of_tensors_are_named() {
        let card = testing::card(416, 416, 80);
        let (input, output) = (tensor("f32", &[-1, 3, 416, 416]), tensor("f32", &[-1, 3549, 85]));
        let list = differences(&card, &[tensor("f64", &[-1, 3, 416, 416])], &[output.clone(), output]);
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            list,
            [
                "input: the card says f32 samples, the file takes f64",
                "head: the card says yolox, with one output, the file has 2 outputs (name them in output.names)",
            ]
        );
        let no_tensor = Tensor { name: String::new(), element: None, shape: Vec::new() };
        let list = differences(&card, &[input.clone(), input], &[no_tensor]);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn bytes_pixels_side_by_side_and_further_inputs_agree() {
        let mut card = testing::card_of(fleet::Head::Detr, 640, 480, 3);
        card.layout = Layout::Nhwc;
        card.extra = vec![("orig_target_sizes".into(), fleet::Extra::WidthHeight)];
        let image = named("images", "u8", &[-1, 480, 640, 3]);
        let size = named("orig_target_sizes", "i64", &[-1, 2]);
        let outputs = [
            named("labels", "i64", &[-1, 300]),
            named("boxes", "f32", &[-1, 300, 4]),
            named("scores", "f32", &[-1, 300]),
        ];
        let agreed = agree(&card, &[size.clone(), image.clone()], &outputs).unwrap();
        assert_eq!((agreed.picture, &*agreed.extra), (Picture { index: 1, bytes: true }, &[(0, true)][..]));
        let list = differences(&card, std::slice::from_ref(&image), &outputs);
        assert_eq!(list[0].to_string(), "input.extra: the card says orig_target_sizes, the file has images");
        card.range.deviation = [255.0; 3];
        let list = differences(&card, &[size.clone(), image.clone()], &outputs);
        assert_eq!(
            list[0].to_string(),
            "input.mean: the card says another range than 0 to 255, the file takes bytes"
        );
        card.range.deviation = [1.0; 3];
        card.extra.clear();
        let list = differences(&card, &[size.clone(), image.clone()], &outputs);
        assert_eq!(
            list[0].to_string(),
            "input: the card says one picture tensor, the file has 2 inputs: orig_target_sizes, images"
        );
        card.input_name = Some("images".into());
        let list = differences(&card, &[size, image], &outputs);
        assert_eq!(
            list[0].to_string(),
            "input.extra: the card says nothing of orig_target_sizes, the file needs orig_target_sizes"
        );
    }

    #[test]
    fn outputs_are_found_by_name_where_the_card_gives_names() {
        let mut card = testing::card(416, 416, 80);
        let input = tensor("f32", &[-1, 3, 416, 416]);
        let outputs = [named("features", "f32", &[-1, 52, 52]), named("boxes", "f32", &[-1, 3549, 85])];
        card.output.names = vec!["boxes".into()];
        assert_eq!(agree(&card, std::slice::from_ref(&input), &outputs).unwrap().reader.outputs(), [1]);
        card.output.names = vec!["bboxes".into()];
        let list = differences(&card, &[input], &outputs);
        assert_eq!(list[0].to_string(), "output.names: the card says bboxes, the file has features, boxes");
    }
}
