//! One RTSP session from DESCRIBE to its end. Nothing here tries again: that is [`run`](crate::streamer::Streamer::run)'s.

use std::pin::pin;
use std::time::{Duration, Instant};

use fleet::{Camera, Sampling, Transport};
use flow::{AccessUnit, CameraState, Codec, MediaTime, SessionId};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::depacketize::Depacketizer;
use crate::error::SessionError;
use crate::health::Reporter;
use crate::meter::Meter;
use crate::picture::{Content, Damage, Packet, Picture};
use crate::select::{Reason, Selector};
use crate::source::{self, Event, Route, Source, Video};
use crate::watching::{Step, Watching};
use crate::{Policy, Sink};

/// Bytes of an RTP header without extras (RFC 3550 5.1).
const RTP_HEADER: usize = 12;
/// The sets may come late, but not this late.
const MAX_UNDECODABLE_KEYS: u32 = 3;

/// What a session needs of its surroundings.
pub(crate) struct Context<'a> {
    pub camera: &'a Camera,
    pub policy: &'a Policy,
    pub account: &'a Account,
    pub sink: &'a Sink,
    pub cancel: &'a CancellationToken,
    pub reporter: &'a mut Reporter,
    pub watching: &'a mut Watching,
    /// Moved on by the caller once a session has failed.
    pub route: &'a Route,
    /// Called by the session once PLAY is answered.
    pub plays: &'a mut (dyn FnMut() + Send + Sync),
    /// Set by the session: when its first whole picture came.
    pub streaming_since: &'a mut Option<Instant>,
}

/// How a session ended without having failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Cancelled,
    /// The camera is to be watched in another way.
    Switched,
}

/// How a session ends before its time.
pub(crate) enum End {
    Cancelled,
    Switched,
    Failed(SessionError),
}

impl<E: Into<SessionError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs one session.
pub(crate) async fn run_once(mut context: Context<'_>) -> Result<Ended, SessionError> {
    match stream(&mut context).await {
        Ok(never) => match never {},
        Err(End::Cancelled) => Ok(Ended::Cancelled),
        Err(End::Switched) => Ok(Ended::Switched),
        Err(End::Failed(error)) => Err(error),
    }
}

async fn stream(context: &mut Context<'_>) -> Result<std::convert::Infallible, End> {
    let via = context.route.via();
    // Boxed, because it is large and over soon; what it leaves behind is what a session keeps.
    let (video, mut source) = Box::pin(source::open(context, via)).await?;
    (context.plays)();
    context.reporter.via(via);
    context.reporter.note(context.watching.note());
    context.watching.begins(Instant::now());

    let end = Receiver::new(context, &video).run(context, &mut source).await;
    source.close(context).await;
    end
}

pub(crate) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, End> {
    cancel.run_until_cancelled(work).await.ok_or(End::Cancelled)
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
    /// Bytes of payload since then.
    bytes: u64,
    damaged: u64,
    last_damage: Option<Damage>,
    /// Key pictures in a row without parameter sets.
    undecodable_keys: u32,
    /// When the last whole picture came, or PLAY was answered.
    alive: Instant,
    /// Bytes that had come by then and were neither RTSP nor RTP.
    garbage: u64,
    last_key: Option<Instant>,
    /// The camera is to be watched in another way.
    switch: bool,
    /// Measured with the packets of this turn.
    new_key_interval: Option<Duration>,
    clock: ClockOffset,
}

impl Receiver {
    fn new(context: &Context<'_>, video: &Video) -> Self {
        let look = &context.camera.look;
        let in_full = context.watching.in_full();
        let keys_only = look.sampling == Sampling::Keyframes && !in_full;
        let mut depacketizer = Depacketizer::new(video.codec, keys_only, context.policy.max_access_unit);
        for nal in &video.parameter_sets {
            depacketizer.add_parameters(nal);
        }
        depacketizer.format(video.format);
        let now = Instant::now();
        Self {
            session: SessionId::next(),
            codec: video.codec,
            clock_rate: video.clock_rate,
            depacketizer,
            selector: Selector::new(look, video.codec, in_full),
            switch: false,
            meter: Meter::new(context.policy, now),
            sequence: 0,
            first_ticks: None,
            lost: 0,
            bytes: 0,
            damaged: 0,
            last_damage: None,
            undecodable_keys: 0,
            alive: now,
            garbage: 0,
            last_key: None,
            new_key_interval: None,
            clock: ClockOffset::default(),
        }
    }

