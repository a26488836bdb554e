//! Basic (RFC 7617) and Digest authentication: RFC 2617 with MD5 and without `qop`, RFC 7616 with SHA-256.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use sha2::{Digest as _, Sha256};

use super::mount::{Auth, Scheme};

const REALM: &str = "huiyan-sim";

/// What the gate says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Pass,
    /// 401 with this `WWW-Authenticate`.
    Challenge(String),
}

/// Makes nonces that carry their own age, so that no list of them is kept: any number of clients costs nothing.
#[derive(Debug)]
pub(super) struct Gate {
    secret: String,
    since: Instant,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { secret: format!("{:032x}", fastrand::u128(..)), since: Instant::now() }
    }

    /// Judges the `Authorization` header of a request. `refuse`: even the right password is wrong.
    pub(super) fn check(
        &self,
        auth: &Auth,
        method: &str,
        authorization: Option<&str>,
        refuse: bool,
    ) -> Verdict {
        let age = self.since.elapsed();
        match auth.scheme {
            Scheme::Basic => {
                let expected = format!("{}:{}", auth.credentials.user, auth.credentials.password.reveal());
                let given = authorization.and_then(|header| scheme(header, "Basic"));
                let given = given.and_then(|text| BASE64.decode(text.trim()).ok());
                if !refuse && given.as_deref() == Some(expected.as_bytes()) {
                    return Verdict::Pass;
                }
                Verdict::Challenge(format!("Basic realm=\"{REALM}\""))
            }
            Scheme::Digest { nonce_lifetime } | Scheme::Sha256 { nonce_lifetime } => {
                let hash: Hash =
                    if matches!(auth.scheme, Scheme::Digest { .. }) { md5_hex } else { sha256_hex };
                let answer = authorization.and_then(|header| scheme(header, "Digest"));
                let right = answer.and_then(|answer| self.right_digest(hash, auth, method, answer));
                let stale = match right {
                    Some(born) if !refuse => {
                        if age.saturating_sub(born) <= nonce_lifetime {
                            return Verdict::Pass;
                        }
                        true
                    }
                    _ => false,
                };
                let (nonce, stale) = (self.nonce(age), if stale { ", stale=true" } else { "" });
                let kind = match auth.scheme {
                    Scheme::Sha256 { .. } => ", algorithm=SHA-256, qop=\"auth\"",
                    Scheme::Digest { .. } | Scheme::Basic => "",
                };
                Verdict::Challenge(format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\"{kind}{stale}"))
            }
        }
    }

    /// When the nonce was made, if it is one of ours and the response is right.
    fn right_digest(&self, hash: Hash, auth: &Auth, method: &str, answer: &str) -> Option<Duration> {
        let (nonce, uri) = (field(answer, "nonce")?, field(answer, "uri")?);
        let born = Duration::from_millis(u64::from_str_radix(nonce.get(..16)?, 16).ok()?);
        if self.nonce(born) != nonce || field(answer, "realm")? != REALM {
            return None;
        }
        let (user, password) = (&auth.credentials.user, auth.credentials.password.reveal());
        let known = hash(&format!("{user}:{REALM}:{password}"));
        let asked = hash(&format!("{method}:{uri}"));
        let expected = match field(answer, "qop") {
            None => hash(&format!("{known}:{nonce}:{asked}")),
            Some(qop) => {
                let (count, own) = (field(answer, "nc")?, field(answer, "cnonce")?);
                hash(&format!("{known}:{nonce}:{count}:{own}:{qop}:{asked}"))
            }
        };
        let right =
            field(answer, "username")? == user && field(answer, "response")?.eq_ignore_ascii_case(&expected);
        right.then_some(born)
    }

    fn nonce(&self, age: Duration) -> String {
        let millis = age.as_millis() as u64;
        format!("{millis:016x}{}", &md5_hex(&format!("{millis}:{}", self.secret)))
    }
}

/// What follows the name of the scheme.
fn scheme<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (given, rest) = header.trim().split_once(' ')?;
    given.eq_ignore_ascii_case(name).then_some(rest)
}

/// The value of `name="value"` or `name=value`. Values hold commas only where they are quoted.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = answer;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if key.trim_start_matches([',', ' ']).trim_end().eq_ignore_ascii_case(name) {
            return Some(value.trim());
        }
        rest = next;
    }
}

/// A digest in hexadecimal.
type Hash = fn(&str) -> String;

fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text))
}

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::{Credentials, Secret};

    fn auth(scheme: Scheme) -> Auth {
        let credentials = Credentials { user: "admin".into(), password: Secret::new("12345".into()) };
        Auth { scheme, credentials }
    }

    #[test]
    fn a_digest_response_matches_the_example_of_rfc_2617() {
        // Section 3.5 without qop: the response is MD5(HA1 ":" nonce ":" HA2).
        let ha1 = md5_hex("Mufasa:testrealm@host.com:Circle Of Life");
        assert_eq!(ha1, "939e7578ed9e3c518a452acee763bce9");
        assert_eq!(md5_hex("GET:/dir/index.html"), "39aff3a2bab6126f332b942af96d3366");
    }

    #[test]
    fn a_sha_256_response_matches_the_example_of_rfc_7616() {
        // Section 3.9.1.
        let ha1 = sha256_hex("Mufasa:http-auth@example.org:Circle of Life");
        let ha2 = sha256_hex("GET:/dir/index.html");
        let (nonce, cnonce) =
            ("7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
        assert_eq!(
            sha256_hex(&format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}")),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn a_sha_256_answer_passes_with_and_without_qop() {
        let gate = Gate::new();
        let auth = auth(Scheme::Sha256 { nonce_lifetime: Duration::from_secs(60) });
        let Verdict::Challenge(challenge) = gate.check(&auth, "PLAY", None, false) else { panic!("passed") };
        assert!(challenge.contains("algorithm=SHA-256"), "{challenge}");
        let nonce = field(challenge.strip_prefix("Digest ").unwrap(), "nonce").unwrap();
        let (ha1, ha2) = (sha256_hex(&format!("admin:{REALM}:12345")), sha256_hex("PLAY:rtsp://h/p"));
        let start =
            format!("Digest username=\"admin\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"rtsp://h/p\"");
        let plain = sha256_hex(&format!("{ha1}:{nonce}:{ha2}"));
        let qop = sha256_hex(&format!("{ha1}:{nonce}:00000001:abc:auth:{ha2}"));
        let answers = [
            format!("{start}, response=\"{plain}\""),
            format!("{start}, qop=auth, nc=00000001, cnonce=\"abc\", response=\"{qop}\""),
        ];
        for answer in answers {
            assert_eq!(gate.check(&auth, "PLAY", Some(&answer), false), Verdict::Pass, "{answer}");
        }
        let wrong = format!("{start}, response=\"{ha1}\"");
        assert_ne!(gate.check(&auth, "PLAY", Some(&wrong), false), Verdict::Pass);
    }

    #[test]
    fn fields_are_found_quoted_or_not_and_hostile_input_is_nothing() {
        let answer = r#"username="a,b", realm="x", nonce=abc, uri="rtsp://h/p?a=b,c", response="1""#;
        assert_eq!(field(answer, "username"), Some("a,b"));
        assert_eq!(field(answer, "nonce"), Some("abc"));
        assert_eq!(field(answer, "uri"), Some("rtsp://h/p?a=b,c"));
        assert_eq!(field(answer, "response"), Some("1"));
        assert_eq!(field(answer, "opaque"), None);
        for hostile in ["", "=", "\"", "a=\"", "nonce=\"é", "nonce", ",,,=,,="] {
            let _ = field(hostile, "nonce");
        }
        let digest = auth(Scheme::Digest { nonce_lifetime: Duration::from_secs(60) });
        let short = Gate::new().check(&digest, "PLAY", Some("Digest nonce=\"é\", uri=\"x\""), false);
        assert!(matches!(short, Verdict::Challenge(_)));
    }

    #[test]
    fn basic_takes_the_password_and_nothing_else() {
        let gate = Gate::new();
        let auth = auth(Scheme::Basic);
        let header = format!("Basic {}", BASE64.encode("admin:12345"));
        assert_eq!(gate.check(&auth, "DESCRIBE", Some(&header), false), Verdict::Pass);
        assert_ne!(gate.check(&auth, "DESCRIBE", Some(&header), true), Verdict::Pass);
        let wrong = format!("Basic {}", BASE64.encode("admin:1234"));
        assert_ne!(gate.check(&auth, "DESCRIBE", Some(&wrong), false), Verdict::Pass);
        assert_ne!(gate.check(&auth, "DESCRIBE", None, false), Verdict::Pass);
    }

    #[test]
    fn an_old_nonce_is_stale_only_with_the_right_password() {
        let gate = Gate::new();
        let auth = auth(Scheme::Digest { nonce_lifetime: Duration::from_millis(1) });
        let nonce = gate.nonce(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        let header = |password: &str| {
            let ha1 = md5_hex(&format!("admin:{REALM}:{password}"));
            let response = md5_hex(&format!("{ha1}:{nonce}:{}", md5_hex("PLAY:rtsp://h/p")));
            format!(
                "Digest username=\"admin\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"rtsp://h/p\", response=\"{response}\""
            )
        };
        let Verdict::Challenge(stale) = gate.check(&auth, "PLAY", Some(&header("12345")), false) else {
            panic!("passed")
        };
        assert!(stale.contains("stale=true"));
        let Verdict::Challenge(wrong) = gate.check(&auth, "PLAY", Some(&header("1")), false) else {
            panic!("passed")
        };
        assert!(!wrong.contains("stale"));
    }
}
