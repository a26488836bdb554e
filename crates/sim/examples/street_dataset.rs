//! Writes a labelled data set of rendered streets: `street_dataset DIR COUNT SEED`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, count, seed] = args.as_slice() else {
        return fail("usage: street_dataset DIR COUNT SEED");
    };
    let (Ok(count), Ok(seed)) = (count.parse(), seed.parse()) else {
        return fail("COUNT and SEED are whole numbers");
    };
    match sim::street::dataset::export(Path::new(dir), count, seed, (640, 360), &|_| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(2)
}
