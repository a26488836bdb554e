//! Ground mappings and presets, right and wrong.

mod common;

use common::{BASE, Folder};

/// A street of 8 by 20 m, seen from its end.
const GROUND: &str = "[{at: [0.1, 0.95], place: [126.0462, 42.6851]}, {at: [0.4, 0.4], place: [126.0462, 42.6853]}, \
                      {at: [0.6, 0.4], place: [126.0463, 42.6853]}, {at: [0.9, 0.95], place: [126.0463, 42.6851]}]";
const LOCATION: &str = "location: {x: 126.0462, y: 42.6850}";
const ZONES: &str = "zones: [{id: road, polygon: [[0, 0], [1, 0], [1, 1]]}]";

fn camera(keys: &str) -> String {
    format!("{BASE}cameras: [{{id: a, class: community, url: rtsp://192.0.2.1/, {keys}}}]\n")
}

#[test]
fn four_points_are_read_in_their_cameras_system() {
    let folder = Folder::new();
    let fleet = folder.load_text(&camera(&format!("{LOCATION}, ground: {GROUND}"))).unwrap();
    let ground = fleet.cameras[0].ground.as_ref().unwrap();
    assert_eq!(&*ground.crs, "wgs84");
    assert_eq!((ground.corners[1].0.x, ground.corners[1].1.y), (0.4, 42.6853));
    let (east, north) = fleet::metres(&ground.crs, ground.corners[0].1, ground.corners[2].1);
    assert!((east - 8.17).abs() < 0.05 && (north - 22.24).abs() < 0.05, "{east} {north}");
    // In metres of a projection.
    let metres = "location: {x: 421000, y: 4725000, crs: cgcs2000}, ground: [{at: [0.1, 0.9], place: [421000, 4725010]}, \
                  {at: [0.4, 0.4], place: [421000, 4725030]}, {at: [0.6, 0.4], place: [421008, 4725030]}, \
                  {at: [0.9, 0.9], place: [421008, 4725010]}]";
    let fleet = folder.load_text(&camera(metres)).unwrap();
    assert_eq!(&*fleet.cameras[0].ground.as_ref().unwrap().crs, "cgcs2000");
}

#[test]
fn what_maps_no_street_is_refused_with_the_reason() {
    let folder = Folder::new();
    let [a, b, c, d] =
        ["[126.0462, 42.6851]", "[126.0462, 42.6853]", "[126.0463, 42.6853]", "[126.0463, 42.6851]"];
    let at = ["[0.1, 0.95]", "[0.4, 0.4]", "[0.6, 0.4]", "[0.9, 0.95]"];
    let with = |at: [&str; 4], places: [&str; 4]| {
        let points = at.iter().zip(places).map(|(at, place)| format!("{{at: {at}, place: {place}}}"));
        format!("{LOCATION}, ground: [{}]", points.collect::<Vec<_>>().join(", "))
    };
    let far = "[126.4, 42.6853]";
    let swapped = |place: &str| {
        let (x, y) = place.trim_matches(['[', ']']).split_once(", ").unwrap();
        format!("[{y}, {x}]")
    };
    let all_swapped = [a, b, c, d].map(swapped);
    for (keys, words) in [
        (format!("ground: {GROUND}"), "needs the camera's location"),
        (
            with([at[0], at[1], at[2], "[0.5, 0.4]"], [a, b, c, d]),
            "is no convex quadrilateral in the picture",
        ),
        (with(at, [a, c, b, d]), "is no convex quadrilateral on the ground"),
        (with(at, [d, c, b, a]), "is mirrored"),
        (with(at, [a, b, c, c]), "points 3 and 4 are 0.0 m apart"),
        (with(at, [a, b, far, d]), "m apart; expected 1 to 5000 m"),
        (
            with(at, [&all_swapped[0], &all_swapped[1], &all_swapped[2], &all_swapped[3]]),
            "km from the camera's location",
        ),
        (with(at, [a, b, c, "[north, 1]"]), "is no number"),
        (format!("{LOCATION}, ground: [{{at: [0, 0], place: {a}}}]"), "has 1 entries"),
    ] {
        let mistakes = folder.load_text(&camera(&keys)).unwrap_err().to_string();
        assert!(mistakes.contains(words), "{keys}: {mistakes}");
        assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    }
}

#[test]
fn presets_have_pictures_and_zones_of_their_own() {
    let folder = Folder::new();
    folder.write("gate.jpg", [0xff, 0xd8, 0xff, 0xe0, 0]);
    folder.write("lane.jpg", [0xff, 0xd8, 0xff, 0xe0, 1]);
    let zone = |id: &str| format!("zones: [{{id: {id}, polygon: [[0, 0], [1, 0], [1, 1]]}}]");
    let both = |first: &str, second: &str| {
        camera(&format!("{LOCATION}, presets: [{{id: gate, {first}}}, {{id: lane, {second}}}]"))
    };
    let (gate, lane) = ("references: [gate.jpg]", "references: [lane.jpg, gate.jpg]");
    let text = both(
        &format!("{gate}, {}, ground: {GROUND}", zone("kerb")),
        &format!("{lane}, {}, ignore: [[[0, 0], [1, 0], [1, 1]]]", zone("bay")),
    );
    let fleet = folder.load_text(&text).unwrap();
    let camera_ = &fleet.cameras[0];
    let [first, second] = &camera_.presets[..] else { panic!("{:?}", camera_.presets) };
    assert_eq!((first.zones.clone(), second.zones.clone()), (0..1, 1..2));
    assert_eq!(camera_.zones.iter().map(|zone| zone.id.as_str()).collect::<Vec<_>>(), ["kerb", "bay"]);
    assert_eq!((second.references.len(), second.ignore.len(), first.ground.is_some()), (2, 1, true));
    assert!(second.references[0].ends_with("lane.jpg"));
    let hash = fleet.config_hash.clone();
    folder.write("lane.jpg", [0xff, 0xd8, 0xff, 0xe0, 2]);
    assert_ne!(
        folder.load_text(&text).unwrap().config_hash,
        hash,
        "another picture is another configuration"
    );

    folder.write("text.jpg", "no picture");
    let rest = zone("bay");
    for (text, words) in [
        (
            both(&format!("references: [gone.jpg], {}", zone("kerb")), &format!("{lane}, {rest}")),
            "cannot be read",
        ),
        (
            both(&format!("references: [text.jpg], {}", zone("kerb")), &format!("{lane}, {rest}")),
            "is no JPEG file",
        ),
        (both(gate, &format!("{lane}, {rest}")), "zones: is missing"),
        (
            both(&format!("{gate}, {}", zone("bay")), &format!("{lane}, {rest}")),
            "is a zone of another preset too",
        ),
        (camera(&format!("presets: [{{id: gate, {gate}, {rest}}}], {ZONES}")), "stand beside presets"),
        (
            camera(&format!("presets: [{{id: g, {gate}, {}}}, {{id: g, {lane}, {rest}}}]", zone("kerb"))),
            "preset ids are unique",
        ),
    ] {
        let mistakes = folder.load_text(&text).unwrap_err().to_string();
        assert!(mistakes.contains(words), "{text}: {mistakes}");
        assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    }
}
