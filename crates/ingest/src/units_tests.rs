use std::time::Instant;

use flow::Timestamp;

use super::*;
use crate::picture::Arrival;

const SPS: &[u8] = &[0x67, 66, 0, 30, 0x96, 0x54];
const OTHER_SPS: &[u8] = &[0x67, 77, 0, 31, 0x96, 0x55];
const PPS: &[u8] = &[0x68, 0xce, 0x38, 0x80];
const PPS1: &[u8] = &[0x68, 0x5b, 0x20];
const SEI: &[u8] = &[0x06, 5, 1, 0xaa, 0x80];
const AUD: &[u8] = &[0x09, 0x10];
const IDR: &[u8] = &[0x65, 0x88, 1, 2, 3, 4, 5, 6, 7];
const P: &[u8] = &[0x41, 0x9a, 1, 2, 3];
/// Not the first slice of its picture.
const P_REST: &[u8] = &[0x41, 0x5a, 4, 5];

/// Feeds packets and collects what comes out.
struct Feed {
    units: Units,
    out: Vec<Picture>,
}

impl Feed {
    fn new(codec: Codec, keys_only: bool) -> Self {
        Self { units: Units::new(codec, keys_only, 1000), out: Vec::new() }
    }

    fn packet(&mut self, ticks: i64, mark: bool, lost: u32, payload: &[u8]) -> Result<(), TooLarge> {
        let arrival = Arrival { wall: Timestamp::UNIX_EPOCH, at: Instant::now() };
        self.units.push(&Packet { ticks, mark, lost, arrival, payload })?;
        self.out.extend(std::iter::from_fn(|| self.units.pop()));
        Ok(())
    }

    /// One packet per unit, the marker on the last.
    fn picture(&mut self, ticks: i64, units: &[&[u8]]) {
        for (i, unit) in units.iter().enumerate() {
            self.packet(ticks, i + 1 == units.len(), 0, unit).unwrap();
        }
    }

    fn contents(self) -> Vec<Content> {
        self.out.into_iter().map(|p| p.content).collect()
    }
}

fn coded(key: bool, units: &[&[u8]]) -> Content {
    let data: Vec<u8> = units.iter().flat_map(|u| [&nal::START_CODE[..], u].concat()).collect();
    Content::Coded { key, stands_alone: key, skipped_leading: false, data: data.into() }
}

fn fu_a(unit: &[u8], parts: usize) -> Vec<Vec<u8>> {
    let body = &unit[1..];
    let size = body.len().div_ceil(parts);
    let chunks: Vec<_> = body.chunks(size).collect();
    let last = chunks.len() - 1;
    let header = |i: usize| u8::from(i == 0) << 7 | u8::from(i == last) << 6 | unit[0] & 0x1f;
    chunks.iter().enumerate().map(|(i, c)| [&[unit[0] & 0xe0 | 28, header(i)][..], c].concat()).collect()
}

#[test]
fn a_key_picture_gets_all_its_parameter_sets_in_front_once() {
    let mut feed = Feed::new(Codec::H264, false);
    feed.picture(0, &[AUD, SPS, PPS, PPS1, SEI, IDR]);
    feed.picture(3000, &[P, P_REST]);
    feed.picture(6000, &[IDR]);
    assert_eq!(
        feed.contents(),
        [
            coded(true, &[SPS, PPS, PPS1, SEI, IDR]),
            coded(false, &[P, P_REST]),
            coded(true, &[SPS, PPS, PPS1, IDR]),
        ]
    );
}

#[test]
fn parameter_sets_come_from_the_sdp_and_change_in_the_stream() {
    let mut feed = Feed::new(Codec::H264, false);
    feed.picture(0, &[IDR]);
    feed.units.add_parameters(SPS);
    feed.units.add_parameters(PPS);
    feed.picture(3000, &[IDR]);
    feed.picture(6000, &[PPS1, P]);
    feed.picture(9000, &[OTHER_SPS, IDR]);
    assert_eq!(
        feed.contents(),
        [
            Content::NoParameters,
            coded(true, &[SPS, PPS, IDR]),
            coded(false, &[PPS1, P]),
            coded(true, &[OTHER_SPS, PPS, PPS1, IDR]),
        ]
    );
}

