//! What a broker refuses is kept with its reason; a lost connection is something else. Against a broker that says what
//! the test wants it to say.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::broker::{is_up, start, submit, until};
use crate::testing::sample::{broker, event};

/// A broker that takes everything except events: those are answered with these bytes, of which `ID` stands for the
/// packet id.
async fn refusing(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = BytesMut::new();
                while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let mut out = BytesMut::new();
                    // A goodbye without a reason code is one that rumqttc does not read: it ends the connection.
                    while let Ok(packet) = Packet::read(&mut bytes, None) {
                        respond(&packet, answer, &mut out);
                    }
                    if stream.write_all(&out).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn respond(packet: &Packet, answer: &[u8], out: &mut BytesMut) {
    match packet {
        Packet::Connect(..) => {
            let ack = ConnAck { session_present: false, code: ConnectReturnCode::Success, properties: None };
            ack.write(out).unwrap();
        }
        Packet::Publish(message) => {
            let id = message.pkid.to_be_bytes();
            let is_event = String::from_utf8_lossy(&message.topic).contains("/event/");
            let taken = [0x40, 2, id[0], id[1]];
            let bytes = if is_event { answer } else { &taken };
            out.extend_from_slice(bytes);
            if is_event && bytes[0] == 0x40 {
                let at = out.len() - bytes.len() + 2;
                out[at..at + 2].copy_from_slice(&id);
            }
        }
        Packet::PingReq(_) => out.extend_from_slice(&[0xd0, 0]),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_exceeded_is_a_refusal_and_the_connection_stands() {
    let port = refusing(&[0x40, 3, 0, 0, 0x97]).await;
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker(port));
    submit(&publisher, &event(1, 0));
    until("refused", || publisher.state().unwrap().outbox.refused == 1).await;
    let state = publisher.state().unwrap();
    assert!(is_up(&publisher));
    assert_eq!(state.refused, [("quota exceeded".to_owned(), 1)]);
    assert_eq!((state.outbox.events, state.events.inside()), (1, 1), "kept, not dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_which_message_made_it_hang_up_is_believed() {
    // DISCONNECT: packet too large, as EMQX does.
    let port = refusing(&[0xe0, 2, 0x95, 0]).await;
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker(port));
    submit(&publisher, &event(1, 0));
    until("refused", || publisher.state().unwrap().outbox.refused == 1).await;
    until("connected again", || is_up(&publisher)).await;
    assert_eq!(publisher.state().unwrap().refused, [("packet too large".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_after_which_the_broker_hangs_up_each_time_is_put_aside_and_the_others_pass() {
    // A packet that a broker never sends: the connection ends without a word about the reason.
    let port = refusing(&[0xf0, 0]).await;
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker(port));
    submit(&publisher, &event(1, 0));
    until("put aside", || publisher.state().unwrap().outbox.refused == 1).await;
    assert_eq!(
        publisher.state().unwrap().refused,
        [("connection closed each time it was sent".to_owned(), 1)]
    );
    publisher.health(
        &flow::Health::new(
            crate::testing::sample::camera().id,
            flow::CameraState::Streaming,
            "",
            crate::testing::sample::time(0),
        ),
        None,
    );
    until("connected again", || is_up(&publisher)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_up(&publisher), "without that message the connection stands");
}
