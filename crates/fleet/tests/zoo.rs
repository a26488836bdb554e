//! The cards that come with the project.

mod common;

use std::collections::BTreeSet;

use fleet::ModelCard;

#[test]
fn every_card_of_the_zoo_is_right_and_can_be_fetched_or_says_why_not() {
    let mut heads = BTreeSet::new();
    for entry in std::fs::read_dir(common::repository().join("models/zoo")).unwrap().flatten() {
        if !entry.path().is_dir() {
            continue;
        }
        let card =
            ModelCard::load_without_file(&entry.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let url = card.url.as_deref().unwrap();
        assert!(url.starts_with("https://") && card.licence == "Apache-2.0", "{}", card.id);
        assert!(card.sha256.len() == 64 || card.notes.contains("SHA-256"), "{}", card.id);
        heads.insert(card.head.name());
    }
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), ["detr", "nanodet", "picodet", "rtmdet", "yolox"]);
}
