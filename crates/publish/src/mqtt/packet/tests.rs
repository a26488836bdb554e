//! Against rumqttc's codec, which nobody here wrote, and against noise.

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5 as other;
use std::time::Duration;

use super::*;
use crate::mqtt::Will;

fn message() -> Publish {
    Publish {
        topic: "huiyan/v1/huinan/event/illegal_parking/hn-0001".into(),
        payload: Bytes::from(vec![7; 300]),
        retain: true,
        at_least_once: true,
        packet_id: 9,
        properties: Properties {
            content_type: Some("application/json".into()),
            utf8: true,
            expiry_s: Some(3_600),
            response_topic: Some("r".into()),
            correlation: Some(Bytes::from_static(b"c")),
            user: vec![("id".into(), "慧眼.0".into()), ("traceparent".into(), "00-1".into())],
        },
    }
}

fn hello(session: Session) -> Hello {
    Hello {
        client_id: "huiyan-huinan-w1".into(),
        session,
        receive_maximum: 16,
        max_packet: 65_536,
        will: Some(Will { message: message(), delay: Duration::from_secs(5) }),
    }
}

#[test]
fn what_is_written_is_what_another_codec_reads() {
    let login = fleet::Credentials { user: "u".into(), password: fleet::Secret::new("p".into()) };
    let mut out = BytesMut::new();
    connect(Version::V5, &hello(Session::Connection), Some(&login), 10, &mut out);
    let Ok(other::Packet::Connect(connect, Some(will), Some(login))) = other::Packet::read(&mut out, None)
    else {
        panic!("no CONNECT with will and login");
    };
    let properties = connect.properties.unwrap();
    assert_eq!((connect.client_id.as_str(), connect.keep_alive), ("huiyan-huinan-w1", 10));
    // The session lives as long as the will waits; a clean start would publish it at once.
    assert_eq!((connect.clean_start, properties.session_expiry_interval), (false, Some(5)));
    assert_eq!((properties.receive_maximum, properties.max_packet_size), (Some(16), Some(65_536)));
    assert_eq!((will.retain, will.message.len()), (true, 300));
    assert_eq!(will.properties.unwrap().delay_interval, Some(5));
    assert_eq!((login.username.as_str(), login.password.as_str()), ("u", "p"));

    publish(Version::V5, &message(), 77, &mut out);
    assert!(publish_size(Version::V5, &message()) - out.len() <= 3);
    let Ok(other::Packet::Publish(read)) = other::Packet::read(&mut out, None) else { panic!("no PUBLISH") };
    let properties = read.properties.unwrap();
    assert_eq!((read.pkid, read.retain, read.payload.len()), (77, true, 300));
    assert_eq!(
        (properties.message_expiry_interval, properties.payload_format_indicator),
        (Some(3_600), Some(1))
    );
    assert_eq!(properties.user_properties[0], ("id".to_owned(), "慧眼.0".to_owned()));

    subscribe(Version::V5, 3, &["a/#".into(), "b/+".into()], true, &mut out);
    let Ok(other::Packet::Subscribe(read)) = other::Packet::read(&mut out, None) else {
        panic!("no SUBSCRIBE")
    };
    assert_eq!((read.pkid, read.filters.len(), read.filters[1].path.as_str()), (3, 2, "b/+"));
    ping(&mut out);
    disconnect(&mut out);
    puback(5, &mut out);
    assert!(matches!(other::Packet::read(&mut out, None), Ok(other::Packet::PingReq(_))));
    // rumqttc asks for a reason code here, which may be left out (MQTT 5, 3.14.2.1).
    assert_eq!(&out.split_to(2)[..], [0xe0, 0]);
    assert!(matches!(other::Packet::read(&mut out, None), Ok(other::Packet::PubAck(ack)) if ack.pkid == 5));
    assert!(out.is_empty());
}

#[test]
fn version_311_leaves_out_what_it_does_not_know() {
    let mut out = BytesMut::new();
    connect(Version::V311, &hello(Session::Kept(Duration::from_secs(60))), None, 10, &mut out);
    let Ok(rumqttc::Packet::Connect(connect)) = rumqttc::Packet::read(&mut out, 10_000) else {
        panic!("no CONNECT")
    };
    assert!(!connect.clean_session && connect.last_will.is_some() && connect.login.is_none());
    super::connect(Version::V311, &hello(Session::Connection), None, 10, &mut out);
    let Ok(rumqttc::Packet::Connect(connect)) = rumqttc::Packet::read(&mut out, 10_000) else {
        panic!("no CONNECT")
    };
    assert!(connect.clean_session);
    publish(Version::V311, &message(), 77, &mut out);
    let Ok(rumqttc::Packet::Publish(read)) = rumqttc::Packet::read(&mut out, 10_000) else {
        panic!("no PUBLISH")
    };
    assert_eq!((read.pkid, read.payload.len(), read.topic), (77, 300, message().topic));
}

