//! A model that takes one picture at a time, made to take any number.
//!
//! Many exports fix the batch at 1, though nothing in the network needs it. The file is rewritten where it says so: the
//! first dimension of its inputs and outputs, and the first side of the shapes that its `Reshape` nodes are given.
//! Intermediate shapes, which would contradict that, go. Whether the result is still the same model is not
//! argued but tried: three pictures at once must give what each gives alone.
//!
//! The file is Protocol Buffers (onnx.proto); only what is changed is taken apart, the rest is copied as it is.

use std::collections::HashSet;

use ort::session::Session;
use ort::value::{DynValue, Tensor as Value};

use crate::Runtime;
use crate::run::tensor;

/// How far apart outputs may lie.
const TOLERANCE: f32 = 1e-4;
/// Pictures tried at once.
const TRIED: usize = 3;

/// Why a model was not made to take any number of pictures.
#[derive(Debug, thiserror::Error)]
pub enum RebatchError {
    /// Its bytes are no ONNX file.
    #[error("is no ONNX file: {0}")]
    Broken(&'static str),
    /// There is nothing to do, or no telling what.
    #[error("its first input does not take exactly one picture ({0})")]
    NotOne(String),
    /// ONNX Runtime refuses the one or the other.
    #[error("ONNX Runtime: {0}")]
    Run(#[from] ort::Error),
    /// The network does depend on it.
    #[error(
        "three pictures at once do not give what each gives alone: {0}; keep it at one picture, one session each"
    )]
    Differs(String),
}

/// The file's content, rewritten to take any number of pictures at once and tried.
pub fn rebatch(runtime: &Runtime, content: &[u8]) -> Result<Vec<u8>, RebatchError> {
    let one = open(runtime, content)?;
    let input = one.inputs().first().map(tensor).ok_or_else(|| RebatchError::NotOne("it has none".into()))?;
    if input.shape.first() != Some(&1) || input.element.as_deref() != Some("f32") {
        return Err(RebatchError::NotOne(crate::heads::dimensions(&input.shape)));
    }
    let made = rewrite(content)?;
    let many = open(runtime, &made).map_err(|error| RebatchError::Differs(error.to_string()))?;
    compare(one, many, &input.shape)?;
    Ok(made)
}

fn open(runtime: &Runtime, content: &[u8]) -> ort::Result<Session> {
    Session::builder(runtime.environment())?.with_intra_threads(1)?.commit_from_memory(content)
}

