use std::time::Instant;

use super::*;

struct Feed {
    jpegs: Jpegs,
    out: Vec<Picture>,
}

impl Feed {
    fn new() -> Self {
        Self { jpegs: Jpegs::new(4000), out: Vec::new() }
    }

    fn packet(&mut self, ticks: i64, mark: bool, lost: u32, payload: &[u8]) -> Result<(), TooLarge> {
        let arrival = Arrival { wall: flow::Timestamp::UNIX_EPOCH, at: Instant::now() };
        self.jpegs.push(&Packet { ticks, mark, lost, arrival, payload })?;
        self.out.extend(std::iter::from_fn(|| self.jpegs.pop()));
        Ok(())
    }

    fn damage(&self) -> Vec<Option<Damage>> {
        let damage = |p: &Picture| match p.content {
            Content::Damaged(damage) => Some(damage),
            _ => None,
        };
        self.out.iter().map(damage).collect()
    }

    fn file(&self, index: usize) -> &[u8] {
        match &self.out[index].content {
            Content::Coded { key: true, data, .. } => data,
            other => panic!("{other:?}"),
        }
    }
}

/// 16 × 8 pixels.
fn fragment(kind: u8, q: u8, offset: u32, rest: &[u8]) -> Vec<u8> {
    let o = offset.to_be_bytes();
    [&[0, o[1], o[2], o[3], kind, q, 2, 1][..], rest].concat()
}

fn table_header(precision: u8, tables: &[u8]) -> Vec<u8> {
    let length = u16::try_from(tables.len()).unwrap().to_be_bytes();
    [&[0, precision, length[0], length[1]][..], tables].concat()
}

/// The bodies of all segments of a kind.
fn segments(file: &[u8], marker: u8) -> Vec<&[u8]> {
    let mut rest = &file[2..];
    let mut found = Vec::new();
    while let [0xff, kind, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind == marker {
            found.push(&rest[4..2 + length]);
        }
        if *kind == 0xda {
            break;
        }
        rest = &rest[2 + length..];
    }
    found
}

#[test]
fn fragments_make_a_file() {
    let mut feed = Feed::new();
    feed.packet(0, false, 0, &fragment(1, 50, 0, &[1, 2, 3])).unwrap();
    feed.packet(0, true, 0, &fragment(1, 50, 3, &[4, 5])).unwrap();
    let file = feed.file(0);
    assert!(file.starts_with(&[0xff, 0xd8]) && file.ends_with(&[1, 2, 3, 4, 5, 0xff, 0xd9]));
    assert_eq!(segments(file, 0xc0), [[8, 0, 8, 0, 16, 3, 0, 0x22, 0, 1, 0x11, 1, 2, 0x11, 1]]);
    let tables = segments(file, 0xdb);
    // Q 50 is the table of annex K itself, in the order of a file.
    assert_eq!((tables.len(), &tables[0][..7]), (2, &[0, 16, 11, 12, 14, 12, 10][..]));
    assert_eq!(tables[1][..4], [1, 17, 18, 18]);
    assert!(segments(file, 0xdd).is_empty());
}

#[test]
fn q_scales_the_tables_of_the_standard() {
    assert_eq!((scaled(1)[0][0], scaled(99)[0][0], scaled(75)[0][0]), (255, 1, 8));
    assert_eq!((scaled(25)[0][0], scaled(25)[1][63]), (32, 198));
}

#[test]
fn tables_come_in_band_and_may_hold_for_later_pictures() {
    let mut feed = Feed::new();
    let one = [7u8; 128];
    feed.packet(0, true, 0, &fragment(0, 200, 0, &[&table_header(0, &one)[..], &[9]].concat())).unwrap();
    feed.packet(1, true, 0, &fragment(0, 200, 0, &[&table_header(0, &[])[..], &[8]].concat())).unwrap();
    feed.packet(2, true, 0, &fragment(0, 201, 0, &[&table_header(0, &[])[..], &[8]].concat())).unwrap();
    // One table for all components, and one of 16 bits.
    feed.packet(3, true, 0, &fragment(0, 255, 0, &[&table_header(0, &one[..64])[..], &[7]].concat()))
        .unwrap();
    feed.packet(4, true, 0, &fragment(0, 255, 0, &[&table_header(1, &one)[..], &[6]].concat())).unwrap();
    feed.packet(5, true, 0, &fragment(0, 255, 0, &[&table_header(0, &[])[..], &[8]].concat())).unwrap();
    assert_eq!(feed.damage(), [None, None, Some(Damage::Tables), None, None, Some(Damage::Tables)]);
    for index in [0, 1] {
        let tables = segments(feed.file(index), 0xdb);
        assert!(tables.len() == 2 && tables.iter().all(|t| t.len() == 65 && t[1..] == one[..64]));
    }
    assert!(feed.file(1).ends_with(&[8, 0xff, 0xd9]));
    assert_eq!(segments(feed.file(3), 0xdb).len(), 1);
    assert_eq!(
        segments(feed.file(3), 0xc0)[0][8..],
        [0, 1, 0x11, 0, 2, 0x11, 0][..],
        "chroma uses the only table"
    );
    assert_eq!(segments(feed.file(4), 0xdb)[0].len(), 129);
    assert_eq!(segments(feed.file(4), 0xdb)[0][0], 0x10);
}

