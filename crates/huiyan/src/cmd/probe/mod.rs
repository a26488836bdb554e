//! `huiyan probe`: what cameras send, and what to write for them.

mod detail;
mod export;
mod survey;
mod yaml;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Certificate, Credentials, Fleet, Transport};
use flow::CameraId;
use indicatif::{ProgressBar, ProgressStyle};
use ingest::probe::{Limits, Outcome, Probed, Prober};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{interrupted, runtime};
use crate::{UserError, table};

/// How a login is written, for who wrote it into the address.
const LOGIN: &str =
    "leave user and password out of the address and write: --user NAME --password env:NAME (or file:PATH)";

/// Say what cameras send, and what to write into the fleet's YAML for them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Addresses of cameras: rtsp:// or rtsps://host[:port]/path, without user and password
    #[arg(value_name = "URL", required_unless_present = "fleet", conflicts_with = "fleet")]
    urls: Vec<String>,
    /// Probe all cameras of a fleet instead: a table, and histograms over all of them
    #[arg(long, value_name = "YAML")]
    fleet: Option<PathBuf>,
    /// User name, or env:NAME
    #[arg(long, requires = "password", conflicts_with = "fleet")]
    user: Option<String>,
    /// Where the password is: env:NAME or file:PATH
    #[arg(long, requires = "user", conflicts_with = "fleet")]
    password: Option<String>,
    /// How the media travel; auto: TCP, and UDP where that brings nothing [default: auto, or as the fleet says]
    #[arg(long, value_enum)]
    transport: Option<Way>,
    /// Take any certificate of an rtsps:// camera, as with those that cameras make for themselves
    #[arg(long, conflicts_with = "fleet")]
    any_certificate: bool,
    /// Watch each camera for so many seconds at most; it ends sooner once three key pictures have come
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Cameras at the same time, at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=2000))]
    parallel: u64,
    /// The class to write into the YAML
    #[arg(long, default_value = "community", conflicts_with = "fleet")]
    class: String,
    /// Print only the YAML, for a file that the fleet includes
    #[arg(long, conflicts_with_all = ["fleet", "json"])]
    yaml: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Also write one line per camera into this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// List all cameras of a fleet, not only those that need a look
    #[arg(long, requires = "fleet")]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Tcp,
    Udp,
    Auto,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let cameras = match &args.fleet {
        Some(path) => of_fleet(path, args.transport)?,
        None => of_urls(&args)?,
    };
    let login = args.user.as_deref().zip(args.password.as_deref());
    let login = login.map(|(user, password)| yaml::Login { user, password });
    let found = runtime()?.block_on(probe_all(&cameras, &args))?;
    if let Some(path) = &args.csv {
        export::csv(path, &found.probed).with_context(|| path.display().to_string())?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&export::json(&found))?);
    } else if args.yaml {
        print!("{}", yaml::entries(&found.probed, &cameras, &args.class, login.as_ref()));
    } else if args.fleet.is_some() {
        print!("{}", survey::text(&found, &cameras, args.all, table::width()));
    } else {
        for probed in &found.probed {
            println!("{}", detail::text(probed, table::width()));
        }
        if found.probed.iter().any(|probed| matches!(probed.outcome, Outcome::Seen(_))) {
            println!("For the fleet's YAML:\n");
            print!("{}", yaml::entries(&found.probed, &cameras, &args.class, login.as_ref()));
        }
    }
    verdict(&found, args.fleet.is_some())
}

/// Exit code 1 where a camera that was named cannot be watched, or none of a fleet can; a fleet always has some.
fn verdict(found: &Found, fleet: bool) -> anyhow::Result<()> {
    let failures: Vec<String> = found
        .probed
        .iter()
        .filter_map(|probed| Some(format!("{}: {}", probed.url, failure(probed)?.kind)))
        .collect();
    if found.stopped {
        anyhow::bail!("stopped: {} of {} cameras probed", found.probed.len(), found.asked);
    }
    match failures.as_slice() {
        [] => Ok(()),
        _ if fleet && failures.len() < found.probed.len() => Ok(()),
        [reason] => anyhow::bail!("{reason}"),
        many => anyhow::bail!("{} of {} cameras cannot be watched", many.len(), found.probed.len()),
    }
}

fn failure(probed: &Probed) -> Option<&ingest::probe::Failure> {
    match &probed.outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Seen(_) => None,
    }
}

/// What came out.
struct Found {
    /// In the order in which the cameras were given.
    probed: Vec<Probed>,
    /// Cameras that were asked for.
    asked: usize,
    /// The user stopped it.
    stopped: bool,
}

/// A camera to probe.
struct Wanted {
    camera: Arc<Camera>,
    /// The other transport may be tried.
    any_transport: bool,
}

fn of_fleet(path: &std::path::Path, way: Option<Way>) -> anyhow::Result<Vec<Wanted>> {
    let fleet = Fleet::load(path).map_err(|mistakes| UserError(mistakes.to_string()))?;
    if fleet.cameras.is_empty() {
        return Err(UserError(format!("{}: no cameras to probe", path.display())).into());
    }
    let wanted = |camera: Arc<Camera>| match way {
        None => Wanted { camera, any_transport: false },
        Some(way) => {
            let mut camera = (*camera).clone();
            camera.transport = transport(way);
            Wanted { camera: Arc::new(camera), any_transport: way == Way::Auto }
        }
    };
    Ok(fleet.cameras.into_iter().map(wanted).collect())
}