#[test]
fn a_message_is_read_as_it_was_written() {
    for version in [Version::V5, Version::V311] {
        let mut sent = message();
        if version == Version::V311 {
            sent.properties = Properties::default();
        }
        let mut out = BytesMut::new();
        publish(version, &sent, 9, &mut out);
        // In pieces, as a network brings them.
        let mut bytes = BytesMut::new();
        let whole = out.len();
        for (index, byte) in out.iter().enumerate() {
            bytes.put_u8(*byte);
            let read = decode(version, &mut bytes, 10_000).unwrap();
            assert_eq!(read.is_some(), index + 1 == whole);
            if let Some(read) = read {
                assert_eq!(read, Packet::Incoming(Incoming::Publish(sent.clone())));
            }
        }
    }
}

#[test]
fn refusals_have_their_reason_also_unknown_ones() {
    let read = |version, bytes: &[u8]| decode(version, &mut BytesMut::from(bytes), 1_000).unwrap().unwrap();
    let refusal = |bytes: &[u8]| match read(Version::V5, bytes) {
        Packet::Incoming(Incoming::PubAck { packet_id: 7, refusal }) => {
            refusal.map(|reason| reason.to_string())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&[0x40, 2, 0, 7]), None);
    assert_eq!(refusal(&[0x40, 3, 0, 7, 0x10]), None, "nobody has subscribed to it");
    assert_eq!(refusal(&[0x40, 3, 0, 7, 0x95]).unwrap(), "packet too large (0x95)");
    assert_eq!(
        refusal(&[0x40, 10, 0, 7, 0x97, 6, 0x1f, 0, 3, b'n', b'o', b'!']).unwrap(),
        r#"quota exceeded (0x97) "no!""#
    );
    assert_eq!(refusal(&[0x40, 3, 0, 7, 0xf7]).unwrap(), "unknown reason (0xf7)");
    assert_eq!(
        read(Version::V5, &[0x90, 5, 0, 3, 0, 1, 0x87]),
        Packet::Incoming(Incoming::SubAck { packet_id: 3, refusals: vec![None, Some(Reason::new(0x87))] })
    );
    // A 3.1.1 broker's answer to a CONNECT of 5.0.
    let Packet::ConnAck(ack) = read(Version::V5, &[0x20, 2, 0, 1]) else { panic!("no CONNACK") };
    assert!(ack.refusal.unwrap().is_version());
    let Packet::ConnAck(ack) = read(Version::V5, &[0x20, 11, 1, 0, 8, 0x21, 0, 20, 0x27, 0, 0, 16, 0]) else {
        panic!("no CONNACK");
    };
    assert_eq!((ack.session_present, ack.receive_maximum, ack.max_packet), (true, Some(20), Some(4_096)));
}

/// Fixed seed: a failure is a failure again.
#[test]
fn noise_and_damage_are_errors_and_no_panic() {
    let mut random = fastrand::Rng::with_seed(1_883);
    let mut whole = BytesMut::new();
    publish(Version::V5, &message(), 9, &mut whole);
    whole.extend_from_slice(&[0x20, 11, 1, 0, 8, 0x21, 0, 20, 0x27, 0, 0, 16, 0]);
    whole.extend_from_slice(&[
        0x40, 10, 0, 7, 0x97, 6, 0x1f, 0, 3, b'n', b'o', b'!', 0x90, 5, 0, 3, 0, 1, 0x87,
    ]);
    whole.extend_from_slice(&[0xe0, 2, 0x8b, 0]);
    for round in 0..100_000 {
        let mut bytes = if round % 2 == 0 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes
        } else {
            BytesMut::from_iter((0..random.usize(..64)).map(|_| random.u8(..)))
        };
        for version in [Version::V5, Version::V311] {
            let mut copy = bytes.clone();
            while let Ok(Some(_)) = decode(version, &mut copy, 1_000) {}
        }
        bytes.clear();
    }
    let huge = decode(Version::V5, &mut BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]), 1_000);
    assert!(huge.unwrap_err().to_string().contains("larger"));
}
