//! Writes requests and answers challenges (RFC 2326 10, 14; RFC 7616, RFC 7617): the same before and after PLAY.

use std::fmt::Write as _;
use std::sync::Arc;

use fleet::Credentials;
use http_auth::{ChallengeRef, PasswordClient, PasswordParams};

use super::fault::Fault;
use super::message::Message;

const USER_AGENT: &str = "huiyan";

/// Everything that goes into a request beside its method and address.
pub(crate) struct Asker {
    credentials: Option<Arc<Credentials>>,
    /// The host that the credentials are for; they are told to no other.
    own_host: String,
    /// The host that is being asked.
    host: String,
    challenge: Option<PasswordClient>,
    /// A login was accepted in this session, so a refusal is about an old nonce.
    accepted: bool,
    sequence: u32,
    /// `Session`, once the camera gave one.
    pub session: Option<String>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The challenge is left out: what was made of it shows what the password is like.
        f.debug_struct("Asker")
            .field("host", &self.host)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Asker {
    pub(crate) fn new(credentials: Option<Arc<Credentials>>, host: &str) -> Self {
        Self {
            credentials,
            own_host: host.to_owned(),
            host: host.to_owned(),
            challenge: None,
            accepted: false,
            sequence: 0,
            session: None,
        }
    }

    /// Another connection, perhaps to another host.
    pub(crate) fn at_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
        (self.challenge, self.accepted, self.session) = (None, false, None);
    }

    /// The sequence number of the last request.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// A request, and whether there is a login in it. `headers`: whole lines.
    pub(crate) fn request(
        &mut self,
        method: &str,
        url: &str,
        headers: &str,
    ) -> Result<(String, bool), Fault> {
        self.sequence += 1;
        let mut text =
            format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: {USER_AGENT}\r\n", self.sequence);
        let login = self.login(method, url)?;
        if let Some(login) = &login {
            // Writing to a string cannot fail.
            let _ = write!(text, "Authorization: {login}\r\n");
        }
        if let Some(session) = &self.session {
            let _ = write!(text, "Session: {session}\r\n");
        }
        text.push_str(headers);
        text.push_str("\r\n");
        Ok((text, login.is_some()))
    }

    fn login(&mut self, method: &str, uri: &str) -> Result<Option<String>, Fault> {
        let (Some(challenge), Some(credentials)) = (&mut self.challenge, &self.credentials) else {
            return Ok(None);
        };
        let (username, password) = (credentials.user.as_str(), credentials.password.reveal());
        let params = PasswordParams { username, password, uri, method, body: Some(&[]) };
        challenge.respond(&params).map(Some).map_err(Fault::Challenge)
    }

    /// The request was answered with something else than 401.
    pub(crate) fn accepted(&mut self) {
        self.accepted = self.challenge.is_some();
    }

    /// Takes up the challenge of a 401. `logged_in`: the request held a login. `Ok`: worth asking again, because
    /// there was none, or because only its nonce was too old (RFC 7616 3.3) and not the password wrong.
    pub(crate) fn challenged(&mut self, reply: &Message, logged_in: bool) -> Result<(), Fault> {
        if self.credentials.is_none() {
            return Err(Fault::NoCredentials);
        }
        if !self.host.eq_ignore_ascii_case(&self.own_host) {
            return Err(Fault::LoginElsewhere(self.host.clone()));
        }
        let challenge = read_challenge(reply)?;
        let stale = match (&challenge, &self.challenge) {
            (PasswordClient::Digest(new), Some(PasswordClient::Digest(old))) => {
                new.stale() || self.accepted && new.nonce() != old.nonce()
            }
            _ => false,
        };
        if logged_in && !stale {
            return Err(Fault::Status { status: 401, phrase: "(the login was refused)".to_owned() });
        }
        self.challenge = Some(challenge);
        Ok(())
    }
}

/// The best challenge in any of the headers; one that cannot be read does not stand in the way of the others.
fn read_challenge(reply: &Message) -> Result<PasswordClient, Fault> {
    let mut builder = PasswordClient::builder();
    let mut unreadable = None;
    for header in reply.headers("www-authenticate") {
        match http_auth::parse_challenges(header) {
            Ok(challenges) => {
                // Some cameras repeat a parameter, which the library refuses.
                let once = challenges.iter().map(without_repetitions);
                builder = once.fold(builder, |builder, challenge| builder.challenge(&challenge));
            }
            Err(error) => unreadable = Some(format!("{error}")),
        }
    }
    builder.build().map_err(|error| Fault::Challenge(unreadable.unwrap_or(error).chars().take(200).collect()))
}

