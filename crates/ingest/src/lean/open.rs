//! From an address to a stream: DESCRIBE with redirections and log-in, SETUP, PLAY, each within its limit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ask::Asker;
use super::description::{self, Description};
use super::fault::{Fault, MAX_REDIRECTS};
use super::message::{Message, Start};
use super::playing::{Agreed, Playing};
use super::socket::Socket;
use super::talk::Talk;
use super::target::{self, Target};
use crate::error::{SessionError, Step};
use crate::sdp;
use crate::session::{Context, End, or_cancelled};
use crate::source::{Video, choose_video};

/// RFC 2326 12.37.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// More than that is no time-out but a mistake.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A camera that has described itself.
struct Described {
    talk: Talk,
    description: Description,
    /// The description as it came.
    text: Box<[u8]>,
    /// Of the URLs in the description.
    base: String,
    /// What was asked for, after redirections.
    asked: String,
    public: Option<String>,
}

/// Opens a session. `latency`: how long its packets may wait in the kernel.
pub(crate) async fn open(context: &Context<'_>, latency: Duration) -> Result<(Video, Playing), End> {
    let target = Target::of(context.camera);
    let mut asker = Asker::new(context.camera.credentials.clone(), &target.host);
    let connected = AtomicBool::new(false);
    let limit = context.policy.describe;
    let describe = describe(&mut asker, target, &connected);
    let mut described = match step(context, Step::Describe, limit, describe).await {
        Err(End::Failed(SessionError::Silent { .. })) if !connected.load(Ordering::Relaxed) => {
            return Err(SessionError::Unreachable { limit }.into());
        }
        other => other?,
    };
    match set_up(context, &mut described, &mut asker).await {
        Ok((video, agreed)) => {
            let (stream, early) = described.talk.into_parts();
            let socket = Socket::new(stream, early, latency);
            Ok((video, Playing::new(socket, agreed, asker)))
        }
        Err(end) => {
            if asker.session.is_some() {
                let goodbye = described.talk.ask(&mut asker, "TEARDOWN", &described.base, "");
                _ = tokio::time::timeout(context.policy.teardown, goodbye).await;
            }
            Err(end)
        }
    }
}

async fn set_up(
    context: &Context<'_>,
    described: &mut Described,
    asker: &mut Asker,
) -> Result<(Video, Agreed), End> {
    let Described { talk, description, text, base, asked, public } = described;
    let offers = description.media.iter().map(|m| (m.kind.as_str(), m.encoding.as_str()));
    let (index, codec) = choose_video(offers)?;
    let media = &mut description.media[index];
    if media.clock_rate == 0 {
        return Err(SessionError::ClockRate.into());
    }
    let parameter_sets = std::mem::take(&mut media.parameter_sets);
    let (clock_rate, payload_type) = (media.clock_rate, media.payload_type);
    let track = target::join(base, media.control.as_deref().unwrap_or_default());
    let url = description.control.as_deref().map_or_else(|| asked.clone(), |c| target::join(base, c));

    const TRANSPORT: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let setup = talk.ask(asker, "SETUP", &track, TRANSPORT);
    let setup = async { good(setup.await?) };
    let reply = step(context, Step::Setup, context.policy.setup, setup).await?;
    let (session, timeout) = session(&reply);
    asker.session = session;
    let (rtp, rtcp) = channels(&reply).map_err(failed(Step::Setup))?;

    let play = talk.ask(asker, "PLAY", &url, "Range: npt=0.000-\r\n");
    let play = async { good(play.await?) };
    step(context, Step::Play, context.policy.play, play).await?;
    let description = std::mem::take(text);
    let format = sdp::format(&description, payload_type);
    let video =
        Video { codec, clock_rate, parameter_sets, format, description, session_timeout: Some(timeout) };
    Ok((video, Agreed { rtp, rtcp, payload_type, clock_rate, url, timeout, public: public.take() }))
}

/// DESCRIBE, here or wherever the camera sends us. `connected` is set as long as a connection stands.
async fn describe(asker: &mut Asker, mut target: Target, connected: &AtomicBool) -> Result<Described, Fault> {
    for _ in 0..=MAX_REDIRECTS {
        connected.store(false, Ordering::Relaxed);
        let mut talk = Talk::connect(&target).await?;
        connected.store(true, Ordering::Relaxed);
        let reply = talk.ask(asker, "DESCRIBE", &target.url, "Accept: application/sdp\r\n").await?;
        let redirected = matches!(reply.start, Start::Reply { status: 301..=303 | 305 | 307 | 308, .. });
        if let (true, Some(location)) = (redirected, reply.header("location")) {
            let to = target.redirected(location);
            target = to.ok_or_else(|| Fault::BadRedirect(location.chars().take(200).collect()))?;
            asker.at_host(&target.host);
            continue;
        }
        let reply = good(reply)?;
        let description = description::parse(&reply.body)?;
        let base = target::base(reply.header("content-base"), reply.header("content-location"), &target.url);
        let public = reply.header("public").map(str::to_owned);
        let text = reply.body.into_boxed_slice();
        return Ok(Described { talk, description, text, base, asked: target.url, public });
    }
    Err(Fault::Redirects(target.url))
}

