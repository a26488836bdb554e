//! Real bitstreams, cut into RTP payloads in every way that cameras have, must come out as they went in.

use std::path::Path;
use std::time::Instant;

use flow::Timestamp;

use super::*;
use crate::picture::Arrival;

/// How a stream is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// One time per picture, the marker on its last packet.
    Proper,
    /// Small units together, large ones in fragments (STAP-A and FU-A, AP and FU).
    Aggregated,
    NoMarker,
    MarkerOnEveryPacket,
    /// Times go back, repeat after some pictures, and jump.
    WildTimes,
}

const WAYS: [Way; 5] =
    [Way::Proper, Way::Aggregated, Way::NoMarker, Way::MarkerOnEveryPacket, Way::WildTimes];
const MTU: usize = 300;

/// NAL units of each access unit as the standards bound them: a field is one by itself.
fn access_units(codec: Codec, stream: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut units: Vec<Vec<&[u8]>> = vec![vec![]];
    let mut has_slice = false;
    for nal in nal::split_annex_b(stream) {
        let begins = match nal::classify(codec, nal) {
            Some(Kind::Slice(slice)) => slice.first && std::mem::replace(&mut has_slice, true),
            Some(Kind::Other | Kind::Padding) | None => false,
            Some(_) => std::mem::take(&mut has_slice),
        };
        if begins {
            units.push(vec![]);
        }
        units.last_mut().unwrap().push(nal);
    }
    units
}

fn fragments(codec: Codec, nal: &[u8]) -> Vec<Vec<u8>> {
    let head = nal::header_len(codec);
    let kind = nal::nal_type(codec, nal[0]);
    let parts: Vec<&[u8]> = nal[head..].chunks(MTU).collect();
    let last = parts.len() - 1;
    let header = |i: usize| u8::from(i == 0) << 7 | u8::from(i == last) << 6 | kind;
    let indicator = match codec {
        Codec::H265 => vec![nal[0] & 0x81 | 49 << 1, nal[1]],
        _ => vec![nal[0] & 0xe0 | 28],
    };
    parts.iter().enumerate().map(|(i, part)| [&indicator[..], &[header(i)], part].concat()).collect()
}

fn payloads(codec: Codec, unit: &[&[u8]], way: Way) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut small: Vec<&[u8]> = Vec::new();
    let flush = |small: &mut Vec<&[u8]>, out: &mut Vec<Vec<u8>>| {
        let head: &[u8] = if codec == Codec::H265 { &[48 << 1, 1] } else { &[24] };
        if !small.is_empty() {
            let joined = small.iter().fold(head.to_vec(), |out, nal| {
                [&out[..], &u16::try_from(nal.len()).unwrap().to_be_bytes(), nal].concat()
            });
            out.push(joined);
        }
        small.clear();
    };
    for nal in unit {
        if nal.len() > MTU {
            flush(&mut small, &mut out);
            out.extend(fragments(codec, nal));
        } else if way == Way::Aggregated {
            small.push(nal);
        } else {
            out.push(nal.to_vec());
        }
    }
    flush(&mut small, &mut out);
    out
}

fn received(codec: Codec, units: &[Vec<&[u8]>], way: Way, keys_only: bool) -> Vec<Picture> {
    let mut to = Units::new(codec, keys_only, 1 << 20);
    let mut out = Vec::new();
    for (index, unit) in (0..).zip(units) {
        let payloads = payloads(codec, unit, way);
        let last = payloads.len() - 1;
        for (i, payload) in payloads.iter().enumerate() {
            let ticks = match way {
                Way::WildTimes => [0, 3600, -90_000, -86_400, 1 << 33, 3600, 7200][index as usize % 7],
                _ => index * 3600,
            };
            let mark = match way {
                Way::NoMarker => false,
                Way::MarkerOnEveryPacket => true,
                _ => i == last,
            };
            let arrival = Arrival { wall: Timestamp::UNIX_EPOCH, at: Instant::now() };
            to.push(&Packet { ticks, mark, lost: 0, arrival, payload }).unwrap();
            out.extend(std::iter::from_fn(|| to.pop()));
        }
    }
    // Whatever comes next ends the last one, and is itself not asked for.
    let end: &[u8] = if codec == Codec::H265 { &[0x02, 1, 0x80, 1] } else { &[0x41, 0xe0, 1] };
    for ticks in [-1, -2] {
        let arrival = Arrival { wall: Timestamp::UNIX_EPOCH, at: Instant::now() };
        to.push(&Packet { ticks, mark: false, lost: 0, arrival, payload: end }).unwrap();
        out.extend(std::iter::from_fn(|| to.pop()));
    }
    out.truncate(out.len() - 1);
    out
}

/// What must not be lost: all but parameter sets, which may be repeated, and what means nothing.
fn essence(codec: Codec, stream: &[u8]) -> Vec<&[u8]> {
    nal::split_annex_b(stream)
        .filter(|nal| {
            matches!(nal::classify(codec, nal), Some(Kind::Slice(_) | Kind::Sei | Kind::Other))
                && !nal::is_end(codec, nal)
        })
        .collect()
}

/// Frames, and those that stand alone.
const FILES: [(&str, Codec, usize, usize); 11] = [
    ("BA_MW_D.264", Codec::H264, 100, 4),
    ("MIDR_MW_D.264", Codec::H264, 100, 4),
    ("MPS_MW_A.264", Codec::H264, 150, 5),
    ("QCIF_2P_I_allIPCM.264", Codec::H264, 2, 1),
    ("SVA_FM1_E.264", Codec::H264, 17, 1),
    ("Cisco_Men_whisper_640x320_CABAC_Bframe_9.264", Codec::H264, 9, 2),
    ("cros_test-25fps-interlaced.h264", Codec::H264, 250, 1),
    ("cros_64x64-I-P-B-P.h265", Codec::H265, 3, 1),
    ("cros_bbb.h265", Codec::H265, 60, 1),
    ("cros_bear.h265", Codec::H265, 30, 1),
    ("cros_test-25fps.h265", Codec::H265, 250, 1),
];

#[test]
fn real_streams_come_out_as_they_went_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures/bitstreams");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    for (name, codec, frames, stand_alone) in FILES {
        let stream = std::fs::read(folder.join(name)).unwrap();
        let units = access_units(codec, &stream);
        assert_eq!(units.len(), frames, "{name}: the test's own count");
        for way in WAYS {
            // A marker on every slice is found out by the first picture of two.
            let spoilt = usize::from(way == Way::MarkerOnEveryPacket && name == "SVA_FM1_E.264");
            let pictures = received(codec, &units, way, false);
            assert_eq!(pictures.len(), frames + spoilt, "{name} {way:?}");
            let whole = pictures.iter().filter_map(|picture| match &picture.content {
                Content::Coded { data, .. } => Some(&data[..]),
                _ => None,
            });
            let whole: Vec<&[u8]> = whole.collect();
            assert_eq!(whole.len(), pictures.len() - spoilt, "{name} {way:?}");
            if spoilt == 0 {
                assert!(essence(codec, &whole.concat()) == essence(codec, &stream), "{name} {way:?}");
            }
            let alone = received(codec, &units, way, true);
            let keys = alone.iter().filter(|p| matches!(p.content, Content::Coded { key: true, .. }));
            assert_eq!((alone.len(), keys.count()), (frames + spoilt, stand_alone), "{name} {way:?}");
        }
    }
}
