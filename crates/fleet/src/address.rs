//! Addresses: `rtsp://` and `mqtt://`, without credentials in them.

use url::Url;

use crate::mistake::Problem;

const RTSP: &str = "expected rtsp://host[:port]/path";
const MQTT: &str = "expected mqtt://host[:port] or mqtts://host[:port]";
/// Names of parameters under which cameras take a password in their path or query.
const PASSWORD_PARAMETERS: [&str; 7] = ["password=", "passwd=", "pwd=", "pass=", "psw=", "token=", "auth="];
const STAND_IN: &str = "***";

/// Reads a camera's address.
pub(crate) fn rtsp(text: &str) -> Result<Url, Problem> {
    if has_login(text) {
        let rest = text.rsplit_once('@').map_or("host/path", |(_, rest)| rest);
        let rest: String = masked(rest).chars().take(80).collect();
        let way = "and the login under `credentials`: {a-name: {user: env:NAME, password: env:NAME}}, \
                   then `credentials: a-name` here";
        return Err(Problem::new("holds a credential", format!("write rtsp://{rest} {way}")));
    }
    if parameter_value(text).is_some() {
        let problem = "holds a password among its parameters";
        return Err(Problem::new(
            problem,
            "addresses are logged: take it out and name the login under `credentials`",
        ));
    }
    let url = parse(text, &["rtsp", "rtsps"], RTSP)?;
    if url.fragment().is_some() {
        return Err(Problem::new("holds a fragment (#...)", RTSP));
    }
    Ok(url)
}

/// Reads the broker's address.
pub(crate) fn mqtt(text: &str) -> Result<Url, Problem> {
    if has_login(text) || parameter_value(text).is_some() {
        let way = "write mqtt://host[:port] here and `credentials: a-name` beside it, with the login under \
                   the top-level `credentials`";
        return Err(Problem::new("holds a credential", way));
    }
    let url = parse(text, &["mqtt", "mqtts"], MQTT)?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(Problem::new("holds more than a host and a port", MQTT));
    }
    Ok(url)
}

fn parse(text: &str, schemes: &[&str], expected: &str) -> Result<Url, Problem> {
    let Some((given, rest)) = text.split_once("://") else {
        return Err(Problem::new("is no address", expected));
    };
    if !schemes.iter().any(|scheme| given.eq_ignore_ascii_case(scheme)) {
        return Err(Problem::new(format!("does not begin with {}://", schemes[0]), expected));
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Problem::new("holds a blank", expected));
    }
    let url = Url::parse(text).map_err(|error| Problem::new(format!("is no address: {error}"), expected))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Problem::new("names no host", expected));
    }
    if url.port() == Some(0) {
        return Err(Problem::new("has port 0", "expected a port from 1 to 65535"));
    }
    Ok(url)
}

/// Whether there is a user or a password before the host. A password may hold an unescaped `/`; then what
/// looks like a path holds the `@`, and what looks like a port is none.
fn has_login(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let odd_port = || authority.ends_with(':') || Url::parse(text).is_err();
    authority.contains('@') || (rest.contains('@') && odd_port())
}

/// The byte range of the value of a password parameter, where it has one.
fn parameter_value(text: &str) -> Option<std::ops::Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let start = PASSWORD_PARAMETERS.iter().find_map(|name| {
        let mut hits = lower.match_indices(name);
        let begins_word = |at: usize| !lower[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        hits.find(|(at, _)| begins_word(*at)).map(|(at, _)| at + name.len())
    })?;
    let length = text[start..].find(['&', ';', '/', '?', '#']).unwrap_or(text.len() - start);
    (length > 0).then_some(start..start + length)
}

/// The same text with user, password and password parameters replaced by `***`.
pub(crate) fn masked(text: &str) -> String {
    let mut out = text.to_owned();
    let login = out.find("://").map(|scheme| scheme + 3);
    match (login, out.rfind('@')) {
        // It may have been cut off before its last `@`: all that follows the scheme may be the password.
        (Some(start), _) if text.len() >= 1_000 => out.replace_range(start.., STAND_IN),
        (Some(start), Some(at)) if start <= at => out.replace_range(start..at, STAND_IN),
        _ => {}
    }
    // Each round replaces one value; `***` itself counts as a value, so go on behind it.
    let mut done = 0;
    while let Some(range) = parameter_value(&out[done..]) {
        let range = range.start + done..range.end + done;
        out.replace_range(range.clone(), STAND_IN);
        done = range.start + STAND_IN.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_pass() {
        for text in [
            "rtsp://10.1.2.3/stream2",
            "rtsp://nvr.example:8554/Streaming/Channels/102?transportmode=unicast&profile=Profile_1",
            "rtsp://[2001:db8::7]:554/live",
            "RTSP://192.0.2.1",
            "rtsps://192.0.2.1/secure",
            "rtsp://192.0.2.1/user=guest&password=&channel=1",
            "rtsp://192.0.2.1/compass=5",
        ] {
            assert!(rtsp(text).is_ok(), "{text}: {:?}", rtsp(text));
        }
        assert_eq!(mqtt("mqtt://broker.example:1884").unwrap().port(), Some(1884));
        assert_eq!(mqtt("mqtt://127.0.0.1/").unwrap().port(), None);
        assert_eq!(mqtt("mqtts://broker.example").unwrap().scheme(), "mqtts");
    }

    #[test]
    fn credentials_are_found_and_masked() {
        for (text, shown) in [
            ("rtsp://admin:hunter2@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
            ("rtsp://admin@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
            ("rtsp://admin:hun/ter2@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
            ("rtsp://admin:hun@ter2@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
            ("rtsp://admin:/hunter2@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
            (
                "rtsp://10.0.0.1/user=admin&password=hunter2&channel=1",
                "rtsp://10.0.0.1/user=admin&password=***&channel=1",
            ),
            ("rtsp://10.0.0.1/x?pwd=hunter2&token=hunter2", "rtsp://10.0.0.1/x?pwd=***&token=***"),
        ] {
            assert_eq!(masked(text), shown);
            let problem = rtsp(text).unwrap_err();
            assert!(problem.problem.contains("credential") || problem.problem.contains("password"), "{text}");
            assert!(!format!("{problem:?}").contains("ter2"), "{problem:?}");
        }
        assert_eq!(masked("a@b"), "a@b");
    }

    #[test]
    fn what_is_no_address_says_why() {
        let problem = |text| rtsp(text).unwrap_err().problem;
        assert_eq!(problem("10.1.2.3/stream"), "is no address");
        assert_eq!(problem("http://10.1.2.3/stream"), "does not begin with rtsp://");
        assert_eq!(problem("rtsp:///stream"), "names no host");
        assert_eq!(problem("rtsp://h:0/"), "has port 0");
        assert_eq!(problem("rtsp://h:99999/"), "is no address: invalid port number");
        assert_eq!(problem("rtsp://h/a b"), "holds a blank");
        assert_eq!(mqtt("mqtt://h/topic").unwrap_err().problem, "holds more than a host and a port");
        assert_eq!(mqtt("tcp://h").unwrap_err().problem, "does not begin with mqtt://");
    }
}
