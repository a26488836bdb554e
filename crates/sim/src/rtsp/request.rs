//! RTSP requests and their answers (RFC 2326 section 10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flow::Timestamp;
use rtsp_types::headers::transport::{RtpLowerTransport, RtpProfile, RtpTransport, Transport, Transports};
use rtsp_types::{HeaderName, Method, Response, ResponseBuilder, StatusCode, Url, Version, headers};
use tokio::time::Instant;

use super::auth::Verdict;
use super::connection::{Connection, Delivery, End, Playing, Session};
use super::extra::Extra;
use super::fault::{KeepAlive, Step};
use super::late::Late;
use super::mount::{Auth, Scheme, Start};
use super::player::Player;
use super::script::Script;
use super::sdp;
use super::server::{Mounted, PlayRecord};

type Request = rtsp_types::Request<Vec<u8>>;

const PUBLIC: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN";
const PUBLIC_WITHOUT_GET: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN";
const PUBLIC_WITHOUT_OPTIONS: &str = "DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN";
/// Bytes that look a little like an SDP, for [`Fault::GarbageSdp`](super::Fault::GarbageSdp).
const GARBAGE: &[u8] =
    b"v=\xff\xfe\x00garbage\r\nm=video zero RTP/AVP\r\na=rtpmap:999999 ////\r\n\x80\x81\x82=";

