//! One RTSP session from DESCRIBE to its end. Nothing here tries again: that is [`run`](crate::streamer::Streamer::run)'s.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Camera, Sampling, Transport};
use flow::{AccessUnit, CameraState, Codec, MediaTime, SessionId, Timestamp};
use futures::StreamExt as _;
use retina::client::{
    Described, PacketItem, PlayOptions, Playing, Session, SessionGroup, SessionIdPolicy, SessionOptions,
    SetupOptions, Stream, UnknownRtcpSsrcPolicy,
};
use retina::rtp::ReceivedPacket;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::admission::Admission;
use crate::depacketize::Depacketizer;
use crate::error::{SessionError, Step};
use crate::health::{Meter, Reporter};
use crate::picture::{Arrival, Content, Damage, Packet, Picture};
use crate::sdp;
use crate::select::{Reason, Selector};
use crate::{Policy, Sink};

/// The sets may come late, but not this late.
const MAX_UNDECODABLE_KEYS: u32 = 3;

/// What a session needs of its surroundings.
pub(crate) struct Context<'a> {
    pub camera: &'a Camera,
    pub policy: &'a Policy,
    pub admission: &'a Admission,
    pub group: &'a Arc<SessionGroup>,
    pub account: &'a Account,
    pub sink: &'a Sink,
    pub cancel: &'a CancellationToken,
    pub reporter: &'a mut Reporter,
    /// Set by the session: when its first whole picture came.
    pub streaming_since: &'a mut Option<Instant>,
}

/// How a session ends before its time.
enum End {
    Cancelled,
    Failed(SessionError),
}

impl<E: Into<SessionError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs one session. `Ok`: it was cancelled.
pub(crate) async fn run_once(mut context: Context<'_>) -> Result<(), SessionError> {
    match stream(&mut context).await {
        Ok(never) => match never {},
        Err(End::Cancelled) => Ok(()),
        Err(End::Failed(error)) => Err(error),
    }
}

async fn stream(context: &mut Context<'_>) -> Result<std::convert::Infallible, End> {
    let Context { camera, policy, cancel, .. } = *context;
    let host = camera.url.host_str().unwrap_or_default();
    let admitted = or_cancelled(cancel, context.admission.enter(host)).await?;

    let describe = Session::describe(camera.url.clone(), session_options(camera, context.group));
    let mut session = match step(cancel, Step::Describe, policy.describe, describe).await {
        Err(End::Failed(SessionError::Silent { step, limit })) => {
            return Err(or_cancelled(cancel, why_silent(camera, step, limit)).await?.into());
        }
        other => other?,
    };
    let (index, codec) = choose_video(session.streams())?;
    step(cancel, Step::Setup, policy.setup, session.setup(index, setup_options(camera.transport))).await?;
    let receiver = Receiver::new(context, codec, &session, index)?;
    let playing = step(cancel, Step::Play, policy.play, session.play(play_options())).await?;
    drop(admitted);

    receiver.run(context, playing).await
}

async fn or_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Result<T, End> {
    cancel.run_until_cancelled(work).await.ok_or(End::Cancelled)
}

