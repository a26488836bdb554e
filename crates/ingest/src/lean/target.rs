//! Whom to ask, and under which address: URLs as text, because cameras compare them as text.
//!
//! A URL goes into the request line as it was configured or as the camera wrote it. Only what would break the line
//! is escaped.

use fleet::Camera;
use url::Url;

/// A host and the URL to name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub url: String,
}

/// RFC 2326 3.2.
const PORT: u16 = 554;

impl Target {
    pub(crate) fn of(camera: &Camera) -> Self {
        Self::from_url(&camera.url)
    }

    fn from_url(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Self { host, port: url.port().unwrap_or(PORT), url: line_safe(url.as_str()) }
    }

    /// Where a redirection leads; a login in it is not taken over. `None`: nowhere that we can go.
    pub(crate) fn redirected(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        let mut url = Url::parse(&self.url).ok()?.join(location).ok()?;
        let usable = !location.is_empty()
            && url.scheme() == "rtsp"
            && url.host_str().is_some_and(|host| !host.is_empty());
        if !usable || url.set_username("").is_err() || url.set_password(None).is_err() {
            return None;
        }
        Some(Self::from_url(&url))
    }
}

/// The base of the URLs in a description: `Content-Base`, else `Content-Location`, else what was asked for
/// (RFC 2326 C.1.1). Some cameras leave the scheme out.
pub(crate) fn base(content_base: Option<&str>, content_location: Option<&str>, asked: &str) -> String {
    match content_base.or(content_location) {
        Some(given) if has_scheme(given) => line_safe(given),
        Some(given) if given.contains(['/', ':']) && !given.starts_with('/') => {
            line_safe(&format!("rtsp://{given}"))
        }
        _ => asked.to_owned(),
    }
}

/// A control attribute on its base. Cameras mean "append", not what RFC 3986 says of relative references, which would
/// cut off a query.
pub(crate) fn join(base: &str, control: &str) -> String {
    let control = control.trim();
    if control == "*" || control.is_empty() {
        return base.to_owned();
    }
    if has_scheme(control) {
        return line_safe(control);
    }
    line_safe(&format!("{}/{}", base.trim_end_matches('/'), control.trim_start_matches('/')))
}

fn has_scheme(text: &str) -> bool {
    text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("rtsp://"))
        || text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("rtspu://"))
}

/// Escapes what would end the URL or the line; everything else stays as it is.
fn line_safe(url: &str) -> String {
    let mut safe = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '\0'..=' ' | '\x7f' => safe.push_str(&format!("%{:02X}", u32::from(c))),
            '"' => safe.push_str("%22"),
            c if c.is_ascii() => safe.push(c),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| safe.push_str(&format!("%{b:02X}"))),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_line_carries_what_the_config_has() {
        for url in [
            "rtsp://10.0.0.1/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif",
            "rtsp://10.0.0.1:8554/Streaming/Channels/102?transportmode=unicast&profile=Profile_1",
            "rtsp://10.0.0.1/user=guest_password=_channel=1_stream=1.sdp?real_stream",
            "rtsp://10.0.0.1/live/ch[1]|a;b=c,d!e~f'(g)*+@h",
            "rtsp://10.0.0.1/a%20b?x=%5B1%5D&y==&&z",
            "rtsp://10.0.0.1/a/?/b//c",
            "rtsp://10.0.0.1",
        ] {
            let target = Target::of(&crate::testing::camera("c", url));
            assert_eq!((target.url.as_str(), target.host.as_str()), (url, "10.0.0.1"));
        }
        let six = Target::of(&crate::testing::camera("c", "rtsp://[2001:db8::7]:8554/live"));
        assert_eq!((six.host.as_str(), six.port), ("2001:db8::7", 8554));
        assert_eq!(six.url, "rtsp://[2001:db8::7]:8554/live");
        assert_eq!(Target::of(&crate::testing::camera("c", "rtsp://h/")).port, 554);
    }

    #[test]
    fn controls_are_appended_as_cameras_mean_it() {
        let dahua = "rtsp://10.0.0.1/cam/realmonitor?channel=1&subtype=2/";
        for (base, control, joined) in [
            (dahua, "trackID=0", "rtsp://10.0.0.1/cam/realmonitor?channel=1&subtype=2/trackID=0"),
            ("rtsp://h/H264?channel=1&x", "video", "rtsp://h/H264?channel=1&x/video"),
            ("rtsp://h/live", "*", "rtsp://h/live"),
            ("rtsp://h/live", "", "rtsp://h/live"),
            ("rtsp://h/live/", "/track1", "rtsp://h/live/track1"),
            ("rtsp://h/live", "RTSP://192.168.1.5:5554/t?a=[1]", "RTSP://192.168.1.5:5554/t?a=[1]"),
            ("rtsp://h/live", "track 1\"", "rtsp://h/live/track%201%22"),
        ] {
            assert_eq!(join(base, control), joined);
        }
    }

    #[test]
    fn a_base_may_be_missing_or_lack_its_scheme() {
        let asked = "rtsp://10.0.0.1/live";
        assert_eq!(base(None, None, asked), asked);
        assert_eq!(base(Some("rtsp://h/x/"), Some("rtsp://y/"), asked), "rtsp://h/x/");
        assert_eq!(base(None, Some("rtsp://y/"), asked), "rtsp://y/");
        assert_eq!(base(Some("192.168.1.10:554/stream0/"), None, asked), "rtsp://192.168.1.10:554/stream0/");
        assert_eq!(base(Some("/live/"), None, asked), asked);
        assert_eq!(base(Some(""), None, asked), asked);
        assert_eq!(base(Some("rtsp://h/a b\r\nX: y"), None, asked), "rtsp://h/a%20b%0D%0AX:%20y");
    }

    #[test]
    fn redirections_lead_to_rtsp_only_and_carry_no_login() {
        let here = Target::of(&crate::testing::camera("c", "rtsp://10.0.0.1:8554/live"));
        let to = here.redirected("rtsp://admin:hunter2@10.0.0.2/other?a=b").unwrap();
        assert_eq!(
            (to.host.as_str(), to.port, to.url.as_str()),
            ("10.0.0.2", 554, "rtsp://10.0.0.2/other?a=b")
        );
        assert_eq!(here.redirected("/sub?x=1").unwrap().url, "rtsp://10.0.0.1:8554/sub?x=1");
        for nowhere in ["http://10.0.0.2/", "rtsp://", "rtsp:///x", ""] {
            assert_eq!(here.redirected(nowhere), None, "{nowhere}");
        }
    }
}
