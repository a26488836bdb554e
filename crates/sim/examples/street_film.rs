//! Renders a street: `street_film NAME|FILE.yaml DIR` writes its zones, its clip and its ground truth, or, with
//! `--pictures N`, its zones and every N-th picture as a PNG.

use std::path::Path;
use std::process::ExitCode;

use sim::street::{Timeline, film};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let [name, dir, rest @ ..] = args else {
        return Err("usage: street_film NAME|FILE.yaml DIR [--pictures N]".into());
    };
    let every: Option<u32> = match rest {
        [] => None,
        [flag, n] if flag == "--pictures" => Some(n.parse().map_err(|_| "N is a whole number")?),
        _ => return Err("expected --pictures N".into()),
    };
    let timeline = Timeline::open(name).map_err(|e| e.to_string())?;
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let zones: Vec<_> =
        timeline.zones().iter().map(|z| (z.id.clone(), z.polygon.points().to_vec())).collect();
    let text = serde_json::to_string(&zones).map_err(|e| e.to_string())?;
    std::fs::write(dir.join("zones.json"), text).map_err(|e| e.to_string())?;
    if let Some(every) = every {
        return pictures(&timeline, dir, every.max(1));
    }
    let film = film(&timeline, flow::Codec::H264, &mut |_, _| {}).map_err(|e| e.to_string())?;
    let stem = dir.join(Path::new(name).file_stem().unwrap_or_default());
    film.truth.write(&stem).map_err(|e| e.to_string())?;
    let bytes: Vec<u8> = film.clip.units.iter().flat_map(|u| u.data.iter().copied()).collect();
    std::fs::write(stem.with_extension("h264"), bytes).map_err(|e| e.to_string())
}

fn pictures(timeline: &Timeline, dir: &Path, every: u32) -> Result<(), String> {
    let result = timeline.render(|number, picture| -> Result<(), Box<dyn std::error::Error>> {
        if number % every == 0 {
            let path = dir.join(format!("{number:04}.png"));
            let (w, h) = (picture.width, picture.height);
            image::save_buffer(path, &picture.rgb, w, h, image::ExtendedColorType::Rgb8)?;
        }
        Ok(())
    });
    result.map_err(|e| e.to_string())
}
