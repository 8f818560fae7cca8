//! Ways in for the fuzz targets: mappings, and the bytes of images.

use super::{Mapping, MappingError, inspect};
use crate::model::{BootRequest, DiskFormat, ForeignFormat};

/// Reads a clause and a mapping as a request would bring them; the names that they refer to.
///
/// # Errors
/// The entry and the field that break a rule.
pub fn mapping(json: &str, clause: &str) -> Result<Vec<String>, MappingError> {
    let request = BootRequest {
        guest: "g".into(),
        image: None,
        image_size_gib: None,
        mapping: json.to_owned(),
        clauses: vec![clause.to_owned()],
        lazy: false,
        definition: None,
    };
    let mapping = Mapping::of(&request, None)?;
    Ok(mapping.references().into_iter().map(|reference| reference.name).collect())
}

/// Looks into an image; the size of its disk where it would be taken.
pub fn image(bytes: &[u8], format: DiskFormat) -> Option<u64> {
    inspect::inspect(bytes, format).ok()
}

/// The same for a format that is converted first.
pub fn foreign_image(bytes: &[u8], format: ForeignFormat) -> Option<u64> {
    inspect::inspect_foreign(bytes, format).ok()
}
