//! `huiyan check` and `huiyan schema`.

use std::path::PathBuf;

use fleet::Fleet;

use crate::UserError;

/// Check a fleet: every mistake at once, each with its place and what would be right.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet's YAML
    #[arg(default_value = "configs/huiyan.yaml")]
    config: PathBuf,
    /// Print mistakes, or the summary, as JSON
    #[arg(long)]
    json: bool,
    /// Instead of checking, write a fleet of the size of a county (29,720 cameras) into this folder
    #[arg(long, value_name = "DIR")]
    generate: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(dir) = &args.generate {
        let model = std::path::absolute("models/street-demo")?;
        let options = fleet::generate::Options { model, ..Default::default() };
        fleet::generate::huinan(dir, &options).map_err(|error| UserError(error.to_string()))?;
        println!("{} cameras in {}", options.cameras(), dir.join("huiyan.yaml").display());
        return Ok(());
    }
    let begun = std::time::Instant::now();
    let fleet = match Fleet::load(&args.config) {
        Ok(fleet) => fleet,
        Err(mistakes) if args.json => {
            println!("{}", serde_json::to_string_pretty(&mistakes)?);
            std::process::exit(2);
        }
        Err(mistakes) => return Err(UserError(mistakes.to_string()).into()),
    };
    let warnings = fleet.broker.tls.as_ref().map(|tls| tls.warnings()).unwrap_or_default();
    let zones: usize = fleet.cameras.iter().map(|camera| camera.zones.len()).sum();
    if args.json {
        let summary = serde_json::json!({
            "cameras": fleet.cameras.len(), "zones": zones, "situations": fleet.situations.len(),
            "models": fleet.models.len(), "config_hash": fleet.config_hash, "warnings": warnings,
        });
        println!("{summary}");
    } else {
        println!(
            "{}: no mistakes. {} cameras, {zones} zones, {} situations, {} models; {:.2} s",
            args.config.display(),
            fleet.cameras.len(),
            fleet.situations.len(),
            fleet.models.len(),
            begun.elapsed().as_secs_f64(),
        );
        warnings.iter().for_each(|warning| println!("warning: {warning}"));
    }
    Ok(())
}

/// Print the JSON Schema of a fleet's YAML, for editors; or write the wire contract.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Write what travels over MQTT into this folder instead: an AsyncAPI document and JSON Schemas. A contract of the
    /// same version that is there already is replaced only where nothing breaks
    #[arg(long, value_name = "DIR")]
    contract: Option<PathBuf>,
}

pub fn schema(args: &SchemaArgs) -> anyhow::Result<()> {
    let Some(folder) = &args.contract else {
        println!("{}", serde_json::to_string_pretty(&fleet::schema())?);
        return Ok(());
    };
    let written = publish::contract::write(folder).map_err(|error| UserError(error.to_string()))?;
    written.iter().for_each(|path| println!("{}", path.display()));
    Ok(())
}