fn of_urls(args: &Args) -> anyhow::Result<Vec<Wanted>> {
    let mistake = |text: String| UserError(format!("huiyan probe: {text}"));
    let login = match (&args.user, &args.password) {
        (Some(user), Some(password)) => {
            Some(Arc::new(Credentials::by_reference(user, password).map_err(mistake)?))
        }
        _ => None,
    };
    CameraId::new(&args.class).map_err(|error| mistake(format!("--class {:?}: {error}", args.class)))?;
    let way = args.transport.unwrap_or(Way::Auto);
    let mut cameras: Vec<Wanted> = Vec::new();
    for text in &args.urls {
        let url = fleet::camera_url(text, LOGIN).map_err(mistake)?;
        let mut id = yaml::id_of(&url);
        let taken = |id: &str| cameras.iter().any(|wanted| wanted.camera.id.as_str() == id);
        if taken(&id) {
            let free = (2..).map(|n| format!("{id}-{n}")).find(|id| !taken(id));
            id = free.expect("there is always another number");
        }
        let id = CameraId::new(&id).map_err(|error| mistake(error.to_string()))?;
        let mut camera = Camera::bare(id, url, login.clone(), transport(way));
        if args.any_certificate {
            camera.certificate = Certificate::Any;
        }
        cameras.push(Wanted { camera: Arc::new(camera), any_transport: way == Way::Auto });
    }
    Ok(cameras)
}

fn transport(way: Way) -> Transport {
    match way {
        Way::Tcp | Way::Auto => Transport::Tcp,
        Way::Udp => Transport::Udp,
    }
}

/// Probes all of them, some at a time, and host by host in turn, so that no host is left with all that is late.
async fn probe_all(cameras: &[Wanted], args: &Args) -> anyhow::Result<Found> {
    let cancel = CancellationToken::new();
    let limits = Limits { watch: Duration::from_secs(args.seconds), ..Limits::default() };
    let list = cameras.iter().map(|wanted| Arc::clone(&wanted.camera)).collect();
    let prober = Arc::new(Prober::new(list, ingest::Policy::default(), limits, cancel.clone()));
    let bar = bar(cameras.len());
    tokio::spawn({
        let cancel = cancel.clone();
        async move {
            interrupted().await;
            cancel.cancel();
        }
    });
    let mut waiting = in_turns(cameras).into_iter();
    let mut running = JoinSet::new();
    let mut probed: Vec<(usize, Probed)> = Vec::new();
    let mut failed = 0;
    loop {
        while running.len() < args.parallel as usize
            && !cancel.is_cancelled()
            && let Some(index) = waiting.next()
        {
            let (prober, any_transport) = (Arc::clone(&prober), cameras[index].any_transport);
            running.spawn(async move { (index, prober.probe(index, any_transport).await) });
        }
        let Some(done) = running.join_next().await else { break };
        if let (index, Some(one)) = done.context("a probe ended before its time")? {
            failed += usize::from(failure(&one).is_some());
            probed.push((index, one));
        }
        bar.inc(1);
        bar.set_message(if failed > 0 { format!("{failed} cannot be watched") } else { String::new() });
    }
    bar.finish_and_clear();
    probed.sort_by_key(|(index, _)| *index);
    let probed: Vec<Probed> = probed.into_iter().map(|(_, one)| one).collect();
    let stopped = cancel.is_cancelled() && probed.len() < cameras.len();
    Ok(Found { probed, asked: cameras.len(), stopped })
}

/// The places of the cameras, the first of each host before the second of any.
fn in_turns(cameras: &[Wanted]) -> Vec<usize> {
    let mut seen: std::collections::HashMap<&str, usize> = Default::default();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(cameras.len());
    for (index, wanted) in cameras.iter().enumerate() {
        let before = seen.entry(wanted.camera.url.host_str().unwrap_or_default()).or_default();
        order.push((*before, index));
        *before += 1;
    }
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

/// On a terminal, on standard error: what is printed at the end stays clean.
fn bar(length: usize) -> ProgressBar {
    if length < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} cameras, {elapsed}, {eta} left  {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_take_turns() {
        let wanted = |n: usize, host: &str| Wanted {
            camera: Arc::new(Camera::bare(
                CameraId::new(&format!("c{n}")).unwrap(),
                fleet::camera_url(&format!("rtsp://{host}/{n}"), LOGIN).unwrap(),
                None,
                Transport::Tcp,
            )),
            any_transport: false,
        };
        let hosts = ["nvr", "nvr", "nvr", "a", "nvr", "b", "a"];
        let cameras: Vec<_> = hosts.iter().enumerate().map(|(n, host)| wanted(n, host)).collect();
        assert_eq!(in_turns(&cameras), [0, 3, 5, 1, 6, 2, 4]);
    }
}
