//! The generated fleet is right, always the same, and never written over something.

mod common;

use std::collections::HashSet;
use std::path::PathBuf;

use common::Folder;
use fleet::generate::{Options, huinan};

#[test]
fn a_small_county_loads() {
    let folder = Folder::new();
    let options = Options { model: PathBuf::from("../models/street-demo"), ..Options::of_size(600) };
    assert_eq!(options.cameras(), 600);
    huinan(&folder.path("site"), &options).unwrap();
    let fleet = folder.load("site/huiyan.yaml").unwrap();
    assert_eq!(fleet.cameras.len(), 600);
    let classes: HashSet<&str> = fleet.cameras.iter().map(|camera| &*camera.class).collect();
    assert_eq!(classes.len(), 3);
    let grids: HashSet<&str> = fleet.cameras.iter().filter_map(|camera| camera.grid.as_deref()).collect();
    assert!(grids.len() <= options.grids && grids.len() * 2 > options.grids, "{}", grids.len());
    let logins: HashSet<&str> = fleet
        .cameras
        .iter()
        .filter_map(|camera| Some(camera.credentials.as_ref()?.password.reveal()))
        .collect();
    assert!(logins.len() > 5, "{logins:?}");

    huinan(&folder.path("twin"), &options).unwrap();
    assert_eq!(folder.load("twin/huiyan.yaml").unwrap().config_hash, fleet.config_hash);
    huinan(&folder.path("other"), &Options { seed: 2, ..options.clone() }).unwrap();
    assert_ne!(folder.load("other/huiyan.yaml").unwrap().config_hash, fleet.config_hash);

    let again = huinan(&folder.path("site"), &options).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn the_county_has_its_numbers() {
    let county = Options::default();
    assert_eq!((county.cameras(), county.grids), (29_720, 485));
    assert_eq!(Options::of_size(29_720), county);
}
