//! Sessions through the library `retina`: UDP, and what our own receiver does not speak.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Transport};
use flow::Timestamp;
use futures::StreamExt as _;
use retina::client::{
    PacketItem, PlayOptions, Session, SessionGroup, SessionIdPolicy, SessionOptions, SetupOptions,
    UnknownRtcpSsrcPolicy,
};
use retina::rtp::ReceivedPacket;

use super::{Event, SenderClock, Video, choose_video, hoard};
use crate::error::{SessionError, Step};
use crate::picture::{Arrival, Packet};
use crate::sdp;
use crate::session::{Context, End, or_cancelled};

/// A session that plays.
pub(crate) struct Playing {
    session: Session<retina::client::Playing>,
    group: Arc<SessionGroup>,
    item: Option<PacketItem>,
}

/// DESCRIBE, SETUP and PLAY, each within its limit.
pub(crate) async fn open(context: &Context<'_>) -> Result<(Video, Playing), End> {
    let group = Arc::new(SessionGroup::default().named(context.camera.id.to_string()));
    let opened = open_in(context, &group).await;
    if opened.is_err() {
        await_teardown(context, &group).await;
    }
    opened
}

async fn open_in(context: &Context<'_>, group: &Arc<SessionGroup>) -> Result<(Video, Playing), End> {
    let Context { camera, policy, .. } = *context;
    let describe = Session::describe(camera.url.clone(), session_options(camera, group));
    let mut session = match step(context, Step::Describe, policy.describe, describe).await {
        Err(End::Failed(SessionError::Silent { step, limit })) => {
            return Err(or_cancelled(context.cancel, why_silent(camera, step, limit)).await?.into());
        }
        other => other?,
    };
    let offers = session.streams().iter().map(|s| (s.media(), s.encoding_name()));
    let (index, codec) = choose_video(offers)?;
    step(context, Step::Setup, policy.setup, session.setup(index, setup_options(camera.transport))).await?;
    let stream = &session.streams()[index];
    let clock_rate = stream.clock_rate_hz();
    if clock_rate == 0 {
        return Err(SessionError::ClockRate.into());
    }
    let parameter_sets = sdp::parameter_sets(session.sdp(), stream.rtp_payload_type());
    let description: Box<[u8]> = session.sdp().into();
    // retina keeps the time-out to itself.
    let format = sdp::format(&description, stream.rtp_payload_type());
    let video = Video { codec, clock_rate, parameter_sets, format, description, session_timeout: None };
    let session = step(context, Step::Play, policy.play, session.play(play_options())).await?;
    Ok((video, Playing { session, group: Arc::clone(group), item: None }))
}

impl Playing {
    pub(crate) async fn ready(&mut self) -> Result<(), SessionError> {
        match self.session.next().await {
            Some(Ok(item)) => {
                self.item = Some(item);
                Ok(())
            }
            Some(Err(error)) => Err(SessionError::Stream(error)),
            None => Err(SessionError::Closed),
        }
    }

    pub(crate) fn take(
        &mut self,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        match self.item.take() {
            Some(PacketItem::Rtp(packet)) => to(Event::Packet(taken(&packet))),
            Some(PacketItem::Rtcp(compound)) => {
                let ctx = *compound.ctx();
                let reports = compound.pkts().filter_map(|packet| packet.as_typed().ok().flatten());
                for report in reports {
                    let retina::rtcp::TypedPacketRef::SenderReport(report) = report else { continue };
                    let Some(ticks) = compound.rtp_timestamp() else { continue };
                    let arrival = arrival(ctx.received_wall().into(), ctx.received());
                    to(Event::Clock(SenderClock {
                        ntp: report.ntp_timestamp().0,
                        ticks: ticks.timestamp(),
                        arrival,
                    }))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// retina sends TEARDOWN in the background once a session is dropped; a camera with few sessions to give needs
    /// that before the next one.
    pub(crate) async fn close(self, context: &Context<'_>) {
        drop(self.session);
        await_teardown(context, &self.group).await;
    }
}

async fn await_teardown(context: &Context<'_>, group: &SessionGroup) {
    match tokio::time::timeout(context.policy.teardown, group.await_teardown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(camera = %context.camera.id, "TEARDOWN: {error}"),
        Err(_) => tracing::debug!(camera = %context.camera.id, "TEARDOWN takes too long"),
    }
}

fn taken(packet: &ReceivedPacket) -> Packet<'_> {
    Packet {
        ticks: packet.timestamp().timestamp(),
        mark: packet.mark(),
        lost: packet.loss().into(),
        arrival: arrival(packet.ctx().received_wall().into(), packet.ctx().received()),
        payload: packet.payload(),
    }
}

fn arrival(wall: std::time::SystemTime, at: std::time::Instant) -> Arrival {
    Arrival { wall: Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH), at }
}

async fn step<T>(
    context: &Context<'_>,
    step: Step,
    limit: Duration,
    request: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, End> {
    let request = hoard::guarded(hoard::LIMIT_KIB, request);
    match or_cancelled(context.cancel, tokio::time::timeout(limit, request)).await? {
        Ok(None) => Err(SessionError::Endless { step }.into()),
        Ok(Some(answer)) => Ok(answer.map_err(|source| SessionError::Request { step, source })?),
        Err(_) => Err(SessionError::Silent { step, limit }.into()),
    }
}

/// retina connects and asks in one call, so a silent camera may be one that is switched off: tries to connect once more.
async fn why_silent(camera: &Camera, step: Step, limit: Duration) -> SessionError {
    let host = camera.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let connect = tokio::net::TcpStream::connect((host, camera.url.port().unwrap_or(554)));
    match tokio::time::timeout(limit.min(Duration::from_secs(1)), connect).await {
        Ok(Ok(_)) => SessionError::Silent { step, limit },
        Ok(Err(_)) | Err(_) => SessionError::Unreachable { limit },
    }
}

fn session_options(camera: &Camera, group: &Arc<SessionGroup>) -> SessionOptions {
    let credentials = camera.credentials.as_ref().map(|c| retina::client::Credentials {
        username: c.user.clone(),
        password: c.password.reveal().to_owned(),
    });
    SessionOptions::default()
        .creds(credentials)
        .user_agent("huiyan".to_owned())
        .session_group(Arc::clone(group))
        .session_id(SessionIdPolicy::UseFirst)
}

fn setup_options(transport: Transport) -> SetupOptions {
    SetupOptions::default().transport(match transport {
        Transport::Tcp => retina::client::Transport::Tcp(Default::default()),
        Transport::Udp => retina::client::Transport::Udp(Default::default()),
    })
}

fn play_options() -> PlayOptions {
    PlayOptions::default().unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets)
}
