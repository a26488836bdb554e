//! Stores: a folder, and an S3-compatible server that nobody here wrote (s3s-fs), which checks signatures; up, down and up.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::task::JoinHandle;

use super::disk::nowhere;
use crate::evidence::{Store, VerifyOptions, verify};
use crate::testing::sample::{self as make, event};
use crate::wire::Role;
use crate::{EvidenceOptions, Options, Publisher, Retention};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server with one bucket, in `dir`. It ends when it is dropped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(dir: &Path, address: SocketAddr) -> Self {
        fs::create_dir_all(dir.join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).unwrap());
        builder.set_auth(SimpleAuth::from_single("worker", "hunter2"));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                open.spawn(async move {
                    let http =
                        hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn s3(address: SocketAddr, password: &str) -> fleet::Store {
    fleet::Store::S3(fleet::S3 {
        bucket: "bucket".into(),
        endpoint: Some(format!("http://{address}").parse().unwrap()),
        region: "us-east-1".into(),
        prefix: "huinan/evidence".into(),
        credentials: Some(fleet::Credentials {
            user: "worker".into(),
            password: fleet::Secret::new(password.into()),
        }),
    })
}

fn start(dir: &Path, store: fleet::Store, retention: Retention) -> Publisher {
    let evidence = EvidenceOptions { store: Some(store), retention, ..EvidenceOptions::default() };
    let options = Options { evidence, ..make::options(dir, nowhere()) };
    Publisher::start(options, &tokio::runtime::Handle::current()).unwrap()
}

fn submit(publisher: &Publisher, number: u64, sequence: u32) -> std::path::PathBuf {
    let (frame, seen) = (make::frame(64, 48), make::seen());
    let picture = Some((&frame, &seen[..]));
    let event = event(number, sequence);
    let done = publisher.submit(&event, &make::camera(), &make::situation(), &make::model(), picture);
    done.unwrap().evidence_path.unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pictures that wait, and the store's error.
fn waiting(publisher: &Publisher) -> (u64, Option<String>) {
    let store = publisher.evidence_numbers().store.unwrap();
    (store.waiting.unwrap(), store.state.error)
}

fn jpegs(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|event| fs::read_dir(event.path()).into_iter().flatten().flatten())
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".jpg"))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_to_s3_and_wait_while_it_is_down() {
    let (dir, server_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bucket = server_dir.path().join("bucket/huinan/evidence");
    // The store is down at the start: the port is free.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let retention = Retention { keep: Some(Duration::from_secs(3600)), ..Retention::default() };
    let publisher = start(dir.path(), s3(address, "hunter2"), retention.clone());
    let path = submit(&publisher, 1, 0);
    assert!(path.exists(), "the event is stored, and its picture waits here");
    until("down", || waiting(&publisher).1.is_some()).await;
    let (count, error) = waiting(&publisher);
    assert_eq!(count, 1);
    assert!(!error.unwrap().contains("hunter2"));
    assert_eq!(publisher.state().unwrap().outbox.evidence, 0, "with a store no picture goes over MQTT");
    assert_eq!(publisher.state().unwrap().outbox.events, 1);

    let server = Server::start(server_dir.path(), address).await;
    until("carried over", || waiting(&publisher) == (0, None)).await;
    assert!(!path.exists() && !path.with_extension("json").exists(), "and is not here any more");
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(jpegs(&bucket), [&*name]);
    assert_eq!(publisher.state().unwrap().outbox.evidence_bytes, 0);

    // Down again, the worker killed meanwhile, and up again.
    drop(server);
    submit(&publisher, 2, 0);
    submit(&publisher, 2, 1);
    publisher.crash().await;
    let publisher = start(dir.path(), s3(address, "hunter2"), retention.clone());
    let server = Server::start(server_dir.path(), address).await;
    until("the rest", || waiting(&publisher) == (0, None)).await;
    assert_eq!(jpegs(&bucket).len(), 3);
    assert_eq!(jpegs(&dir.path().join("evidence")), [""; 0]);

    // What is there is what the chain says.
    let store = Store::open(&s3(server.address, "hunter2")).unwrap();
    let evidence = dir.path().join("evidence");
    let check = |fetched: bool| {
        let (store, evidence) = (store.clone(), evidence.clone());
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let fetch = |event, file: &str| handle.block_on(store.get(event, file));
            let fetch = fetched.then_some(&fetch as crate::evidence::Fetch<'_>);
            verify(&evidence, &VerifyOptions { fetch, ..VerifyOptions::default() }).unwrap()
        })
    };
    let done = check(false).await.unwrap();
    assert_eq!((done.findings, done.elsewhere, done.pictures), (vec![], 3, 0));
    let done = check(true).await.unwrap();
    assert_eq!((done.findings, done.elsewhere, done.pictures), (vec![], 0, 3));
    let there = bucket.join(event(1, 0).id.to_string()).join(&name);
    fs::write(&there, b"another").unwrap();
    assert_eq!(check(true).await.unwrap().findings.len(), 1);

    // When their time is over, they are deleted there.
    let later = flow::Timestamp::now() + Duration::from_secs(7_200);
    let sweep = tokio::task::spawn_blocking(move || (publisher.sweep_evidence(later).unwrap(), publisher));
    let (swept, publisher) = sweep.await.unwrap();
    assert_eq!(swept, 3);
    until("deleted there", || jpegs(&bucket).is_empty()).await;
    let done = check(true).await.unwrap();
    assert_eq!((done.findings, done.deleted["retention"]), (vec![], 3));
    assert_eq!(publisher.evidence_numbers().store.unwrap().state.deleted, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_is_said_and_nothing_is_lost() {
    let (dir, server_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(server_dir.path(), SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let publisher = start(dir.path(), s3(server.address, "wrong"), Retention::default());
    let path = submit(&publisher, 1, 0);
    until("refused", || waiting(&publisher).1.is_some()).await;
    let error = waiting(&publisher).1.unwrap();
    assert!(error.contains("SignatureDoesNotMatch") || error.contains("403"), "{error}");
    assert!(!error.contains("wrong\""));
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_store_once_it_is_mounted() {
    let (dir, share) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = share.path().join("mounted");
    let publisher = start(dir.path(), fleet::Store::Folder(folder.clone()), Retention::default());
    let path = submit(&publisher, 1, 0);
    until("not mounted", || waiting(&publisher).1.is_some()).await;
    assert!(!folder.exists(), "it is not made: that would be the disk below the mount point");
    let bytes = fs::read(&path).unwrap();
    fs::create_dir(&folder).unwrap();
    until("carried over", || waiting(&publisher) == (0, None)).await;
    let there = folder.join(event(1, 0).id.to_string()).join(path.file_name().unwrap());
    assert_eq!(fs::read(&there).unwrap(), bytes);
    assert!(there.with_extension("json").exists());
    let store = Store::open(&fleet::Store::Folder(folder)).unwrap();
    let reference = store.reference(event(1, 0).id, &path.file_name().unwrap().to_string_lossy());
    assert_eq!(reference, format!("file://{}", there.display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_store_stays_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere_to_go = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let evidence = EvidenceOptions { store: Some(s3(nowhere_to_go, "x")), ..EvidenceOptions::default() };
    let options = Options { evidence, evidence_max_bytes: 20_000, ..make::options(dir.path(), nowhere()) };
    let publisher = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    for number in 0..30 {
        submit(&publisher, number, 0);
    }
    let state = publisher.state().unwrap();
    assert!(state.outbox.evidence_bytes <= 20_000 && state.outbox.events == 30, "{:?}", state.outbox);
    let here = jpegs(&dir.path().join("evidence")).len() as u64;
    assert_eq!(waiting(&publisher).0, here);
    assert!(here >= 1 && publisher.evidence_numbers().deleted[&crate::evidence::Why::Room] == 30 - here);
    let done = verify(&dir.path().join("evidence"), &VerifyOptions::default()).unwrap();
    assert_eq!((done.findings, done.pictures), (vec![], here));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_what_the_message_names_and_nothing_else() {
    let server_dir = tempfile::tempdir().unwrap();
    let server = Server::start(server_dir.path(), "127.0.0.1:0".parse().unwrap()).await;
    let hash = "0a".repeat(32);
    for settings in [s3(server.address, "hunter2"), fleet::Store::Folder(server_dir.path().join("bucket"))] {
        let store = Store::open(&settings).unwrap();
        let event = event(1, 0).id;
        let file = "first-0a0a0a0a0a0a.jpg";
        let reference = store.reference(event, file);
        let named = |hash: &str, reference: &str| store.file_of(event, Role::First, hash, reference);
        assert_eq!(named(&hash, &reference).as_deref(), Some(file));
        let folder = reference.strip_suffix(file).unwrap();
        for (hash, reference) in [
            (hash.as_str(), format!("{folder}latest-0a0a0a0a0a0a.jpg")),
            (&hash, format!("{folder}../{event}/{file}")),
            (&hash, reference.replace("bucket", "other")),
            (&hash, format!("https://elsewhere/{event}/{file}")),
            (&hash, "file:///etc/passwd".to_owned()),
            ("../../../../etc/passwd", reference.clone()),
            ("../../0a0a0a", format!("{folder}first-../../0a0a0a.jpg")),
        ] {
            assert_eq!(named(hash, &reference), None, "{hash} {reference}");
        }
        assert_eq!(store.get_within(event, file, 100).await, Ok(None), "it is not there yet");
        store.put(event, file, vec![7; 100]).await.unwrap();
        assert_eq!(store.get_within(event, file, 100).await, Ok(Some(vec![7; 100])));
        let error = store.get_within(event, file, 99).await.unwrap_err();
        assert!(error.contains("has 100 bytes; at most 99"), "{error}");
        store.delete(event, file).await.unwrap();
    }
    let wrong = Store::open(&s3(server.address, "hunter3")).unwrap();
    assert!(wrong.get_within(event(1, 0).id, "first-0a.jpg", 100).await.is_err(), "refused is not absent");
}