fn without_repetitions<'a>(challenge: &ChallengeRef<'a>) -> ChallengeRef<'a> {
    let mut once = ChallengeRef::new(challenge.scheme);
    for (name, value) in &challenge.params {
        if !once.params.iter().any(|(seen, _)| seen.eq_ignore_ascii_case(name)) {
            once.params.push((*name, *value));
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use fleet::Secret;

    use super::super::message::{MAX_BODY, parse};
    use super::*;

    fn asker(host: &str) -> Asker {
        let credentials =
            Credentials { user: "watcher".to_owned(), password: Secret::new("correct horse".to_owned()) };
        Asker::new(Some(Arc::new(credentials)), host)
    }

    fn refusal(headers: &str) -> Message {
        let text = format!("RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n{headers}\r\n\r\n");
        parse(text.as_bytes(), &mut 0, MAX_BODY).unwrap().unwrap().0
    }

    const MD5: &str = "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\"";
    const URL: &str = "rtsp://h/a?b=[1]&c=%20";

    #[test]
    fn a_request_is_numbered_and_carries_session_and_login_once_there_are_any() {
        let mut asker = asker("h");
        let (text, logged_in) = asker.request("DESCRIBE", URL, "Accept: application/sdp\r\n").unwrap();
        assert_eq!(
            text,
            format!(
                "DESCRIBE {URL} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: huiyan\r\nAccept: application/sdp\r\n\r\n"
            )
        );
        assert!(!logged_in);
        asker.challenged(&refusal(MD5), logged_in).unwrap();
        asker.session = Some("abc".to_owned());
        let (text, logged_in) = asker.request("SETUP", URL, "").unwrap();
        assert!(logged_in && text.contains("CSeq: 2\r\n") && text.contains("Session: abc\r\n"), "{text}");
        assert!(text.contains(&format!("uri=\"{URL}\"")), "{text}");
        assert!(!text.contains("correct horse") && !format!("{asker:?}").contains("horse"));
    }

    #[test]
    fn the_strongest_scheme_is_used() {
        for (headers, scheme) in [
            ("WWW-Authenticate: Basic realm=\"x\"", "Authorization: Basic d2F0Y2hlcjpjb3JyZWN0IGhvcnNl"),
            (
                "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"",
                "Digest ",
            ),
            (
                "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\", algorithm=SHA-256, qop=\"auth\"",
                "algorithm=SHA-256",
            ),
            (
                "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\", algorithm=MD5-sess, qop=\"auth\"",
                "algorithm=MD5-sess",
            ),
            ("WWW-Authenticate: ,,=\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"", "Digest "),
            ("WWW-Authenticate: Digest realm=\"x\", nonce=\"1\", realm=\"y\"", "realm=\"x\""),
        ] {
            let mut asker = asker("h");
            asker.challenged(&refusal(headers), false).unwrap();
            let (text, _) = asker.request("DESCRIBE", URL, "").unwrap();
            assert!(text.contains(scheme), "{headers}: {text}");
        }
    }

    #[test]
    fn a_wrong_password_is_not_tried_again_and_an_old_nonce_is() {
        let mut asker = asker("h");
        asker.challenged(&refusal(MD5), false).unwrap();
        let other = "WWW-Authenticate: Digest realm=\"x\", nonce=\"2\"";
        assert!(matches!(asker.challenged(&refusal(other), true), Err(Fault::Status { status: 401, .. })));
        for stale in ["stale=true", "stale=TRUE"] {
            assert!(asker.challenged(&refusal(&format!("{other}, {stale}")), true).is_ok(), "{stale}");
        }
        asker.accepted();
        assert!(
            asker.challenged(&refusal(MD5), true).is_ok(),
            "it was right before, so only the nonce is old"
        );
        assert!(asker.challenged(&refusal(MD5), true).is_err(), "the same nonce");
    }

    #[test]
    fn the_login_goes_to_the_configured_host_only() {
        let mut asker = asker("h");
        asker.challenged(&refusal(MD5), false).unwrap();
        asker.at_host("other");
        assert!(!asker.request("DESCRIBE", URL, "").unwrap().1);
        assert!(matches!(asker.challenged(&refusal(MD5), false), Err(Fault::LoginElsewhere(_))));
        asker.at_host("H");
        assert!(asker.challenged(&refusal(MD5), false).is_ok());
        let mut nobody = Asker::new(None, "h");
        assert!(matches!(nobody.challenged(&refusal(MD5), false), Err(Fault::NoCredentials)));
        let mut unknown = self::asker("h");
        assert!(matches!(
            unknown.challenged(&refusal("WWW-Authenticate: Odd x=y"), false),
            Err(Fault::Challenge(_))
        ));
        assert!(matches!(unknown.challenged(&refusal(""), false), Err(Fault::Challenge(_))));
    }
}