#[test]
fn fragments_aggregates_and_stray_start_codes_give_the_same_picture() {
    let expected = [coded(true, &[SPS, PPS, IDR])];
    let stap: Vec<u8> =
        [SPS, PPS].iter().fold(vec![24], |out, u| [&out[..], &[0, u.len() as u8], u].concat());
    let glued = [SPS, &[0, 0, 1], PPS, &[0, 0, 0, 1], IDR].concat();
    let with_code = [&[0, 0, 0, 1], SPS].concat();
    let single_fu = fu_a(PPS, 1);
    let glued_fu = fu_a(&glued, 5);
    let idr_fu = fu_a(IDR, 3);
    let ways: [Vec<&[u8]>; 4] = [
        [&stap[..]].into_iter().chain(idr_fu.iter().map(Vec::as_slice)).collect(),
        vec![&glued],
        glued_fu.iter().map(Vec::as_slice).collect(),
        vec![&with_code, &single_fu[0], IDR],
    ];
    for way in ways {
        let mut feed = Feed::new(Codec::H264, false);
        feed.picture(0, &way);
        assert_eq!(feed.contents(), expected, "{way:02x?}");
    }
}

#[test]
fn pictures_end_without_markers_and_despite_false_ones() {
    let mut feed = Feed::new(Codec::H264, false);
    // Markers after parameter sets, and sets with a time of their own.
    for (ticks, mark, unit) in [(0, true, SPS), (0, true, PPS), (10, false, IDR), (3000, false, P)] {
        feed.packet(ticks, mark, 0, unit).unwrap();
    }
    feed.packet(6000, false, 0, P).unwrap();
    assert_eq!(feed.contents(), [coded(true, &[SPS, PPS, IDR]), coded(false, &[P])]);

    // A marker on every slice: found out once, then waited out.
    let mut feed = Feed::new(Codec::H264, false);
    for ticks in [0, 3000, 6000] {
        feed.packet(ticks, true, 0, P).unwrap();
        feed.packet(ticks, true, 0, P_REST).unwrap();
    }
    let whole = coded(false, &[P, P_REST]);
    assert_eq!(feed.contents(), [coded(false, &[P]), Content::Damaged(Damage::Marker), whole]);
}

