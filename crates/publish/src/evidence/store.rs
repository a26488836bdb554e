//! Where pictures go from the worker's disk: a folder, or an S3-compatible store, both through `object_store`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flow::EventId;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt as _, PutOptions, PutPayload,
    RetryConfig,
};

use super::folder::name_of;
use crate::wire::Role;

/// A store that does not answer is down; the picture is tried again later.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A store that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("evidence.store: {0}")]
pub struct StoreError(String);

/// The store.
#[derive(Debug, Clone)]
pub struct Store(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Folder(PathBuf),
    S3 { client: Arc<AmazonS3>, bucket: String, prefix: String },
}

impl Store {
    /// Does not reach for the store: it may be down.
    pub fn open(settings: &fleet::Store) -> Result<Self, StoreError> {
        let s3 = match settings {
            fleet::Store::Folder(folder) => return Ok(Self(Kind::Folder(folder.clone()))),
            fleet::Store::S3(s3) => s3,
        };
        // Several providers may be linked in; whoever comes first chooses for the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
        let client = ClientOptions::new()
            .with_allow_http(plain)
            .with_timeout(TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_region(&s3.region)
            .with_client_options(client)
            // Whoever waits here has its own backoff, and can be seen waiting.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        builder = match &s3.credentials {
            Some(login) => {
                builder.with_access_key_id(&login.user).with_secret_access_key(login.password.reveal())
            }
            None => builder.with_skip_signature(true),
        };
        let client = builder.build().map_err(|error| StoreError(error.to_string()))?;
        Ok(Self(Kind::S3 { client: Arc::new(client), bucket: s3.bucket.clone(), prefix: s3.prefix.clone() }))
    }

    /// Where a file is or will be: `s3://bucket/prefix/{event}/{file}`, or a `file://` address.
    pub fn reference(&self, event: EventId, file: &str) -> String {
        match &self.0 {
            Kind::Folder(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                let path = folder.join(event.to_string()).join(file);
                url::Url::from_file_path(&path).map_or_else(|()| path.display().to_string(), Into::into)
            }
            Kind::S3 { bucket, .. } => format!("s3://{bucket}/{}", self.at(event, file)),
        }
    }

    fn at(&self, event: EventId, file: &str) -> Path {
        match &self.0 {
            Kind::S3 { prefix, .. } if !prefix.is_empty() => Path::from(format!("{prefix}/{event}/{file}")),
            _ => Path::from(format!("{event}/{file}")),
        }
    }

    /// A folder is not made: where a share is not mounted, its pictures must not go to the disk below.
    fn client(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        Ok(match &self.0 {
            Kind::Folder(folder) => Arc::new(
                LocalFileSystem::new_with_prefix(folder)?.with_fsync(true).with_automatic_cleanup(true),
            ),
            Kind::S3 { client, .. } => client.clone(),
        })
    }

    /// Puts a file. The same file twice is there once.
    pub async fn put(&self, event: EventId, file: &str, bytes: Vec<u8>) -> Result<(), String> {
        let media_type = match file.rsplit('.').next() {
            Some("jpg") => "image/jpeg",
            Some("json") => "application/json",
            _ => "application/octet-stream",
        };
        let mut options = PutOptions::default();
        // A file system has no place for it.
        if matches!(self.0, Kind::S3 { .. }) {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, media_type)]);
        }
        let put = async {
            self.client()?.put_opts(&self.at(event, file), PutPayload::from(bytes), options).await.map(drop)
        };
        put.await.map_err(|error| told(&error))
    }

    /// Gets a file.
    pub async fn get(&self, event: EventId, file: &str) -> Result<Vec<u8>, String> {
        let get = async { self.client()?.get(&self.at(event, file)).await?.bytes().await };
        get.await.map(Into::into).map_err(|error| told(&error))
    }

    /// The file of a picture as its message names it, where that is in this store: hostile input, of which nothing is
    /// followed but what [`reference`](Self::reference) gives. `None`: it is elsewhere.
    pub fn file_of(&self, event: EventId, role: Role, sha256: &str, reference: &str) -> Option<String> {
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let file = is_hash.then(|| format!("{}.jpg", name_of(role, sha256)))?;
        (self.reference(event, &file) == reference).then_some(file)
    }

    /// Gets a file, unless it is larger than `max` bytes; `None`: it is not there, or not yet.
    pub async fn get_within(&self, event: EventId, file: &str, max: u64) -> Result<Option<Vec<u8>>, String> {
        let get = async {
            let found = self.client()?.get(&self.at(event, file)).await?;
            if found.meta.size > max { Ok(Err(found.meta.size)) } else { found.bytes().await.map(Ok) }
        };
        match get.await {
            Ok(Ok(bytes)) => Ok(Some(bytes.into())),
            Ok(Err(size)) => Err(format!("{file} has {size} bytes; at most {max} are read")),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }

    /// Deletes a file. One that is not there is deleted.
    pub async fn delete(&self, event: EventId, file: &str) -> Result<(), String> {
        let delete = async { self.client()?.delete(&self.at(event, file)).await };
        match delete.await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told(&error)),
        }
    }
}

/// The whole chain of causes, in one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(500).collect()
}