/// An answer whose status is no good is a fault.
fn good(reply: Message) -> Result<Message, Fault> {
    match &reply.start {
        Start::Reply { status: 200..300, .. } => Ok(reply),
        Start::Reply { status, phrase } => Err(Fault::Status { status: *status, phrase: phrase.clone() }),
        Start::Request { .. } => Err(Fault::Malformed("a request instead of an answer".to_owned())),
    }
}

/// `Session: id;timeout=60`.
pub(super) fn session(reply: &Message) -> (Option<String>, Duration) {
    let Some(header) = reply.header("session") else { return (None, DEFAULT_TIMEOUT) };
    let mut parts = header.split(';').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty()).map(str::to_owned);
    let seconds = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse::<u64>().ok())?
    });
    let timeout = seconds.filter(|s| *s > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    (id, timeout.min(MAX_TIMEOUT))
}

/// `Transport: …;interleaved=0-1`. Servers that say nothing mean what was asked for.
pub(super) fn channels(reply: &Message) -> Result<(u8, u8), Fault> {
    let Some(header) = reply.header("transport") else { return Ok((0, 1)) };
    // Several are allowed; the first is the one.
    let first = header.split(',').next().unwrap_or_default();
    let interleaved = first.split(';').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("interleaved").then_some(value.trim())
    });
    match interleaved {
        Some(pair) => {
            let (rtp, rtcp) = pair.split_once('-').map_or((pair, None), |(rtp, rtcp)| (rtp, Some(rtcp)));
            let number = |text: &str| text.trim().parse::<u8>().ok();
            let rtp = number(rtp).ok_or_else(|| Fault::Transport(header.chars().take(200).collect()))?;
            Ok((rtp, rtcp.and_then(number).unwrap_or(rtp.wrapping_add(1))))
        }
        None if first.to_ascii_lowercase().contains("tcp") => Ok((0, 1)),
        None => Err(Fault::Transport(header.chars().take(200).collect())),
    }
}

async fn step<T>(
    context: &Context<'_>,
    step: Step,
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, End> {
    match or_cancelled(context.cancel, tokio::time::timeout(limit, work)).await? {
        Ok(result) => Ok(result.map_err(failed(step))?),
        Err(_) => Err(SessionError::Silent { step, limit }.into()),
    }
}

fn failed(step: Step) -> impl FnOnce(Fault) -> SessionError {
    move |source| SessionError::Asked { step, source }
}

#[cfg(test)]
mod tests {
    use super::super::message::{MAX_BODY, parse};
    use super::*;

    fn reply(headers: &str) -> Message {
        let text = format!("RTSP/1.0 200 OK\r\n{headers}\r\n\r\n");
        parse(text.as_bytes(), &mut 0, MAX_BODY).unwrap().unwrap().0
    }

    #[test]
    fn session_and_timeout_are_read_with_blanks_and_without() {
        let seconds = Duration::from_secs;
        for (header, id, timeout) in [
            ("Session: abc;timeout=30", Some("abc"), 30),
            ("Session:        708345999 ; Timeout = 120", Some("708345999"), 120),
            ("Session: abc", Some("abc"), 60),
            ("Session: abc;timeout=0", Some("abc"), 60),
            ("Session: abc;timeout=x", Some("abc"), 60),
            ("Session: abc;timeout=999999", Some("abc"), 3600),
            ("Session:", None, 60),
            ("X: y", None, 60),
        ] {
            assert_eq!(session(&reply(header)), (id.map(str::to_owned), seconds(timeout)), "{header}");
        }
    }

    #[test]
    fn channels_are_those_that_the_server_says() {
        for (header, expected) in [
            ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1", Some((0, 1))),
            ("Transport: RTP/AVP/TCP;unicast;interleaved= 4-5;ssrc= d6d6627", Some((4, 5))),
            ("Transport: RTP/AVP/TCP;ssrc=22345684;interleaved=2", Some((2, 3))),
            ("Transport: rtp/avp/tcp;unicast", Some((0, 1))),
            ("X: y", Some((0, 1))),
            ("Transport: RTP/AVP;unicast;client_port=5000-5001", None),
            ("Transport: RTP/AVP/TCP;interleaved=300-301", None),
        ] {
            assert_eq!(channels(&reply(header)).ok(), expected, "{header}");
        }
    }
}
