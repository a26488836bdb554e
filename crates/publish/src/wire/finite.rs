//! Numbers of 32 bits: JSON can hold one that is larger than they can be, which would be read as infinite and could not
//! be written again.

use flow::NormBox;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A number, or none.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    match Option::<f32>::deserialize(deserializer)? {
        Some(number) if !number.is_finite() => Err(D::Error::custom("a number is beyond 3.4e38")),
        number => Ok(number),
    }
}

/// A part of a picture as its corners, or none.
pub(super) fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f32; 4]>, D::Error> {
    let Some(corners) = Option::<[f32; 4]>::deserialize(deserializer)? else { return Ok(None) };
    let [x0, y0, x1, y1] = corners;
    NormBox::new(x0, y0, x1, y1).map_err(D::Error::custom)?;
    Ok(Some(corners))
}
