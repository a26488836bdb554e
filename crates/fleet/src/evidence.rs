//! What becomes of evidence pictures: for how long they are kept, where, and signed with which key.

use std::path::PathBuf;
use std::time::Duration;

use flow::ClassName;
use url::Url;

use crate::check::{Fields, Item};
use crate::load::Context;
use crate::mistake::{Path, Problem};
use crate::shape::{Kind, Shape, default, optional, required};
use crate::tables::{Known, resolve, secret_ref};
use crate::{Credentials, Secret};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// For how long evidence may be kept. The lower end is for tests and demonstrations.
pub(crate) const KEEP: Kind = Kind::Duration(Duration::from_secs(1), Duration::from_secs(3_650 * 24 * 3_600));

/// The key `evidence`.
pub(crate) static EVIDENCE: Shape = Shape {
    name: "evidence",
    keys: &[
        default(
            "keep",
            KEEP,
            "90d",
            "Pictures are deleted after this long, where neither the situation nor the camera's class says otherwise.",
        ),
        optional(
            "also_blur",
            Kind::List(&Kind::Text(64), 0, 256),
            "Classes whose whole box is blurred, beside persons and the plate band of vehicles.",
        ),
        optional(
            "key",
            Kind::Secret,
            "Ed25519 key that signs the chain of pictures (PKCS#8 PEM); default: made at the first start, in `data_dir`.",
        ),
        optional(
            "originals",
            Kind::Map(&ORIGINALS),
            "Keep unblurred originals, sealed. Default: nothing unblurred touches a disk.",
        ),
        optional(
            "store",
            Kind::Map(&STORE),
            "Where pictures go from `data_dir`: a folder, or an S3-compatible store. Default: they stay.",
        ),
    ],
};

static ORIGINALS: Shape = Shape {
    name: "originals",
    keys: &[required(
        "recipient",
        Kind::Text(128),
        "age1...: the public key to which originals are encrypted (age-keygen); its private key stays off this machine.",
    )],
};

pub(crate) static STORE: Shape = Shape {
    name: "store",
    keys: &[
        optional("folder", Kind::Path, "A folder, such as a mounted share. Either this or bucket."),
        optional("bucket", Kind::Text(63), "Bucket of an S3-compatible store."),
        optional("endpoint", Kind::Text(2_000), "https://host[:port] of the store. Default: Amazon's."),
        optional(
            "region",
            Kind::Text(64),
            "Region, part of the signature of every request. Default: us-east-1.",
        ),
        optional("prefix", Kind::Text(200), "In front of every name, such as huinan/evidence."),
        optional(
            "credentials",
            Kind::Name("credentials"),
            "Name of a login under `credentials`: user is the access key id, password the secret key.",
        ),
    ],
};

/// What becomes of evidence pictures.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Deleted after this long, where neither situation nor class says otherwise.
    pub keep: Duration,
    /// Classes whose whole box is blurred, beside persons and the plate band of vehicles.
    pub also_blur: Vec<ClassName>,
    /// PKCS#8 PEM of the signing key; `None`: the worker makes its own.
    pub key: Option<Secret>,
    /// The `age` recipient of sealed originals; `None`: no originals are kept.
    pub originals_for: Option<String>,
    /// Where they go; `None`: they stay in the data directory.
    pub store: Option<Store>,
}

impl Default for Evidence {
    /// As where nothing is written.
    fn default() -> Self {
        Self { keep: 90 * DAY, also_blur: vec![], key: None, originals_for: None, store: None }
    }
}

/// Where pictures go.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder.
    Folder(PathBuf),
    /// An S3-compatible store.
    S3(S3),
}

/// An S3-compatible store.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Its bucket.
    pub bucket: String,
    /// Its address; `None`: Amazon's. Without user and password.
    pub endpoint: Option<Url>,
    /// Its region.
    pub region: String,
    /// In front of every name; may be empty.
    pub prefix: String,
    /// Access key id and secret key; `None`: requests are not signed.
    pub credentials: Option<Credentials>,
}