#[test]
fn other_pictures_are_recognised_and_not_assembled() {
    let mut feed = Feed::new(Codec::H264, true);
    feed.picture(0, &[SPS, PPS, IDR]);
    let large_p = [P, &[7; 5000]].concat();
    let fragments = fu_a(&large_p, 5);
    feed.picture(3000, &fragments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    feed.picture(6000, &[PPS1, P, P_REST]);
    feed.picture(9000, &[IDR]);
    assert_eq!(
        feed.contents(),
        [
            coded(true, &[SPS, PPS, IDR]),
            Content::NotKey,
            Content::NotKey,
            coded(true, &[SPS, PPS, PPS1, IDR]),
        ]
    );
}

#[test]
fn loss_costs_the_pictures_that_it_touches() {
    let mut feed = Feed::new(Codec::H264, false);
    feed.picture(0, &[SPS, PPS, IDR]);
    let fragments = fu_a(IDR, 3);
    // In the middle.
    feed.packet(3000, false, 0, &fragments[0]).unwrap();
    feed.packet(3000, true, 1, &fragments[2]).unwrap();
    // The end of one and the beginning of the next.
    feed.packet(6000, false, 0, P).unwrap();
    feed.packet(9000, true, 2, P_REST).unwrap();
    // Between two pictures: both whole, and the gap is told.
    feed.picture(12000, &[P]);
    feed.packet(15000, true, 5, P).unwrap();
    let lost: Vec<u32> = feed.out.iter().map(|p| p.lost_before).collect();
    assert_eq!(lost, [0, 1, 2, 0, 0, 5]);
    let loss = || Content::Damaged(Damage::Loss);
    let key = coded(true, &[SPS, PPS, IDR]);
    let p = || coded(false, &[P]);
    assert_eq!(feed.contents(), [key, loss(), loss(), loss(), p(), p()]);
}

#[test]
fn a_bad_packet_costs_its_picture_and_no_more() {
    let bad: [(&[u8], Damage); 8] = [
        (&[], Damage::Short),
        (&[0x65], Damage::Short),
        (&[24, 0, 9, 0x67], Damage::Short),
        (&[0xe5, 0x88, 1], Damage::Header),
        (&[0x1f, 1, 2], Damage::Header),
        (&[26, 1, 2, 3], Damage::Structure),
        (&[0x7c, 0x05, 1], Damage::Fragments),
        (&[0x7c, 0x85, 0x88], Damage::Fragments), // begins, then the marker
    ];
    for (payload, damage) in bad {
        let mut feed = Feed::new(Codec::H264, false);
        feed.picture(0, &[SPS, PPS, IDR]);
        feed.packet(3000, true, 0, payload).unwrap();
        feed.picture(6000, &[P]);
        let whole = [coded(true, &[SPS, PPS, IDR]), Content::Damaged(damage), coded(false, &[P])];
        assert_eq!(feed.contents(), whole, "{payload:02x?}");
    }
}

#[test]
fn a_picture_does_not_grow_for_ever() {
    for start in [[0x7c, 0x85], [0x7c, 0x87]] {
        let mut feed = Feed::new(Codec::H264, true);
        feed.packet(0, false, 0, &[&start[..], &[0x88; 600]].concat()).unwrap();
        let more = [&[start[0], start[1] & 0x1f][..], &[1; 600]].concat();
        assert_eq!(feed.packet(0, false, 0, &more), Err(TooLarge { limit: 1000 }));
    }
}

#[test]
fn hevc_with_aggregation_fragments_and_leading_pictures() {
    let vps: &[u8] = &[0x40, 0x01, 0x0c, 0x01];
    let sps: &[u8] = &[0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 5];
    let pps: &[u8] = &[0x44, 0x01, 0xc1, 0x72];
    let cra: &[u8] = &[0x2a, 0x01, 0xaf, 1, 2, 3, 4];
    let rasl: &[u8] = &[0x12, 0x01, 0xe0, 9];
    let ap =
        [vps, sps, pps].iter().fold(vec![0x60, 0x01], |out, u| [&out[..], &[0, u.len() as u8], u].concat());
    let mut feed = Feed::new(Codec::H265, false);
    feed.packet(0, false, 0, &ap).unwrap();
    feed.packet(0, false, 0, &[0x62, 0x01, 0x80 | 21, 0xaf, 1]).unwrap();
    feed.packet(0, true, 0, &[0x62, 0x01, 0x40 | 21, 2, 3, 4]).unwrap();
    feed.packet(3000, true, 0, rasl).unwrap();
    let data = [&nal::START_CODE[..], rasl].concat();
    let rasl = Content::Coded { key: false, stands_alone: false, skipped_leading: true, data: data.into() };
    assert_eq!(feed.contents(), [coded(true, &[vps, sps, pps, cra]), rasl]);
}

#[test]
fn which_pictures_are_keys_depends_on_how_the_camera_is_watched() {
    let at_once: &[u8] = &[0x06, 6, 1, 0b1100_0000, 0x80];
    let gradual: &[u8] = &[0x06, 6, 2, 0b0000_1100, 0b1100_0000, 0x80];
    // The same as `P`, of I slices.
    let i: &[u8] = &[0x41, 0x88, 1, 2, 3];
    let pictures: [&[&[u8]]; 5] = [&[SPS, PPS, IDR], &[at_once, i], &[i], &[gradual, P], &[i, P_REST]];
    let keys = |keys_only| {
        let mut feed = Feed::new(Codec::H264, keys_only);
        (0..).zip(pictures).for_each(|(n, units)| feed.picture(n * 3000, units));
        let contents = feed.contents();
        contents.iter().map(|c| matches!(c, Content::Coded { key: true, .. })).collect::<Vec<_>>()
    };
    // By itself: whatever is intra through and through. In a stream: what says that decoding may start there.
    assert_eq!(keys(true), [true, true, true, false, false]);
    assert_eq!(keys(false), [true, true, false, true, false]);
}

#[test]
fn ends_of_sequence_delimiters_and_filler_are_nothing() {
    let filler: &[u8] = &[0x0c, 0xff, 0xff, 0x80];
    let mut feed = Feed::new(Codec::H264, false);
    feed.picture(0, &[AUD, SPS, PPS, IDR, filler, &[0x0a]]);
    feed.picture(3000, &[&[0x0b], AUD, P]);
    assert_eq!(feed.contents(), [coded(true, &[SPS, PPS, IDR]), coded(false, &[P])]);

    let mut feed = Feed::new(Codec::H265, false);
    feed.picture(0, &[&[0x46, 1, 0x50], &[0x02, 1, 0x80, 9], &[0x48, 1]]);
    feed.picture(3000, &[&[0x4c, 1, 0xff, 0x80], &[0x02, 1, 0x80, 8]]);
    assert_eq!(feed.out.len(), 2);
    assert!(feed.contents().iter().all(|c| matches!(c, Content::Coded { .. })));
}

#[test]
fn a_delimiter_or_a_first_slice_begins_a_picture_where_time_and_marker_say_nothing() {
    let mut feed = Feed::new(Codec::H264, false);
    for unit in [SPS, PPS, IDR, AUD, P, P_REST, AUD, P] {
        feed.packet(7, false, 0, unit).unwrap();
    }
    feed.packet(8, false, 0, P).unwrap();
    assert_eq!(
        feed.contents(),
        [coded(true, &[SPS, PPS, IDR]), coded(false, &[P, P_REST]), coded(false, &[P])]
    );
    let mut feed = Feed::new(Codec::H265, false);
    let (first, rest): (&[u8], &[u8]) = (&[0x02, 1, 0x80, 9], &[0x02, 1, 0x40, 9]);
    for unit in [first, rest, first, rest, rest] {
        feed.packet(7, false, 0, unit).unwrap();
    }
    feed.packet(8, false, 0, first).unwrap();
    assert_eq!(feed.contents(), [coded(false, &[first, rest]), coded(false, &[first, rest, rest])]);
}

#[test]
fn a_marker_on_every_packet_does_not_cut_fragments() {
    let mut feed = Feed::new(Codec::H264, false);
    for ticks in [0, 3000] {
        for unit in [SPS.to_vec(), PPS.to_vec()].into_iter().chain(fu_a(IDR, 4)) {
            feed.packet(ticks, true, 0, &unit).unwrap();
        }
    }
    assert_eq!(feed.contents(), [coded(true, &[SPS, PPS, IDR]), coded(true, &[SPS, PPS, IDR])]);
}

#[test]
fn numbered_units_are_taken_in_decoding_order_and_refused_in_any_other() {
    // STAP-B with two sets, FU-B in two parts, then a STAP-B whose number is behind.
    let stap = |number: u8, units: &[&[u8]]| {
        units.iter().fold(vec![25, 0xff, number], |out, u| [&out[..], &[0, u.len() as u8], u].concat())
    };
    let fragments = fu_a(IDR, 2);
    let fu_b = [&[fragments[0][0] + 1, fragments[0][1], 0, 2], &fragments[0][2..]].concat();
    let mut feed = Feed::new(Codec::H264, false);
    feed.picture(0, &[&stap(0xfe, &[SPS, PPS]), &fu_b, &fragments[1]]);
    feed.packet(3000, true, 0, &stap(0xf0, &[P])).unwrap();
    feed.picture(6000, &[&[25, 0xff, 0xf1, 0, 5, P[0], P[1], P[2], P[3], P[4]]]);
    assert_eq!(
        feed.contents(),
        [coded(true, &[SPS, PPS, IDR]), Content::Damaged(Damage::Order), coded(false, &[P])]
    );
}

#[test]
fn hevc_with_decoding_order_numbers() {
    let (a, b): (&[u8], &[u8]) = (&[0x02, 1, 0x80, 1, 2, 3, 4], &[0x02, 1, 0x40, 9]);
    let single = [&a[..2], &[0, 10], &a[2..]].concat();
    let aggregate = [&[0x60, 1, 0, 11, 0, 7][..], a, &[0, 0, 4], b].concat();
    let start = [&[0x62, 1, 0x81, 0, 13][..], &a[2..4]].concat();
    let end = [&[0x62, 1, 0x41][..], &a[4..]].concat();
    let mut feed = Feed::new(Codec::H265, false);
    feed.units.numbered(true);
    feed.packet(0, true, 0, &single).unwrap();
    feed.packet(3000, true, 0, &aggregate).unwrap();
    feed.picture(6000, &[&start, &end]);
    feed.packet(9000, true, 0, &single).unwrap();
    assert_eq!(
        feed.contents(),
        [coded(false, &[a]), coded(false, &[a, b]), coded(false, &[a]), Content::Damaged(Damage::Order)]
    );
}

/// A stream of fields: 16 × 32 pixels of I_PCM, so that it can be written by hand. Its grey is that of `fields`.
mod paff {
    /// Writes bits, most significant first.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn u(&mut self, n: u32, value: u32) -> &mut Self {
            self.0.extend((0..n).rev().map(|bit| value >> bit & 1 == 1));
            self
        }

        fn ue(&mut self, value: u32) -> &mut Self {
            let bits = 32 - (value + 1).leading_zeros();
            self.u(2 * bits - 1, value + 1)
        }

        /// With the trailing bits of an RBSP.
        fn unit(&mut self, header: u8) -> Vec<u8> {
            self.u(1, 1);
            let bytes =
                self.0.chunks(8).map(|c| (0..8).fold(0, |b, i| b << 1 | u8::from(c.get(i) == Some(&true))));
            [header].into_iter().chain(bytes).collect()
        }
    }

    pub fn sets() -> [Vec<u8>; 2] {
        let mut sps = Writer::default();
        sps.u(8, 77).u(8, 0).u(8, 30).ue(0).ue(0).ue(0).ue(0).ue(1).u(1, 0); // 4 bits of frame_num and order
        sps.ue(0).ue(0).u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0); // 1 × 1 macroblocks per field
        let mut pps = Writer::default();
        pps.ue(0)
            .ue(0)
            .u(1, 0)
            .u(1, 0)
            .ue(0)
            .ue(0)
            .ue(0)
            .u(1, 0)
            .u(2, 0)
            .ue(0)
            .ue(0)
            .ue(0)
            .u(1, 0)
            .u(1, 0)
            .u(1, 0);
        [sps.unit(0x67), pps.unit(0x68)]
    }

    /// Type 5 (IDR), or 1: an I slice, or with `p` a P slice that copies the field before it.
    pub fn field(kind: u8, frame_num: u32, bottom: bool, p: bool, grey: u8) -> Vec<u8> {
        let mut slice = Writer::default();
        slice.ue(0).ue(if p { 5 } else { 7 }).ue(0).u(4, frame_num).u(1, 1).u(1, u32::from(bottom));
        if kind == 5 {
            slice.ue(0);
        }
        slice.u(4, frame_num * 2 % 16 + u32::from(bottom));
        if p {
            slice.u(1, 0).u(1, 0).u(1, 0).ue(0).ue(1); // no override, no reordering, no marking; QP; one skipped
            return slice.unit(0x60 | kind);
        }
        if kind == 5 {
            slice.u(2, 0)
        } else {
            slice.u(1, 0)
        };
        slice.ue(0).ue(25); // QP, I_PCM
        while slice.0.len() % 8 != 0 {
            slice.u(1, 0);
        }
        (0..256).for_each(|_| _ = slice.u(8, grey.into()));
        (0..128).for_each(|_| _ = slice.u(8, 128));
        slice.unit(0x60 | kind)
    }
}

