//! The MQTT broker: where it is and how it is spoken to.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::Credentials;
use crate::check::{Fields, Item, Value};
use crate::load::Context;
use crate::mistake::{Path, Place, Problem};
use crate::shapes::{BROKER, TLS};
use crate::tables::Known;
use crate::tls::{self, Tls};

/// The MQTT broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Host name or address of the place that is preferred.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Further places, tried in turn where the one before does not answer.
    pub fallbacks: Vec<Address>,
    /// How often a connection to a fallback looks whether the preferred place is back.
    pub return_after: Duration,
    /// User name and password, where the broker asks for them.
    pub credentials: Option<Credentials>,
    /// TLS, at all places alike; `None`: without.
    pub tls: Option<Tls>,
    /// Version of the protocol.
    pub version: MqttVersion,
    /// How long a place may take until it has accepted the connection.
    pub connect_timeout: Duration,
    /// After how much silence a sign of life is asked for, and how long is waited for it. Whole seconds on the wire.
    pub keep_alive: Duration,
    /// How long the broker waits before it publishes a worker's last will (MQTT 5).
    pub will_delay: Duration,
    /// How long the broker keeps what is said to a client that is away (MQTT 5 session expiry interval).
    pub session_expiry: Duration,
    /// How long a subscriber's missed message stays of interest (MQTT 5 message expiry interval).
    pub message_expiry: Duration,
    /// How much of what the broker acknowledged last, counted back from its last word, is sent again where a connection is
    /// lost: a broker that is killed forgets what it has not written down. 0: nothing.
    pub keep_sent: Duration,
    /// Situations are also told as ONVIF events, with this TopicPrefix (ONVIF Core, "Topic Structure"); `{site}` and
    /// `{camera}` stand for the names. `None`: they are not.
    pub onvif: Option<Box<str>>,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Which MQTT is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttVersion {
    /// 5.0, and 3.1.1 with a broker that refuses it.
    #[default]
    Auto,
    /// 5.0 only (OASIS, 2019).
    V5,
    /// 3.1.1 only (ISO/IEC 20922).
    V311,
}

impl Broker {
    /// A broker at one place that asks for no login, without TLS; all else as by default.
    pub fn at(host: String, port: u16) -> Self {
        let fields = Fields::empty(&BROKER);
        let duration = |name| fields.duration(name).expect("a test checks that every default fits its key");
        Self {
            host,
            port,
            fallbacks: Vec::new(),
            return_after: duration("return_after"),
            credentials: None,
            tls: None,
            version: MqttVersion::default(),
            connect_timeout: duration("connect_timeout"),
            keep_alive: duration("keep_alive"),
            will_delay: duration("will_delay"),
            session_expiry: duration("session_expiry"),
            message_expiry: duration("message_expiry"),
            keep_sent: duration("keep_sent"),
            onvif: None,
        }
    }

    /// The broker at an address that was checked ([`broker_url`](crate::broker_url)); all else as by default. With
    /// `mqtts` the system's authorities are believed.
    pub fn at_url(url: &Url) -> Self {
        let Address { host, port } = address(url);
        Self { tls: is_tls(url).then(Tls::default), ..Self::at(host, port) }
    }

    /// All places, the preferred one first.
    pub fn addresses(&self) -> Vec<Address> {
        let first = Address { host: self.host.clone(), port: self.port };
        std::iter::once(first).chain(self.fallbacks.iter().cloned()).collect()
    }

    /// How a place is written: `mqtts://host:port`.
    pub fn name(&self, at: &Address) -> String {
        format!("{}://{at}", if self.tls.is_some() { "mqtts" } else { "mqtt" })
    }
}

impl fmt::Display for Broker {
    /// The preferred place, then the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.addresses().iter().map(|at| self.name(at)).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn is_tls(url: &Url) -> bool {
    url.scheme() == "mqtts"
}

fn address(url: &Url) -> Address {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Address { host, port: url.port().unwrap_or(if is_tls(url) { 8883 } else { 1883 }) }
}