fn compare(mut one: Session, mut many: Session, shape: &[i64]) -> Result<(), RebatchError> {
    let sides: Vec<usize> = shape[1..].iter().map(|side| usize::try_from(*side).unwrap_or(64)).collect();
    let len: usize = sides.iter().product();
    // Anything but constant, the same on every machine.
    let sample = |i: usize| ((i * 2_654_435_761) % 256) as f32;
    let samples: Vec<f32> = (0..TRIED * len).map(sample).collect();
    let with = |count: usize| [&[count][..], &sides].concat();
    let differs = |text: String| RebatchError::Differs(text);
    let together = many
        .run([Value::from_array((with(TRIED), samples.clone()))?.into_dyn().into()]
            as [ort::session::SessionInputValue<'_>; 1])
        .map_err(|error| differs(error.to_string()))?;
    for (picture, samples) in samples.chunks_exact(len).enumerate() {
        let input = Value::from_array((with(1), samples.to_vec()))?.into_dyn();
        let alone = one.run([input.into()] as [ort::session::SessionInputValue<'_>; 1])?;
        for index in 0..alone.len() {
            let distance = distance(&alone[index], &together[index], picture).map_err(differs)?;
            if distance > TOLERANCE {
                return Err(differs(format!("output {index} of picture {picture} is {distance} off")));
            }
        }
    }
    Ok(())
}

/// The largest difference between an output alone and its share of one for several pictures, in shares of what is
/// large.
fn distance(alone: &DynValue, together: &DynValue, picture: usize) -> Result<f32, String> {
    let (Ok((_, a)), Ok((_, b))) = (alone.try_extract_tensor::<f32>(), together.try_extract_tensor::<f32>())
    else {
        return Err("an output is not f32".into());
    };
    let Some(b) = b.get(picture * a.len()..(picture + 1) * a.len()).filter(|_| b.len() == TRIED * a.len())
    else {
        return Err(format!("an output has {} values instead of {}", b.len(), TRIED * a.len()));
    };
    Ok(a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f32::max))
}

// Fields of onnx.proto.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const GRAPH_VALUE_INFO: u64 = 13;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_OP_TYPE: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const ATTRIBUTE_TENSOR: u64 = 5;
const TENSOR_INT64_DATA: u64 = 7;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW_DATA: u64 = 9;
const VALUE_NAME: u64 = 1;
const VALUE_TYPE: u64 = 2;
const TYPE_TENSOR: u64 = 1;
const TENSOR_SHAPE: u64 = 2;
const SHAPE_DIM: u64 = 1;

/// One field of a message.
struct Field<'m> {
    number: u64,
    /// The whole field, tag and all.
    whole: &'m [u8],
    /// The content, where it has a length: text, bytes, a message, packed numbers.
    inside: Option<&'m [u8]>,
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, RebatchError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(RebatchError::Broken("it ends inside a number"))?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(RebatchError::Broken("a number is too long"))
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, RebatchError> {
    let (mut list, mut at) = (Vec::new(), 0);
    while at < message.len() {
        let start = at;
        let tag = varint(message, &mut at)?;
        let mut inside = None;
        match tag & 7 {
            0 => drop(varint(message, &mut at)?),
            1 => at += 8,
            5 => at += 4,
            2 => {
                let len = usize::try_from(varint(message, &mut at)?).unwrap_or(usize::MAX);
                let end = at.checked_add(len).filter(|end| *end <= message.len());
                let end = end.ok_or(RebatchError::Broken("a part is longer than the file"))?;
                inside = Some(&message[at..end]);
                at = end;
            }
            _ => return Err(RebatchError::Broken("it has a field of no known kind")),
        }
        let whole = message.get(start..at).ok_or(RebatchError::Broken("it ends inside a field"))?;
        list.push(Field { number: tag >> 3, whole, inside });
    }
    Ok(list)
}

/// The message with some of its fields changed: `change` gives the new content, or `None` to keep the field.
fn changed(
    message: &[u8],
    mut change: impl FnMut(&Field<'_>) -> Result<Option<Vec<u8>>, RebatchError>,
) -> Result<Vec<u8>, RebatchError> {
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message)? {
        match change(&field)? {
            Some(inside) => {
                put_varint(field.number << 3 | 2, &mut out);
                put_varint(inside.len() as u64, &mut out);
                out.extend(inside);
            }
            None => out.extend_from_slice(field.whole),
        }
    }
    Ok(out)
}

/// The first field of this number that has a content.
fn inside(message: &[u8], number: u64) -> Result<&[u8], RebatchError> {
    let found =
        fields(message)?.into_iter().find(|field| field.number == number).and_then(|field| field.inside);
    Ok(found.unwrap_or_default())
}

fn rewrite(model: &[u8]) -> Result<Vec<u8>, RebatchError> {
    changed(model, |field| match (field.number, field.inside) {
        (MODEL_GRAPH, Some(graph)) => rewrite_graph(graph).map(Some),
        _ => Ok(None),
    })
}

fn rewrite_graph(graph: &[u8]) -> Result<Vec<u8>, RebatchError> {
    let (mut shapes, mut weights) = (HashSet::new(), HashSet::new());
    for field in fields(graph)? {
        match (field.number, field.inside) {
            (GRAPH_NODE, Some(node)) if inside(node, NODE_OP_TYPE)? == b"Reshape" => {
                let inputs = fields(node)?.into_iter().filter(|f| f.number == NODE_INPUT);
                shapes.extend(inputs.filter_map(|f| f.inside).nth(1));
            }
            (GRAPH_INITIALIZER, Some(tensor)) => drop(weights.insert(inside(tensor, TENSOR_NAME)?)),
            _ => {}
        }
    }
    let mut out = Vec::with_capacity(graph.len());
    for field in fields(graph)?.into_iter().filter(|field| field.number != GRAPH_VALUE_INFO) {
        let new = match (field.number, field.inside) {
            (GRAPH_INPUT, Some(value)) if weights.contains(inside(value, VALUE_NAME)?) => None,
            (GRAPH_INPUT | GRAPH_OUTPUT, Some(value)) => Some(free_batch(value)?),
            (GRAPH_INITIALIZER, Some(tensor)) if shapes.contains(inside(tensor, TENSOR_NAME)?) => {
                Some(as_it_is(tensor)?)
            }
            (GRAPH_NODE, Some(node))
                if inside(node, NODE_OP_TYPE)? == b"Constant"
                    && shapes.contains(inside(node, NODE_OUTPUT)?) =>
            {
                Some(constant_as_it_is(node)?)
            }
            _ => None,
        };
        match new {
            Some(inside) => {
                put_varint(field.number << 3 | 2, &mut out);
                put_varint(inside.len() as u64, &mut out);
                out.extend(inside);
            }
            None => out.extend_from_slice(field.whole),
        }
    }
    Ok(out)
}

/// Makes another message of one.
type Change<'c> = &'c dyn Fn(&[u8]) -> Result<Vec<u8>, RebatchError>;

/// A value whose first dimension is 1, with one that is open.
fn free_batch(value: &[u8]) -> Result<Vec<u8>, RebatchError> {
    let within = |message: &[u8], number: u64, change: Change<'_>| {
        changed(message, |field| match field.inside {
            Some(inside) if field.number == number => change(inside).map(Some),
            _ => Ok(None),
        })
    };
    let shape = |shape: &[u8]| {
        let mut first = true;
        changed(shape, |field| {
            let is_first = field.number == SHAPE_DIM && std::mem::take(&mut first);
            // `dim_value: 1` becomes `dim_param: "batch"`.
            Ok((is_first && field.inside == Some(&[0x08, 0x01])).then(|| [&[0x12, 5][..], b"batch"].concat()))
        })
    };
    within(value, VALUE_TYPE, &|kind| {
        within(kind, TYPE_TENSOR, &|tensor| within(tensor, TENSOR_SHAPE, &|s| shape(s)))
    })
}

/// The shape for a `Reshape`, its first side left to the number of pictures. Where another side is left open, a leading
/// 1 becomes 0, "as it is". Its numbers are raw, or packed, or one field each; they come out raw.
fn as_it_is(tensor: &[u8]) -> Result<Vec<u8>, RebatchError> {
    let (mut out, mut sides) = (Vec::with_capacity(tensor.len()), Vec::new());
    for field in fields(tensor)? {
        match (field.number, field.inside) {
            (TENSOR_RAW_DATA, Some(data)) => {
                sides.extend(data.as_chunks().0.iter().map(|side| i64::from_le_bytes(*side)));
            }
            (TENSOR_INT64_DATA, inside) => {
                // One number by itself comes behind its tag, of one byte.
                let data = inside.unwrap_or(&field.whole[1..]);
                let mut at = 0;
                while at < data.len() {
                    sides.push(varint(data, &mut at)?.cast_signed());
                }
            }
            _ => out.extend_from_slice(field.whole),
        }
    }
    let open = sides.iter().skip(1).any(|side| *side == -1);
    match sides.first_mut() {
        Some(first) if open && *first == 1 => *first = 0,
        Some(first) if !open && *first > 0 => *first = -1,
        _ => {}
    }
    put_varint(TENSOR_RAW_DATA << 3 | 2, &mut out);
    put_varint(8 * sides.len() as u64, &mut out);
    sides.iter().for_each(|side| out.extend(side.to_le_bytes()));
    Ok(out)
}

fn constant_as_it_is(node: &[u8]) -> Result<Vec<u8>, RebatchError> {
    changed(node, |field| match (field.number, field.inside) {
        (NODE_ATTRIBUTE, Some(attribute)) => changed(attribute, |field| match (field.number, field.inside) {
            (ATTRIBUTE_TENSOR, Some(tensor)) => as_it_is(tensor).map(Some),
            _ => Ok(None),
        })
        .map(Some),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_an_error() {
        let mut random = fastrand::Rng::with_seed(5);
        let good = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/moody.onnx")).unwrap();
        assert!(rewrite(&[]).unwrap().is_empty());
        for _ in 0..2000 {
            let mut bytes = good.clone();
            bytes.truncate(random.usize(1..=good.len()));
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            // Whatever it makes of them, it ends.
            drop(rewrite(&bytes));
        }
        assert!(rewrite(&good).unwrap().len() < good.len() + 40);
        assert!(matches!(rewrite(&[0x3a, 0xff]), Err(RebatchError::Broken(_))));
    }
}