/// Status, further headers and body of an answer.
struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn ok() -> Self {
        Self::new(StatusCode::Ok)
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Connection<'_> {
    /// Answers one request.
    pub(super) fn request(&mut self, request: &Request) -> Result<(), End> {
        let mounted = request.request_uri().and_then(|uri| self.shared.mounted(mount_path(uri)));
        let target = mounted.map(|mounted| (self.script(&mounted), mounted));
        if let Some((script, _)) = &target {
            if script.refuse_connection {
                return Err(End::Reset);
            }
            if self.hangs(script, request.method()) {
                self.hung = true;
                return Ok(());
            }
            if script.endless_headers && *request.method() == Method::Describe {
                self.endless = true;
                self.hung = true;
                return self.send(b"RTSP/1.0 200 OK\r\n").and_then(|()| self.start_endless());
            }
        }
        let answer = match request.header(&headers::CSEQ) {
            Some(_) => self.answer(request, target),
            None => Answer::new(StatusCode::BadRequest),
        };
        let mut response = Response::builder(Version::V1_0, answer.status);
        if let Some(cseq) = request.header(&headers::CSEQ) {
            response = response.header(headers::CSEQ, cseq.as_str());
        }
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        self.respond(response, answer.body)
    }

    /// What goes wrong on this connection with a mount.
    fn script(&mut self, mounted: &Arc<Mounted>) -> Arc<Script> {
        if let Some((known, script)) = &self.drawn
            && Arc::ptr_eq(known, mounted)
        {
            return script.clone();
        }
        let script = match &mounted.mount.random {
            None => mounted.script.clone(),
            Some(random) => {
                let faults = random.draw(&mounted.path, mounted.draws.fetch_add(1, Ordering::Relaxed));
                let all = mounted.mount.faults.iter().chain(&faults);
                let script = Script::new(all, |clip| self.shared.table(&mounted.path, clip));
                // Those of the mount were checked when it was mounted, and none is drawn that could fail.
                script.map_or_else(|_| mounted.script.clone(), Arc::new)
            }
        };
        self.drawn = Some((mounted.clone(), script.clone()));
        script
    }

    fn hangs(&self, script: &Script, method: &Method) -> bool {
        let playing = self.session.as_ref().is_some_and(|session| session.playing.is_some());
        script.hang.iter().any(|step| is_step(*step, method, playing))
    }

    /// Answers what is no request, and closes.
    pub(super) fn refuse(&mut self, status: StatusCode) -> Result<(), End> {
        self.closing = true;
        self.respond(Response::builder(Version::V1_0, status), Vec::new())
    }

    fn respond(&mut self, response: ResponseBuilder, body: Vec<u8>) -> Result<(), End> {
        let mut bytes = Vec::new();
        // Writing to a vector fails only for a header that cannot be written.
        if let Err(error) = response.header(headers::SERVER, "huiyan-sim").build(body).write(&mut bytes) {
            return Err(End::Socket(std::io::Error::other(error)));
        }
        if self.drawn.as_ref().is_some_and(|(_, script)| script.drip.is_some()) {
            self.drip.extend(bytes);
            return Ok(());
        }
        self.send(&bytes)
    }

    fn answer(&mut self, request: &Request, target: Option<(Arc<Script>, Arc<Mounted>)>) -> Answer {
        if let Some(status) = target.as_ref().and_then(|(script, _)| script.answer) {
            return Answer::new(status.into());
        }
        let keep_alive = target.as_ref().and_then(|(script, _)| script.keep_alive);
        let public = match keep_alive {
            None => PUBLIC,
            Some(KeepAlive::Options) => PUBLIC_WITHOUT_GET,
            Some(KeepAlive::GetParameter) => PUBLIC_WITHOUT_OPTIONS,
        };
        match (keep_alive, request.method()) {
            (Some(KeepAlive::Options), Method::Options)
            | (Some(KeepAlive::GetParameter), Method::GetParameter) => self.kept_alive(),
            (Some(_), Method::GetParameter | Method::SetParameter) => {
                return Answer::new(StatusCode::MethodNotAllowed).with(headers::ALLOW, public);
            }
            _ => {}
        }
        if *request.method() == Method::Options {
            return Answer::ok().with(headers::PUBLIC, public);
        }
        if let Some(challenge) =
            target.as_ref().and_then(|(script, mounted)| self.challenge(request, script, mounted))
        {
            return Answer::new(StatusCode::Unauthorized).with(headers::WWW_AUTHENTICATE, challenge);
        }
        match (request.method(), target) {
            // Keep-alives may come for `*`.
            (Method::GetParameter | Method::SetParameter, _) => self.in_session(request, |_| Answer::ok()),
            (_, None) => Answer::new(StatusCode::NotFound),
            (Method::Describe, Some((script, mounted))) => describe(request, &script, &mounted),
            (Method::Setup, Some((script, mounted))) => self.setup(request, script, mounted),
            (Method::Play, Some(_)) => {
                self.in_session(request, |connection| connection.start_playing(request))
            }
            (Method::Teardown, Some(_)) => self.in_session(request, |connection| {
                connection.session = None;
                connection.closing = true;
                Answer::ok()
            }),
            _ => Answer::new(StatusCode::MethodNotAllowed).with(headers::ALLOW, public),
        }
    }

    /// What `WWW-Authenticate` says, unless the request may pass.
    fn challenge(&self, request: &Request, script: &Script, mounted: &Mounted) -> Option<String> {
        let refuse = script.wrong_password;
        let any = || Auth {
            scheme: Scheme::Digest { nonce_lifetime: Duration::from_secs(60) },
            credentials: fleet::Credentials {
                user: String::new(),
                password: fleet::Secret::new(format!("{:x}", fastrand::u128(..))),
            },
        };
        let auth = mounted.mount.auth.clone().or_else(|| refuse.then(any))?;
        let given = request.header(&headers::AUTHORIZATION).map(|value| value.as_str());
        match self.shared.gate.check(&auth, request.method().into(), given, refuse) {
            Verdict::Pass => None,
            Verdict::Challenge(challenge) => Some(challenge),
        }
    }

    /// Answers a request that belongs to the session. One without a Session header is taken to mean the only one.
    fn in_session(&mut self, request: &Request, answer: impl FnOnce(&mut Self) -> Answer) -> Answer {
        let given = request.header(&headers::SESSION).map(|value| value.as_str());
        let given = given.map(|value| value.split(';').next().unwrap_or_default().trim());
        let id = self.session.as_ref().map(|session| session.id.clone());
        match (given, id) {
            (Some(given), Some(id)) if given == id => {
                answer(self).with(headers::SESSION, self.session_header(&id))
            }
            (None, Some(id)) => answer(self).with(headers::SESSION, self.session_header(&id)),
            (None, None) if *request.method() != Method::Play => answer(self),
            (None, None) => Answer::new(StatusCode::MethodNotValidInThisState),
            (Some(_), _) => Answer::new(StatusCode::SessionNotFound),
        }
    }

    fn session_header(&self, id: &str) -> String {
        format!("{id};timeout={}", self.shared.options.session_timeout.as_secs_f64().ceil())
    }

    fn setup(&mut self, request: &Request, script: Arc<Script>, mounted: Arc<Mounted>) -> Answer {
        if self.session.as_ref().is_some_and(|session| session.playing.is_some()) {
            return Answer::new(StatusCode::MethodNotValidInThisState);
        }
        let number = request.request_uri().map_or(0, track_number);
        let extra = mounted.mount.tracks.iter().copied().find(|track| track.number() == number);
        if number != 0 && extra.is_none() {
            return Answer::new(StatusCode::NotFound);
        }
        let Ok(Some(offers)) = request.typed_header::<Transports>() else {
            return Answer::new(StatusCode::UnsupportedTransport);
        };
        let Some((delivery, transport)) = offers.iter().find_map(|offer| self.agree(offer)) else {
            return Answer::new(StatusCode::UnsupportedTransport);
        };
        // Another track of the session that is there, if the client says so; else a session of its own.
        let known = self.session.take().filter(|_| request.header(&headers::SESSION).is_some());
        let mut session = known.unwrap_or_else(|| Session::new(self.shared, mounted, script));
        match extra {
            Some(track) => session.extras.push(Extra::new(track, delivery)),
            None => session.delivery = Some(delivery),
        }
        let transport = match extra {
            Some(_) => transport,
            None => format!("{transport};ssrc={:08X}", session.identity.ssrc),
        };
        let id = self.session_header(&session.id);
        self.session = Some(session);
        Answer::ok().with(headers::TRANSPORT, transport).with(headers::SESSION, id)
    }

    /// Takes the client's offer, if it is one of the two that we speak. Datagrams go to the client's own address,
    /// never to a `destination` that it names: the server must not flood strangers.
    fn agree(&self, offer: &Transport) -> Option<(Delivery, String)> {
        let Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params }) = offer else {
            return None;
        };
        if params.multicast {
            return None;
        }
        if let Some(RtpLowerTransport::Tcp) = lower_transport {
            let (rtp, rtcp) = params.interleaved.unwrap_or((0, None));
            let rtcp = rtcp.unwrap_or(rtp.wrapping_add(1));
            let transport = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}");
            return Some((Delivery::Interleaved { rtp, rtcp }, transport));
        }
        let (rtp, rtcp) = params.client_port?;
        let rtcp = rtcp.unwrap_or(rtp.checked_add(1)?);
        let own = |socket: &tokio::net::UdpSocket| socket.local_addr().map(|address| address.port()).ok();
        let (own_rtp, own_rtcp) = (own(&self.shared.rtp)?, own(&self.shared.rtcp)?);
        let to = |port| SocketAddr::new(self.peer.ip(), port);
        let transport = format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={own_rtp}-{own_rtcp}");
        (rtp > 0).then(|| (Delivery::Udp { rtp: to(rtp), rtcp: to(rtcp) }, transport))
    }

    fn start_playing(&mut self, request: &Request) -> Answer {
        let Some(session) = &mut self.session else { return Answer::new(StatusCode::SessionNotFound) };
        let mounted = &session.mounted;
        let now = Instant::now();
        let (position, range) = match mounted.mount.start {
            Start::OnPlay => (Duration::ZERO, "npt=0.000-"),
            Start::Live { offset } | Start::Anywhere { offset } => {
                (self.shared.live_position(now, offset, mounted.mount.clip.duration), "npt=now-")
            }
        };
        // A second PLAY changes nothing: some clients send it as a keep-alive.
        let playing = session.playing.get_or_insert_with(|| {
            self.shared.record(PlayRecord {
                path: mounted.path.clone(),
                host: self.presence.address,
                started: Timestamp::now(),
                position,
            });
            self.presence.plays();
            let (table, script) = (mounted.table.clone(), session.script.clone());
            let late = Late::new(script.reorder);
            let player = Player::new(table, script, mounted.mount.rounds, session.identity, now, position);
            let player = match mounted.mount.start {
                Start::Anywhere { .. } => player,
                Start::OnPlay | Start::Live { .. } => player.at_key(),
            };
            session.extras.iter_mut().for_each(|extra| extra.start(now));
            Playing { player, next_report: now, in_flight: None, late }
        });
        let url = request.request_uri().map(track_url).unwrap_or_default();
        let (sequence, timestamp) = (playing.player.next_sequence(), playing.player.next_timestamp());
        Answer::ok()
            .with(headers::RANGE, range)
            .with(headers::RTP_INFO, format!("url={url};seq={sequence};rtptime={timestamp}"))
    }
}