/// Reads the key `evidence`. `None`: wrong, and reported.
pub(crate) fn read(root: &Fields, known: &Known<Credentials>, cx: &mut Context<'_>) -> Option<Evidence> {
    let empty = Fields::empty(&EVIDENCE);
    let fields = root.map("evidence").unwrap_or(&empty);
    let path = Path::Root.key("evidence");
    let key = signing_key(fields, &path, cx);
    let originals_for = recipient(fields, &path, cx);
    let store = store(fields, &path, known, cx)?;
    let classes = fields.list("also_blur").unwrap_or_default();
    Some(Evidence {
        keep: fields.duration("keep")?,
        also_blur: classes.iter().filter_map(Item::text).map(ClassName::new).collect(),
        key,
        originals_for,
        store,
    })
}

fn signing_key(fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Secret> {
    let item = fields.item("key")?;
    let text = item.text()?;
    let found = secret_ref(text, item, cx).map(|at| resolve(&at, cx.env))?;
    found.map(Secret::new).map_err(|problem| cx.report.add(item.place, &path.key("key"), None, problem)).ok()
}

/// The form only: whether it is a key is said when the worker starts.
fn recipient(fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<String> {
    let item = fields.map("originals")?.item("recipient")?;
    let text = item.text()?;
    if text.starts_with("age1") && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    let path = path.key("originals");
    // Whoever writes the private key here must not find it in a log.
    let secret = text.to_ascii_uppercase().contains("SECRET");
    let problem = Problem::new("is no recipient", "expected age1..., the public key that age-keygen prints");
    cx.report.add(item.place, &path.key("recipient"), Some(if secret { "***" } else { text }), problem);
    None
}

/// Reads the key `store` of a map, if it is there. `None`: wrong, and reported.
pub(crate) fn store(
    fields: &Fields,
    path: &Path<'_>,
    known: &Known<Credentials>,
    cx: &mut Context<'_>,
) -> Option<Option<Store>> {
    let Some(store) = fields.map("store") else { return Some(None) };
    read_store(store, fields, &path.key("store"), known, cx).map(Some)
}

fn read_store(
    store: &Fields,
    parent: &Fields,
    path: &Path<'_>,
    known: &Known<Credentials>,
    cx: &mut Context<'_>,
) -> Option<Store> {
    let folder = store.item("folder").and_then(|item| Some(cx.resolve(item.place, item.text()?)));
    match (folder, store.text("bucket")) {
        (Some(folder), None) => Some(Store::Folder(folder)),
        (None, Some(bucket)) => {
            let mut credentials = None;
            if let Some(item) = store.item("credentials") {
                let path = path.key("credentials");
                credentials = Some(known.find(item.text()?, item.place, &path, &mut cx.report)?);
            }
            let endpoint = match store.item("endpoint") {
                Some(item) => Some(endpoint(item, path, cx)?),
                None => None,
            };
            Some(Store::S3(S3 {
                bucket: bucket.into(),
                endpoint,
                region: store.text("region").map_or_else(|| "us-east-1".to_owned(), Into::into),
                prefix: store.text("prefix").unwrap_or_default().trim_matches('/').to_owned(),
                credentials: credentials.map(|found| (*found).clone()),
            }))
        }
        (folder, _) => {
            let problem = if folder.is_some() { "names a folder and a bucket" } else { "names no place" };
            let place = parent.item("store").map(|item| item.place)?;
            let problem = Problem::new(problem, "expected folder: PATH or bucket: NAME");
            cx.report.add(place, path, None, problem);
            None
        }
    }
}

fn endpoint(item: &Item, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Url> {
    let text = item.text()?;
    let expected = "expected https://host[:port]";
    let problem = match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Problem::new("holds a credential", "name a login of the top-level `credentials` instead")
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") || url.query().is_some() => {
            Problem::new("is no address of a store", expected)
        }
        Ok(url) => return Some(url),
        Err(error) => Problem::new(format!("is no address: {error}"), expected),
    };
    let shown = if text.contains('@') { "***" } else { text };
    cx.report.add(item.place, &path.key("endpoint"), Some(shown), problem);
    None
}