pub(crate) fn read(root: &Fields, known: &Known<Credentials>, cx: &mut Context<'_>) -> Option<Broker> {
    let empty = Fields::empty(&BROKER);
    let fields = root.map("broker").unwrap_or(&empty);
    let path = Path::Root.key("broker");
    let mut credentials = None;
    if let Some(item) = fields.item("credentials")
        && let Some(name) = item.text()
    {
        credentials = known.find(name, item.place, &path.key("credentials"), &mut cx.report);
    }
    let url = fields.url("url")?;
    let fallbacks = fallbacks(fields, &url, &path, cx);
    let tls = tls(fields, &url, &path, cx);
    let onvif = onvif(fields, &path, cx);
    let Address { host, port } = address(&url);
    Some(Broker {
        host,
        port,
        fallbacks,
        return_after: fields.duration("return_after")?,
        credentials: credentials.map(|found| (*found).clone()),
        tls,
        version: version(&fields.text("version")?),
        connect_timeout: fields.duration("connect_timeout")?,
        keep_alive: fields.duration("keep_alive")?,
        will_delay: fields.duration("will_delay")?,
        session_expiry: fields.duration("session_expiry")?,
        message_expiry: fields.duration("message_expiry")?,
        keep_sent: fields.duration("keep_sent")?,
        onvif,
    })
}

/// Levels of a topic. One that begins with our own root would be taken for a message of ours.
fn onvif(fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Box<str>> {
    let item = fields.item("onvif")?;
    let prefix = item.text()?;
    let plain = prefix.replace("{site}", "s").replace("{camera}", "c");
    let good = |level: &str| {
        !level.is_empty() && level.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c))
    };
    if plain.split('/').all(good) && plain.split('/').next() != Some("huiyan") {
        return Some(prefix.into());
    }
    let problem = Problem::new(
        "is no prefix of a topic",
        "levels of letters, digits, '.', '_', '-' and ':', or {site} and {camera}, with / between; not below huiyan/",
    );
    cx.report.add(item.place, &path.key("onvif"), Some(prefix), problem);
    None
}

fn version(word: &str) -> MqttVersion {
    match word {
        "v5" => MqttVersion::V5,
        "v3.1.1" => MqttVersion::V311,
        _ => MqttVersion::Auto,
    }
}

/// The further places; all with TLS, or none: a login must not travel in the open because one place is down.
fn fallbacks(fields: &Fields, first: &Url, path: &Path<'_>, cx: &mut Context<'_>) -> Vec<Address> {
    let mut found = vec![address(first)];
    let path = path.key("fallbacks");
    for (index, item) in fields.list("fallbacks").unwrap_or_default().iter().enumerate() {
        let Value::Url(url) = &item.value else { continue };
        let at = address(url);
        let problem = if url.scheme() != first.scheme() {
            Problem::new(
                format!("begins with {}://, broker.url with {}://", url.scheme(), first.scheme()),
                "all addresses of a broker use TLS, or none",
            )
        } else if found.contains(&at) {
            Problem::new("is written twice", "keep one of them; broker.url is the first address")
        } else {
            found.push(at);
            continue;
        };
        cx.report.add(item.place, &path.index(index), Some(url.as_str()), problem);
    }
    found.split_off(1)
}

fn tls(fields: &Fields, url: &Url, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Tls> {
    let empty = Fields::empty(&TLS);
    let path = path.key("tls");
    let written = fields.map("tls");
    if let (Some(item), false) = (fields.item("tls"), is_tls(url)) {
        let problem =
            Problem::new("is given, but broker.url begins with mqtt://", "write mqtts:// in broker.url");
        cx.report.add(item.place, &path, None, problem);
    }
    let fields = written.unwrap_or(&empty);
    let file = |key: &str, cx: &Context<'_>| {
        let item = fields.item(key)?;
        Some(cx.resolve(item.place, item.text()?))
    };
    let (certificate, key) = (file("certificate", cx), file("key", cx));
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(tls::Identity { certificate, key }),
        (None, None) => None,
        (given, _) => {
            let (here, there) = if given.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            let problem = Problem::new(format!("is given without broker.tls.{there}"), "write both, or none");
            cx.report.add(place(fields.item(here)), &path.key(here), None, problem);
            None
        }
    };
    let tls = Tls { ca: file("ca", cx), identity, name: fields.text("name").map(Into::into) };
    // Each file is looked at, so that all that is wrong is said at once.
    for error in tls.mistakes() {
        let item = fields.item(error.key);
        let problem = Problem::new(&error.problem, &error.expected);
        cx.report.add(place(item), &path.key(error.key), item.and_then(Item::text), problem);
    }
    is_tls(url).then_some(tls)
}

fn place(item: Option<&Item>) -> Place {
    item.map_or(Place { file: 0, line: 1, column: 1 }, |item| item.place)
}
