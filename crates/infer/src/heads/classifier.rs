//! One class for the whole picture: what a `confirm` step asks of a crop.
//!
//! One output, `batch × classes`, 1×1000 on ImageNet. Logits through a softmax (`activation: sigmoid` where classes do not
//! exclude each other, `none` where the model has done it). The box is the whole picture, once for each class that scores
//! high enough.

use fleet::{Activation, ModelCard};

use super::{Dim, Found, Head, Output, Part, sigmoid};

/// `batch × classes`.
#[derive(Debug)]
pub(super) struct Classifier {
    classes: usize,
    activation: Activation,
    size: [f32; 2],
}

impl Classifier {
    pub fn new(card: &ModelCard) -> Self {
        Self {
            classes: card.classes.len(),
            activation: card.output.activation,
            size: [card.width as f32, card.height as f32],
        }
    }
}

impl Head for Classifier {
    fn parts(&self) -> Vec<Part> {
        let classes = Dim::Classes { before: 0, after: 0, count: self.classes };
        vec![Part::floats("output", [Dim::Batch, classes])]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let values = parts[0].values.floats();
        let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = values.iter().map(|value| (value - top).exp()).sum();
        let [width, height] = self.size;
        for (class, &value) in values.iter().enumerate() {
            let score = match self.activation {
                Activation::Softmax => (value - top).exp() / sum,
                Activation::Sigmoid => sigmoid(value),
                Activation::None => value,
            };
            found.push(class, score, [0.0, 0.0, width, height]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    fn run(activation: Activation, values: &[f32]) -> (Vec<Candidate>, u64) {
        let mut card = testing::card_of(fleet::Head::Classifier, 64, 32, 3);
        card.output.activation = activation;
        testing::decode(&card, &[Given::floats("logits", &[1, 3], values)])
    }

    fn whole(class: usize, score: f32) -> Candidate {
        Candidate { class, score, x0: 0.0, y0: 0.0, x1: 64.0, y1: 32.0 }
    }

    #[test]
    fn shares_and_single_scores() {
        let (found, broken) =
            run(Activation::Softmax, &[1f32.ln() + 100.0, 5f32.ln() + 100.0, 4f32.ln() + 100.0]);
        close(&found, &[whole(1, 0.5), whole(2, 0.4)]);
        assert_eq!(broken, 0);
        close(&run(Activation::Sigmoid, &[3f32.ln(), 0.0, -9.0]).0, &[whole(0, 0.75), whole(1, 0.5)]);
        close(&run(Activation::None, &[0.1, 0.2, 0.7]).0, &[whole(2, 0.7)]);
    }

    #[test]
    fn nan_spoils_a_softmax_whole_and_the_others_singly() {
        assert_eq!(run(Activation::Softmax, &[f32::NAN, 0.0, 0.0]), (vec![], 3));
        assert_eq!(run(Activation::None, &[f32::NAN, 0.1, 0.9]), (vec![whole(2, 0.9)], 1));
    }
}