async fn step<T>(
    cancel: &CancellationToken,
    step: Step,
    limit: Duration,
    request: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, End> {
    match or_cancelled(cancel, tokio::time::timeout(limit, request)).await? {
        Ok(answer) => Ok(answer.map_err(|source| SessionError::Request { step, source })?),
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

/// The first video that can be decoded.
fn choose_video(streams: &[Stream]) -> Result<(usize, Codec), SessionError> {
    let codec = |s: &Stream| match (s.media(), s.encoding_name()) {
        ("video", "h264") => Some(Codec::H264),
        ("video", "h265") => Some(Codec::H265),
        _ => None,
    };
    streams.iter().enumerate().find_map(|(i, s)| Some((i, codec(s)?))).ok_or_else(|| {
        let names = streams.iter().map(|s| format!("{}/{}", s.media(), s.encoding_name()));
        let mut offers = names.take(8).collect::<Vec<_>>().join(", ");
        if offers.is_empty() {
            offers.push_str("nothing");
        }
        SessionError::NoVideo { offers: offers.chars().take(200).collect() }
    })
}

/// Receives the pictures of one session.
struct Receiver {
    session: SessionId,
    codec: Codec,
    clock_rate: u32,
    depacketizer: Depacketizer,
    selector: Selector,
    meter: Meter,
    sequence: u64,
    first_ticks: Option<i64>,
    /// Lost since the last picture that was passed on.
    lost: u32,
    damaged: u64,
    last_damage: Option<Damage>,
    /// Key pictures in a row without parameter sets.
    undecodable_keys: u32,
    /// When the last whole picture came, or PLAY was answered.
    alive: Instant,
}

impl Receiver {
    fn new(
        context: &Context<'_>,
        codec: Codec,
        session: &Session<Described>,
        index: usize,
    ) -> Result<Self, SessionError> {
        let stream = &session.streams()[index];
        let clock_rate = stream.clock_rate_hz();
        if clock_rate == 0 {
            return Err(SessionError::ClockRate);
        }
        let look = &context.camera.look;
        let keys_only = look.sampling == Sampling::Keyframes;
        let mut depacketizer = Depacketizer::new(codec, keys_only, context.policy.max_access_unit);
        for nal in sdp::parameter_sets(session.sdp(), stream.rtp_payload_type()) {
            depacketizer.add_parameters(&nal);
        }
        let now = Instant::now();
        Ok(Self {
            session: SessionId::next(),
            codec,
            clock_rate,
            depacketizer,
            selector: Selector::new(look),
            meter: Meter::new(context.policy.health_every, now),
            sequence: 0,
            first_ticks: None,
            lost: 0,
            damaged: 0,
            last_damage: None,
            undecodable_keys: 0,
            alive: now,
        })
    }

    async fn run(
        mut self,
        context: &mut Context<'_>,
        mut playing: Session<Playing>,
    ) -> Result<std::convert::Infallible, End> {
        let cancel = context.cancel.clone();
        let mut cancelled = pin!(cancel.cancelled());
        self.alive = Instant::now();
        let mut deadline = pin!(tokio::time::sleep(context.policy.first_picture));
        loop {
            // Cancellation and deadline first: a camera that never stops sending must not keep them from being seen.
            let item = tokio::select! {
                biased;
                () = &mut cancelled => return Err(End::Cancelled),
                () = &mut deadline => {
                    let left = self.time_left(context)?;
                    deadline.as_mut().reset(tokio::time::Instant::now() + left);
                    continue;
                }
                item = playing.next() => item,
            };
            match item {
                Some(Ok(PacketItem::Rtp(packet))) => self.packet(context, &packet)?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(SessionError::Stream(error).into()),
                None => return Err(SessionError::Closed.into()),
            }
        }
    }

    /// Until the next whole picture must have come. The timer is set anew only when it fires: cheaper than per picture.
    fn time_left(&self, context: &Context<'_>) -> Result<Duration, SessionError> {
        let limit = match context.streaming_since {
            Some(_) => context.policy.no_data,
            None => context.policy.first_picture,
        };
        let left = limit.saturating_sub(self.alive.elapsed());
        if !left.is_zero() {
            return Ok(left);
        }
        Err(match self.last_damage {
            Some(source) => SessionError::OnlyDamaged { limit, damaged: self.damaged, source },
            None => SessionError::NoPicture { limit, udp: context.camera.transport == Transport::Udp },
        })
    }

    fn packet(&mut self, context: &mut Context<'_>, packet: &ReceivedPacket) -> Result<(), SessionError> {
        let wall = std::time::SystemTime::from(packet.ctx().received_wall());
        self.depacketizer.push(&Packet {
            ticks: packet.timestamp().timestamp(),
            mark: packet.mark(),
            lost: packet.loss().into(),
            arrival: Arrival {
                wall: Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH),
                at: packet.ctx().received(),
            },
            payload: packet.payload(),
        })?;
        while let Some(picture) = self.depacketizer.pop() {
            self.picture(context, picture);
        }
        if self.undecodable_keys >= MAX_UNDECODABLE_KEYS {
            return Err(SessionError::NoParameters(self.undecodable_keys));
        }
        Ok(())
    }

    fn picture(&mut self, context: &mut Context<'_>, picture: Picture) {
        context.account.received();
        let sequence = self.sequence;
        self.sequence += 1;
        self.lost = self.lost.saturating_add(picture.lost_before);
        self.note_alive(context, &picture);
        let role = match self.selector.decide(&picture) {
            Ok(role) => role,
            Err(reason) => return context.account.dropped(reason),
        };
        let (key, data) = match picture.content {
            Content::Coded { key, data, .. } => (key, data),
            // `decide` passes only whole pictures; anything else is counted as what it is.
            Content::NotKey => return context.account.dropped(Reason::NotKey),
            Content::NoParameters => return context.account.dropped(Reason::NoParameters),
            Content::Damaged(_) => return context.account.dropped(Reason::Damaged),
        };
        let first_ticks = *self.first_ticks.get_or_insert(picture.ticks);
        let unit = AccessUnit {
            camera: context.camera.id.clone(),
            session: self.session,
            sequence,
            codec: self.codec,
            media_time: MediaTime {
                ticks: picture.ticks.wrapping_sub(first_ticks),
                clock_rate: self.clock_rate,
            },
            captured: picture.arrival.wall,
            key,
            role,
            lost_before: self.lost,
            data,
        };
        match (context.sink)(unit) {
            Ok(()) => {
                context.account.passed();
                self.selector.passed(picture.arrival.at, role);
                self.lost = 0;
            }
            Err(crate::Overflow) => {
                context.account.dropped(Reason::Overflow);
                self.selector.refused();
            }
        }
    }

    /// Keeps the deadline and the health.
    fn note_alive(&mut self, context: &mut Context<'_>, picture: &Picture) {
        let key = match picture.content {
            Content::Damaged(damage) => {
                self.damaged += 1;
                self.last_damage = Some(damage);
                return;
            }
            Content::NoParameters => {
                self.undecodable_keys += 1;
                return;
            }
            Content::Coded { key, .. } => key,
            Content::NotKey => false,
        };
        if key {
            self.undecodable_keys = 0;
        }
        self.first_ticks.get_or_insert(picture.ticks);
        self.alive = Instant::now();
        self.damaged = 0;
        self.last_damage = None;
        if context.streaming_since.is_none() {
            *context.streaming_since = Some(self.alive);
            context.reporter.change(CameraState::Streaming, String::new());
            tracing::info!(camera = %context.camera.id, session = %self.session, codec = %self.codec, "streaming");
        }
        if let Some(rates) = self.meter.picture(key, picture.arrival.at) {
            context.reporter.rates(rates, rates.too_seldom(&context.camera.look));
        }
    }
}