#[test]
fn two_fields_are_one_picture_with_one_time_or_two() {
    let [sps, pps] = paff::sets();
    let frames = [
        [paff::field(5, 0, false, false, 40), paff::field(1, 0, true, true, 0)],
        [paff::field(1, 1, false, true, 0), paff::field(1, 1, true, true, 0)],
        [paff::field(1, 2, false, false, 90), paff::field(1, 2, true, false, 200)],
    ];
    for (times, delimiters) in [(1, false), (2, false), (2, true), (1, true)] {
        for keys_only in [false, true] {
            let mut feed = Feed::new(Codec::H264, keys_only);
            for (n, frame) in (0..).zip(&frames) {
                for (i, field) in (0..).zip(frame) {
                    let ticks = n * 3600 + if times == 2 { i * 1800 } else { 0 };
                    let mark = times == 2 || i == 1;
                    let extra: &[&[u8]] = match (i, delimiters) {
                        (0, true) => &[AUD, &sps, &pps],
                        (0, false) => &[&sps, &pps],
                        (_, true) => &[AUD],
                        (_, false) => &[],
                    };
                    extra.iter().for_each(|unit| feed.packet(ticks, false, 0, unit).unwrap());
                    feed.packet(ticks, mark, 0, field).unwrap();
                }
            }
            // Frame 4 is another one: its first field ends what came before.
            feed.packet(20_000, true, 0, &paff::field(1, 4, false, true, 0)).unwrap();
            let frame = |key, frame: &[Vec<u8>; 2]| coded(key, &[&sps, &pps, &frame[0], &frame[1]]);
            let middle = if keys_only { Content::NotKey } else { frame(false, &frames[1]) };
            let mut last = frame(keys_only, &frames[2]);
            if let Content::Coded { stands_alone, .. } = &mut last {
                *stands_alone = true;
            }
            let expected = [frame(true, &frames[0]), middle, last];
            assert_eq!(feed.contents(), expected, "{times} times, {delimiters}, {keys_only}");
        }
    }
}