fn describe(request: &Request, script: &Script, mounted: &Mounted) -> Answer {
    if let Some(to) = &script.redirect {
        return Answer::new(StatusCode::Found).with(headers::LOCATION, to.as_str());
    }
    let body = match script.garbage_sdp {
        true => GARBAGE.to_vec(),
        false => sdp::describe(mounted, script).into_bytes(),
    };
    let base = request.request_uri().map(base_url).unwrap_or_default();
    let answer =
        Answer::ok().with(headers::CONTENT_BASE, base).with(headers::CONTENT_TYPE, "application/sdp");
    Answer { body, ..answer }
}

fn is_step(step: Step, method: &Method, playing: bool) -> bool {
    match step {
        Step::Options => *method == Method::Options,
        Step::Describe => *method == Method::Describe,
        Step::Setup => *method == Method::Setup,
        Step::Play => *method == Method::Play,
        Step::Teardown => *method == Method::Teardown,
        Step::KeepAlive => {
            playing && matches!(method, Method::Options | Method::GetParameter | Method::SetParameter)
        }
    }
}

/// The path without slashes around it and without the track; a query is not part of it.
fn mount_path(uri: &Url) -> &str {
    let path = uri.path().trim_matches('/');
    match path.rsplit_once(sdp::TRACK) {
        Some((before, number)) if number.len() == 1 => before.trim_end_matches('/'),
        _ => path,
    }
}

/// The track that a URL names; 0, the video, where it names none.
fn track_number(uri: &Url) -> u8 {
    let number = uri.path().trim_end_matches('/').rsplit_once(sdp::TRACK).map(|(_, number)| number);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The URL of the presentation, without credentials and query.
fn base_url(uri: &Url) -> String {
    let host = uri.host_str().unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("rtsp://{host}{port}/{}/", mount_path(uri))
}

/// The video's URL.
fn track_url(uri: &Url) -> String {
    base_url(uri) + sdp::TRACK + "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_presentation_and_track_url() {
        for url in [
            "rtsp://h:8554/street/cam-1",
            "rtsp://h:8554/street/cam-1/",
            "rtsp://u:p@h:8554/street/cam-1/trackID=0",
            "rtsp://h:8554/street/cam-1?transportmode=unicast",
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(mount_path(&url), "street/cam-1");
            assert_eq!(track_url(&url), "rtsp://h:8554/street/cam-1/trackID=0");
        }
    }
}
