//! `huiyan status`: what the workers say about their cameras, read from the broker's retained messages.

mod board;
mod reader;
mod view;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use fleet::{Broker, Credentials, Fleet, Identity, Tls, TlsError};
use flow::CameraId;

use super::{duration, interrupted, runtime};
use crate::{UserError, table};
use reader::Reader;

/// How a login is written, for who wrote it into the address.
const LOGIN: &str =
    "leave user and password out of the address and write: --user NAME --password env:NAME (or file:PATH)";

/// Say how cameras and workers are, and what is open, from what the broker retains.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet's YAML: site, broker, and which cameras there should be
    #[arg(long, value_name = "YAML", required_unless_present = "broker", conflicts_with_all = ["broker", "site"])]
    fleet: Option<PathBuf>,
    /// The broker, instead of a fleet: mqtt://host[:port], or mqtts:// with TLS
    #[arg(long, value_name = "URL", requires = "site")]
    broker: Option<String>,
    /// The site, beside --broker
    #[arg(long, requires = "broker")]
    site: Option<String>,
    /// User name at the broker, or env:NAME
    #[arg(long, requires = "password", conflicts_with = "fleet")]
    user: Option<String>,
    /// Where the password is: env:NAME or file:PATH
    #[arg(long, requires = "user", conflicts_with = "fleet")]
    password: Option<String>,
    /// PEM file of the authorities that may have issued the broker's certificate, for mqtts:// [default: the system's]
    #[arg(long, value_name = "PEM", conflicts_with = "fleet")]
    ca: Option<PathBuf>,
    /// PEM file of our own certificate, where the broker asks for one
    #[arg(long, value_name = "PEM", requires = "key", conflicts_with = "fleet")]
    certificate: Option<PathBuf>,
    /// PEM file of its private key, without a passphrase
    #[arg(long, value_name = "PEM", requires = "certificate", conflicts_with = "fleet")]
    key: Option<PathBuf>,
    /// The name that the broker's certificate holds, where it is not the host of its address
    #[arg(long, value_name = "NAME", conflicts_with = "fleet")]
    tls_name: Option<String>,
    /// Cameras to list, the worst first
    #[arg(long, value_name = "N", default_value_t = 20)]
    worst: usize,
    /// List all cameras
    #[arg(long)]
    all: bool,
    /// Print everything as JSON; with --watch, one line each time
    #[arg(long)]
    json: bool,
    /// Renew it until interrupted, every so often
    #[arg(long, value_name = "EVERY", value_parser = duration, num_args = 0..=1, default_missing_value = "2s")]
    watch: Option<Duration>,
}

/// Where to read, and what should be there.
struct Site {
    name: String,
    broker: Broker,
    /// The cameras of the fleet with their names; `None` where no fleet was given.
    cameras: Option<BTreeMap<CameraId, String>>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let site = match &args.fleet {
        Some(path) => of_fleet(path)?,
        None => of_broker(&args)?,
    };
    runtime()?.block_on(async {
        let reader = Reader::start(&site);
        reader.settle(&site).await?;
        let Some(every) = args.watch else { return show(&site, &reader, &args) };
        let mut stop = std::pin::pin!(interrupted());
        let mut tick = tokio::time::interval(every.max(Duration::from_millis(200)));
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                _ = tick.tick() => show(&site, &reader, &args)?,
            }
        }
    })
}

/// Prints what is known now.
fn show(site: &Site, reader: &Reader, args: &Args) -> anyhow::Result<()> {
    let now = flow::Timestamp::now();
    let known = reader.board();
    let view = view::View { site, board: &known, link: reader.trouble(), now };
    let text = match (args.json, args.watch) {
        (true, Some(_)) => format!("{}\n", view.json()),
        (true, None) => format!("{}\n", serde_json::to_string_pretty(&view.json())?),
        (false, _) => view.text(if args.all { usize::MAX } else { args.worst }, table::width()),
    };
    let mut out = std::io::stdout().lock();
    if args.watch.is_some() && !args.json && out.is_terminal() {
        // Home, then the text with each line's rest cleared, then what was below it: without a flicker, and no longer
        // than the screen, which would scroll.
        let text: Vec<&str> = text.lines().take(table::height().saturating_sub(1)).collect();
        let lines = text.join("\x1b[K\n") + "\x1b[K\n";
        write!(out, "\x1b[H{lines}\x1b[J")?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(out.flush()?)
}

fn of_fleet(path: &std::path::Path) -> anyhow::Result<Site> {
    let fleet = Fleet::load(path).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let name = |camera: &fleet::Camera| camera.name.as_deref().unwrap_or_default().to_owned();
    let cameras = fleet.cameras.iter().map(|camera| (camera.id.clone(), name(camera))).collect();
    Ok(Site { name: fleet.site, broker: fleet.broker, cameras: Some(cameras) })
}

fn of_broker(args: &Args) -> anyhow::Result<Site> {
    let mistake = |text: String| UserError(format!("huiyan status: {text}"));
    let (Some(url), Some(site)) = (&args.broker, &args.site) else {
        return Err(mistake("needs --fleet, or --broker and --site".to_owned()).into());
    };
    let url = fleet::broker_url(url, LOGIN).map_err(mistake)?;
    publish::wire::Topic::check_level(site).map_err(|error| mistake(format!("--site {site:?}: {error}")))?;
    let credentials = match (&args.user, &args.password) {
        (Some(user), Some(password)) => Some(Credentials::by_reference(user, password).map_err(mistake)?),
        _ => None,
    };
    let mut broker = Broker { credentials, ..Broker::at_url(&url) };
    if let Some(tls) = tls(args) {
        if broker.tls.is_none() {
            let text = format!(
                "--ca, --certificate and --tls-name are for TLS, and {url} is without: write mqtts://"
            );
            return Err(mistake(text).into());
        }
        tls.load().map_err(|error| mistake(wrong_file(args, &error)))?;
        broker.tls = Some(tls);
    }
    Ok(Site { name: site.clone(), broker, cameras: None })
}

/// Whom to believe and who we are, where something of it is given; the rest as by default.
fn tls(args: &Args) -> Option<Tls> {
    let identity = args.certificate.clone().zip(args.key.clone());
    let identity = identity.map(|(certificate, key)| Identity { certificate, key });
    let tls = Tls { ca: args.ca.clone(), identity, name: args.tls_name.clone() };
    (tls != Tls::default()).then_some(tls)
}

/// What is wrong with a file, with the option that names it.
fn wrong_file(args: &Args, error: &TlsError) -> String {
    let TlsError { key, problem, expected } = error;
    let (option, file) = match *key {
        "ca" => ("--ca", &args.ca),
        "certificate" => ("--certificate", &args.certificate),
        "key" => ("--key", &args.key),
        _ => ("--tls-name", &None),
    };
    let given = file.as_ref().map(|file| file.display().to_string()).or_else(|| args.tls_name.clone());
    format!("{option} {}: {problem}; {expected}", given.unwrap_or_default())
}