#[test]
fn half_a_frame_is_no_picture() {
    let [sps, pps] = paff::sets();
    let mut feed = Feed::new(Codec::H264, true);
    feed.packet(0, false, 0, &sps).unwrap();
    feed.packet(0, false, 0, &pps).unwrap();
    feed.packet(0, true, 0, &paff::field(5, 0, false, false, 40)).unwrap();
    // Its second field is lost; of the next frame the first.
    feed.packet(3600, true, 1, &paff::field(1, 1, true, true, 0)).unwrap();
    feed.packet(7200, true, 0, &paff::field(5, 0, false, false, 60)).unwrap();
    feed.packet(9000, true, 0, &paff::field(1, 0, true, false, 60)).unwrap();
    let damaged = || Content::Damaged(Damage::Loss);
    let contents = feed.contents();
    assert_eq!(contents[0], damaged());
    assert!(matches!(contents[1], Content::Damaged(_) | Content::NotKey), "{:?}", contents[1]);
    assert!(matches!(contents[2], Content::Coded { key: true, .. }));
    assert_eq!(contents.len(), 3);
}

/// Anything at all may arrive; nothing of it may panic or escape the account.
#[test]
fn random_payloads_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for codec in [Codec::H264, Codec::H265] {
        for keys_only in [false, true] {
            let mut feed = Feed::new(codec, keys_only);
            let mut ticks = 0;
            for _ in 0..20_000 {
                // Mostly headers that mean something, over bytes that often form start codes.
                let mut payload: Vec<u8> = (0..random.usize(0..40))
                    .map(|_| if random.bool() { random.u8(0..4) } else { random.u8(..) })
                    .collect();
                if let Some(head) = payload.first_mut().filter(|_| random.u8(..) < 200) {
                    let kind = random.choice([1, 5, 7, 8, 24, 28, 32, 33, 34, 48, 49]).unwrap();
                    *head = if codec == Codec::H264 { kind & 0x1f } else { kind << 1 };
                }
                ticks += i64::from(random.u8(0..3));
                let lost = u32::from(random.u8(0..20) == 0);
                if feed.packet(ticks, random.u8(0..4) == 0, lost, &payload).is_err() {
                    feed.units = Units::new(codec, keys_only, 1000);
                }
            }
            assert!(feed.out.iter().any(|p| matches!(p.content, Content::Damaged(_))));
            for picture in &feed.out {
                if let Content::Coded { data, .. } = &picture.content {
                    assert!(data.starts_with(&nal::START_CODE) && data.len() <= 1000 + 64 * 1024);
                }
            }
        }
    }
}