    async fn run(
        mut self,
        context: &mut Context<'_>,
        source: &mut Source,
    ) -> Result<std::convert::Infallible, End> {
        let cancel = context.cancel.clone();
        let mut cancelled = pin!(cancel.cancelled());
        self.alive = Instant::now();
        let mut deadline = pin!(tokio::time::sleep(context.policy.first_picture));
        loop {
            // Cancellation and deadline first: a camera that never stops sending must not keep them from being seen.
            tokio::select! {
                biased;
                () = &mut cancelled => return Err(End::Cancelled),
                () = &mut deadline => {
                    let left = self.time_left(context, source.garbage())?;
                    deadline.as_mut().reset(tokio::time::Instant::now() + left);
                    continue;
                }
                ready = source.ready() => ready?,
            }
            let alive = self.alive;
            source.take(&mut |event| match event {
                Event::Packet(packet) => self.packet(context, &packet),
                Event::Clock(clock) => {
                    if let Some(offset) = clock.offset_s().map(|offset| self.clock.report(offset)) {
                        context.reporter.clock_offset(offset);
                    }
                    Ok(())
                }
            })?;
            if self.alive > alive {
                self.garbage = source.garbage();
            }
            if self.switch {
                return Err(End::Switched);
            }
            if let Some(interval) = self.new_key_interval.take() {
                source.set_latency(source::allowed_latency(&context.camera.look, Some(interval)));
            }
        }
    }

    /// Until the next whole picture must have come. The timer is set anew only when it fires: cheaper than per picture.
    fn time_left(&self, context: &Context<'_>, garbage: u64) -> Result<Duration, SessionError> {
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
            None if garbage > self.garbage => {
                SessionError::OnlyGarbage { limit, bytes: garbage - self.garbage }
            }
            None => SessionError::NoPicture { limit, udp: context.camera.transport == Transport::Udp },
        })
    }

    fn packet(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Result<(), SessionError> {
        self.meter.packets(1, (packet.payload.len() + RTP_HEADER) as u64, packet.lost.into());
        self.bytes += packet.payload.len() as u64;
        self.depacketizer.push(packet)?;
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
            // Nearly: its own are counted with the heads of fragments, and a camera without markers is one packet ahead.
            bytes_between: self.bytes.saturating_sub(data.len() as u64),
            data,
        };
        match (context.sink)(unit) {
            Ok(()) => {
                context.account.passed();
                self.selector.passed(picture.arrival.at, role);
                self.lost = 0;
                self.bytes = 0;
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
                // Losses are told also while nothing whole comes.
                let streams = context.streaming_since.is_some();
                if let Some(rates) = self.meter.tick(picture.arrival.at).filter(|_| streams) {
                    context.reporter.rates(rates, rates.too_seldom(&context.camera.look));
                }
                return;
            }
            Content::NoParameters => {
                self.undecodable_keys += 1;
                return;
            }
            Content::Coded { stands_alone, .. } => stands_alone,
            Content::NotKey => false,
        };
        if key {
            self.undecodable_keys = 0;
            let now = picture.arrival.at;
            let last = self.last_key.replace(now);
            self.new_key_interval = last.map(|last| now.saturating_duration_since(last));
        }
        self.watch(context, key, picture.arrival.at);
        self.first_ticks.get_or_insert(picture.ticks);
        self.alive = Instant::now();
        self.damaged = 0;
        self.last_damage = None;
        context.reporter.picture(picture.arrival.wall);
        if context.streaming_since.is_none() {
            *context.streaming_since = Some(self.alive);
            context.reporter.change(CameraState::Streaming, String::new());
            tracing::info!(camera = %context.camera.id, session = %self.session, codec = %self.codec, "streaming");
        }
        if let Some(rates) = self.meter.picture(key, picture.arrival.at) {
            let in_full = context.watching.in_full();
            let complaint = rates.too_seldom(&context.camera.look).filter(|_| !in_full);
            context.reporter.rates(rates, complaint);
        }
    }

    /// Whether key pictures come often enough, and what to do where they do not.
    fn watch(&mut self, context: &mut Context<'_>, stands_alone: bool, at: Instant) {
        match context.watching.picture(stands_alone, at) {
            Step::Stay => return,
            Step::Keys => {
                self.depacketizer.keys_only(true);
                self.selector.keys_only();
            }
            Step::Reconnect => self.switch = true,
        }
        let note = context.watching.note();
        let what = if note.is_empty() { "watched as configured again" } else { note.as_str() };
        tracing::info!(camera = %context.camera.id, "{what}");
        context.reporter.note(note);
    }
}

/// How far the camera's clock is ahead of ours. What delays a report makes it look further behind, so the least delayed
/// of the last reports is nearest to the truth.
#[derive(Debug, Default)]
struct ClockOffset {
    last: [Option<f64>; 8],
    next: usize,
}

impl ClockOffset {
    /// One more report, in seconds; gives the estimate.
    fn report(&mut self, offset: f64) -> f64 {
        // A clock that was set tells nothing about what it was before.
        const SET: f64 = 2.0;
        if self.last.iter().flatten().any(|last| (last - offset).abs() > SET) {
            self.last = Default::default();
        }
        self.last[self.next % self.last.len()] = Some(offset);
        self.next += 1;
        self.last.iter().flatten().copied().fold(offset, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_delayed_report_counts_until_the_clock_is_set() {
        let mut clock = ClockOffset::default();
        let seen = [-0.5, -0.1, -0.3, 60.0, 59.9].map(|offset| clock.report(offset));
        assert_eq!(seen, [-0.5, -0.1, -0.1, 60.0, 60.0]);
    }
}
