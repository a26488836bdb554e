//! Reference pictures: what a camera that turns shows at its presets.

use std::path::Path;

use anyhow::Context as _;
use fleet::Camera;
use flow::Luma;
use scene::Scene;

/// The same bound as for a picture that is decoded.
const MAX_SIDE: u32 = 16_384;
/// As many columns as pictures have for the scenes.
const COLUMNS: u32 = flow::LUMA_COLUMNS;

/// An empty scene that knows its camera's presets. A reference that cannot be read is reported and left out; where none is
/// left, the camera's health will say that it is off its presets.
pub fn scene(camera: &Camera) -> Scene {
    let mut scene = Scene::new(camera);
    for preset in camera.presets.iter() {
        for file in &preset.references {
            match luma(file) {
                Ok(luma) => drop(scene.refer(&preset.id, &luma)),
                Err(error) => tracing::error!(camera = %camera.id, preset = %preset.id, "{error:#}"),
            }
        }
    }
    scene
}

/// The small grey copy of a picture in a file, as the scenes get it of a decoded picture.
fn luma(file: &Path) -> anyhow::Result<Luma> {
    let read = || -> anyhow::Result<Luma> {
        let mut reader = image::ImageReader::open(file)?.with_guessed_format()?;
        let mut limits = image::Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        reader.limits(limits);
        let grey = reader.decode()?.into_luma8();
        let (width, height) = grey.dimensions();
        let columns = COLUMNS.min(width);
        let rows = ((u64::from(height) * u64::from(columns) + u64::from(width) / 2) / u64::from(width))
            .clamp(1, u64::from(height)) as u32;
        let small = image::imageops::resize(&grey, columns, rows, image::imageops::FilterType::Triangle);
        let small = Luma::from_cells(columns as u16, rows as u16, small.into_raw());
        small.context("the picture is empty")
    };
    read().with_context(|| file.display().to_string())
}
