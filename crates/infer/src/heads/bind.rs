//! Which of a file's outputs are the tensors that a head reads.

use fleet::ModelCard;

use super::{Head, MAX_PARTS, Numbers, Part, Tensor};
use crate::agree::{Disagreement, differ};

/// A form, and for each of its parts the index of its tensor among the file's outputs.
type Chosen = (Box<dyn Head>, Vec<usize>);

/// The first form whose tensors the file has, with the index of each. Otherwise what the file and the form that is
/// closest to it disagree in.
pub(super) fn choose(
    card: &ModelCard,
    forms: Vec<Box<dyn Head>>,
    outputs: &[Tensor],
) -> Result<Chosen, Vec<Disagreement>> {
    let named = named(card, outputs)?;
    let offered = named.as_deref().map_or(outputs.len(), <[usize]>::len);
    let mut best: Option<(usize, Vec<Disagreement>)> = None;
    for form in forms {
        let parts = form.parts();
        if parts.len() > MAX_PARTS {
            continue;
        }
        let bound = match &named {
            Some(named) => in_order(card, &parts, outputs, named),
            None => by_shape(card, &parts, outputs),
        };
        match bound {
            Ok(bound) => return Ok((form, bound)),
            Err(list) => {
                // With as many outputs as the form has parts, it is probably the one that was meant.
                let distance = parts.len().abs_diff(offered) * 100 + list.len();
                if best.as_ref().is_none_or(|(least, _)| distance < *least) {
                    best = Some((distance, list));
                }
            }
        }
    }
    Err(best.map_or_else(Vec::new, |(_, list)| list))
}

/// The outputs that the card names.
fn named(card: &ModelCard, outputs: &[Tensor]) -> Result<Option<Vec<usize>>, Vec<Disagreement>> {
    if card.output.names.is_empty() {
        return Ok(None);
    }
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for name in &card.output.names {
        match outputs.iter().position(|output| output.name == *name) {
            Some(index) => found.push(index),
            None => {
                let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
                wrong.push(differ("output.names", name, format_args!("has {}", names.join(", "))));
            }
        }
    }
    if wrong.is_empty() { Ok(Some(found)) } else { Err(wrong) }
}

/// The outputs given, in this order.
fn in_order(
    card: &ModelCard,
    parts: &[Part],
    outputs: &[Tensor],
    order: &[usize],
) -> Result<Vec<usize>, Vec<Disagreement>> {
    if parts.len() != order.len() {
        return Err(vec![count(card, parts, order.len())]);
    }
    let list: Vec<_> =
        parts.iter().zip(order).flat_map(|(part, index)| unfit(card, part, &outputs[*index])).collect();
    if list.is_empty() { Ok(order.to_vec()) } else { Err(list) }
}

/// For each part the first output, not taken by an earlier one, whose type and shape fit.
fn by_shape(card: &ModelCard, parts: &[Part], outputs: &[Tensor]) -> Result<Vec<usize>, Vec<Disagreement>> {
    // Without names, further outputs would be a guess about which ones do not matter.
    if parts.len() != outputs.len() {
        return Err(vec![count(card, parts, outputs.len())]);
    }
    let mut bound: Vec<usize> = Vec::with_capacity(parts.len());
    for part in parts {
        let free = |index: &usize| !bound.contains(index) && unfit(card, part, &outputs[*index]).is_empty();
        // Labels may be floating-point numbers, but where there are whole ones, those are meant.
        let exact = |index: &usize| {
            part.numbers == Numbers::Floats || outputs[*index].element.as_deref() != Some("f32")
        };
        let candidates = || (0..outputs.len()).filter(free);
        let like_its_name = |index: &usize| outputs[*index].name.to_lowercase().contains(part.what);
        let found = candidates()
            .find(|index| like_its_name(index) && exact(index))
            .or_else(|| candidates().find(like_its_name))
            .or_else(|| candidates().find(exact))
            .or_else(|| candidates().next());
        match found {
            Some(index) => bound.push(index),
            // In the file's order, so that the message compares what was probably meant.
            None => return in_order(card, parts, outputs, &(0..outputs.len()).collect::<Vec<_>>()),
        }
    }
    Ok(bound)
}

fn unfit(card: &ModelCard, part: &Part, output: &Tensor) -> Vec<Disagreement> {
    if !part.takes(output.element.as_deref()) {
        let card = format_args!("{}, with {} as f32", card.head.name(), part.what);
        return vec![differ("head", card, format_args!("gives {} ({})", output.element(), output.name))];
    }
    part.differences(card, &output.shape, None)
}

fn count(card: &ModelCard, parts: &[Part], has: usize) -> Disagreement {
    let outputs = |n: usize| if n == 1 { "one output".to_owned() } else { format!("{n} outputs") };
    let what: Vec<_> = parts.iter().map(|part| part.what).collect();
    let wanted = match parts.len() {
        1 => format!("{}, with one output", card.head.name()),
        n => format!("{}, with {n} outputs ({})", card.head.name(), what.join(", ")),
    };
    if card.output.names.is_empty() {
        differ("head", wanted, format_args!("has {} (name them in output.names)", outputs(has)))
    } else {
        differ("output.names", wanted, format_args!("is read by {has} names"))
    }
}