#[test]
fn restart_markers_and_the_size_of_the_sdp() {
    let mut feed = Feed::new();
    feed.jpegs.set_size(Some((13, 8)));
    feed.packet(0, true, 0, &fragment(64, 60, 0, &[0, 4, 0xff, 0xff, 1, 2])).unwrap();
    assert_eq!(segments(feed.file(0), 0xdd), [[0, 4]]);
    assert_eq!(segments(feed.file(0), 0xc0)[0][1..5], [0, 8, 0, 13]);
    // A size that contradicts the packets is not believed; one that RTP cannot say comes from the SDP.
    feed.jpegs.set_size(Some((2560, 1440)));
    feed.packet(1, true, 0, &fragment(0, 60, 0, &[1])).unwrap();
    assert_eq!(segments(feed.file(1), 0xc0)[0][1..5], [0, 8, 0, 16]);
    feed.packet(2, true, 0, &[0, 0, 0, 0, 0, 60, 0, 180, 1]).unwrap();
    assert_eq!(segments(feed.file(2), 0xc0)[0][1..5], [5, 0xa0, 0x0a, 0]);
    let mut feed = Feed::new();
    feed.packet(2, true, 0, &[0, 0, 0, 0, 0, 60, 0, 180, 1]).unwrap();
    assert_eq!(feed.damage(), [Some(Damage::Size)]);
}

#[test]
fn loss_costs_its_picture_and_a_new_time_ends_one_without_marker() {
    let mut feed = Feed::new();
    feed.packet(0, false, 0, &fragment(1, 50, 0, &[1, 2, 3])).unwrap();
    feed.packet(0, true, 1, &fragment(1, 50, 6, &[4, 5])).unwrap();
    feed.packet(1, false, 0, &fragment(1, 50, 0, &[1])).unwrap();
    feed.packet(2, false, 0, &fragment(1, 50, 0, &[2])).unwrap();
    // The beginning is lost; the one before may have lost its end.
    feed.packet(3, true, 2, &fragment(1, 50, 9, &[2])).unwrap();
    feed.packet(4, true, 0, &fragment(1, 50, 0, &[3])).unwrap();
    let loss = Some(Damage::Loss);
    assert_eq!(feed.damage(), [loss, None, loss, loss, None]);
    assert_eq!(feed.out.iter().map(|p| p.lost_before).collect::<Vec<_>>(), [1, 0, 2, 0, 0]);
}

#[test]
fn a_bad_packet_costs_its_picture_and_no_more() {
    let whole = fragment(1, 50, 0, &[1]);
    let mut no_end = fragment(1, 50, 0, &[1]);
    no_end.truncate(7);
    let bad: [(Vec<u8>, Damage); 9] = [
        (vec![], Damage::Short),
        (no_end, Damage::Short),
        (fragment(64, 50, 0, &[0, 1]), Damage::Short),
        (fragment(1, 0, 0, &[1]), Damage::Tables),
        (fragment(1, 110, 0, &[1]), Damage::Tables),
        (fragment(1, 255, 0, &table_header(0, &[1; 63])), Damage::Tables),
        (fragment(1, 255, 0, &[0, 0, 1, 0, 9]), Damage::Short),
        (fragment(2, 50, 0, &[1]), Damage::Structure),
        (fragment(1, 50, 5, &[1]), Damage::Fragments),
    ];
    for (payload, damage) in bad {
        let mut feed = Feed::new();
        feed.packet(0, true, 0, &whole).unwrap();
        feed.packet(1, true, 0, &payload).unwrap();
        feed.packet(2, true, 0, &whole).unwrap();
        assert_eq!(feed.damage(), [None, Some(damage), None], "{payload:02x?}");
    }
    let mut interlaced = whole.clone();
    interlaced[0] = 1;
    let mut feed = Feed::new();
    feed.packet(0, true, 0, &interlaced).unwrap();
    assert_eq!(feed.damage(), [Some(Damage::Structure)]);
}

#[test]
fn a_picture_does_not_grow_for_ever_and_random_payloads_never_panic() {
    let mut feed = Feed::new();
    feed.packet(0, false, 0, &fragment(1, 50, 0, &[1; 1300])).unwrap();
    feed.packet(0, false, 0, &fragment(1, 50, 1300, &[1; 1300])).unwrap();
    assert_eq!(feed.packet(0, false, 0, &fragment(1, 50, 2600, &[1; 1300])), Err(TooLarge { limit: 4000 }));

    let mut random = fastrand::Rng::with_seed(7);
    let mut feed = Feed::new();
    let mut offset = 0;
    for ticks in 0..40_000 {
        let rest: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
        let q = random.choice([0, 1, 50, 99, 127, 128, 200, 255]).unwrap();
        let mut payload = fragment(random.choice([0, 1, 2, 64, 65, 200]).unwrap(), q, offset, &rest);
        payload.truncate(random.usize(0..payload.len() + 1));
        offset = if random.bool() { 0 } else { offset + rest.len() as u32 };
        let _ = feed.packet(ticks / 3, random.u8(0..4) == 0, u32::from(random.u8(0..20) == 0), &payload);
    }
    assert!(feed.out.iter().any(|p| matches!(p.content, Content::Coded { .. })));
}
