//! `huiyan evidence`: whether pictures are what the worker made; opening a sealed original.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fleet::Fleet;
use flow::EventId;
use publish::evidence::{
    OpenError, PublicKey, REGISTER, Store, Verification, VerifyOptions, open_original, verify,
};

use crate::UserError;

/// Verify the chain of evidence pictures, or open a sealed original.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether pictures are those that the worker made, all of them. Exit code 1: something is wrong
    Verify(Verify),
    /// Decrypt a sealed original. The reason is written into the register first
    Open(Open),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// An evidence folder or the data_dir that holds it; or an event's id, with --config
    what: String,
    /// The fleet's YAML: where the pictures are, and the store, from which those that are there are fetched
    #[arg(long)]
    config: Option<PathBuf>,
    /// Public key (PEM) that is believed; may be given several times. Without, those that lie beside the pictures are,
    /// which proves less: who can write there can replace both
    #[arg(long)]
    key: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Open {
    /// The sealed original, …/{event}/{name}.jpg.age
    file: PathBuf,
    /// The file of age identities (AGE-SECRET-KEY-...) that fits
    #[arg(long)]
    identity: PathBuf,
    /// Why the original is needed, in a sentence
    #[arg(long)]
    reason: String,
    /// Where the opening is written down [default: register.jsonl in the evidence folder that holds FILE]
    #[arg(long)]
    register: Option<PathBuf>,
    /// Where the picture goes; a new file that only you can read
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Verify(args) => run_verify(&args),
        Command::Open(args) => run_open(&args),
    }
}

fn user(error: impl std::fmt::Display) -> anyhow::Error {
    UserError(error.to_string()).into()
}

fn run_verify(args: &Verify) -> anyhow::Result<()> {
    let fleet = args.config.as_deref().map(Fleet::load).transpose().map_err(user)?;
    let (dir, event) = place(&args.what, fleet.as_ref())?;
    let keys = args.key.iter().map(|path| PublicKey::from_file(path)).collect::<Result<Vec<_>, _>>();
    let store = fleet.as_ref().and_then(|fleet| fleet.evidence.store.as_ref()).map(Store::open);
    let store = store.transpose().map_err(user)?;
    let runtime = super::runtime()?;
    let fetch = |event: EventId, file: &str| match &store {
        Some(store) => runtime.block_on(store.get(event, file)),
        None => Err("no store is configured".to_owned()),
    };
    let given = !args.key.is_empty();
    let options = VerifyOptions {
        keys: keys.map_err(user)?,
        event,
        fetch: store.as_ref().map(|_| &fetch as publish::evidence::Fetch<'_>),
    };
    let done = verify(&dir, &options).map_err(user)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&done)?);
    } else {
        print(&done, given);
    }
    match done.findings.len() {
        0 => Ok(()),
        1 => anyhow::bail!("1 thing is wrong"),
        n => anyhow::bail!("{n} things are wrong"),
    }
}

/// The evidence folder, and the event where one was named.
fn place(what: &str, fleet: Option<&Fleet>) -> anyhow::Result<(PathBuf, Option<EventId>)> {
    let folder = |path: &Path| {
        let inner = path.join("evidence");
        if !path.join("chain").is_dir() && inner.join("chain").is_dir() { inner } else { path.to_owned() }
    };
    match (EventId::parse(what), fleet) {
        (Ok(event), Some(fleet)) => Ok((fleet.data_dir.join("evidence"), Some(event))),
        (Ok(_), None) => {
            Err(user(format!("{what}: with --config it is known where the event's pictures are")))
        }
        _ if Path::new(what).is_dir() => Ok((folder(Path::new(what)), None)),
        _ => Err(user(format!("{what}: expected an evidence folder, or an event's id with --config"))),
    }
}

fn print(done: &Verification, given: bool) {
    for finding in &done.findings {
        println!("WRONG  {finding}");
    }
    for end in &done.ends {
        let unfinished = if end.unfinished { ", and a record that a crash cut off" } else { "" };
        println!("camera {}: {} records{unfinished}; the last is {}", end.camera, end.seq, end.sha256);
    }
    let deleted: u64 = done.deleted.values().sum();
    println!("{} pictures are as they were made; {deleted} deleted on record", done.pictures);
    if done.elsewhere > 0 {
        println!("{} are in the store and were not looked at: --config says where that is", done.elsewhere);
    }
    let keys = done.keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match given {
        true => println!("signed with the key that was given: {keys}"),
        false => println!(
            "signed with a key that lies beside the pictures: {keys}; compare it, or give it with --key"
        ),
    }
}

fn run_open(args: &Open) -> anyhow::Result<()> {
    let register = match &args.register {
        Some(register) => register.clone(),
        None => {
            let folder = args.file.parent().and_then(Path::parent).filter(|dir| dir.join("chain").is_dir());
            let folder = folder.ok_or_else(|| {
                user(format!(
                    "{} lies in no evidence folder: say with --register where this is written down",
                    args.file.display()
                ))
            })?;
            folder.join(REGISTER)
        }
    };
    if args.out.exists() {
        return Err(user(format!("{} is there already", args.out.display())));
    }
    let who = nix::unistd::User::from_uid(nix::unistd::Uid::current())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::Uid::current().to_string(), |user| user.name);
    let plain = open_original(&args.file, &args.identity, &register, &who, &args.reason);
    let plain = plain.map_err(|error| match error {
        OpenError::Register { .. } => anyhow::Error::new(error),
        _ => user(error),
    })?;
    let create = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.out)?;
        file.write_all(&plain)
    };
    create().with_context(|| args.out.display().to_string())?;
    println!("{}: opened; {} says who and why", args.out.display(), register.display());
    Ok(())
}
