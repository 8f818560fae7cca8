//! VHD, by Microsoft's "Virtual Hard Disk Image Format Specification". Numbers are big-endian. The footer is the last 512 bytes;
//! a dynamic disk begins with a copy of it.

use super::{InspectError, Inspected, at};

pub(super) fn inspect(image: &Inspected<'_>) -> Result<u64, InspectError> {
    let Some(footer_at) = image.length.checked_sub(512) else { return Err(image.broken("its footer is missing")) };
    let footer = image.read(footer_at, 512)?;
    let first = image.read(0, 512)?;
    let begins = at(&first, 0, 8) == Some(b"conectix");
    if at(&footer, 0, 8) != Some(b"conectix") {
        return Err(image.broken("its footer is missing"));
    }
    let virtual_bytes = image.be64(&footer, 48)?;
    if begins && (at(&first, 48, 8) != at(&footer, 48, 8) || at(&first, 60, 4) != at(&footer, 60, 4)) {
        return Err(image.broken("its footer tells otherwise than the copy at its beginning"));
    }
    match (image.be32(&footer, 60)?, begins) {
        (2, false) if virtual_bytes == footer_at => Ok(virtual_bytes),
        (2, _) => Err(image.broken("its size is not that of its data")),
        (3, true) => {
            let header = image.read(image.be64(&footer, 16)?, 1024)?;
            if at(&header, 0, 8) != Some(b"cxsparse") {
                return Err(image.broken("its dynamic header is missing"));
            }
            Ok(virtual_bytes)
        }
        (4, _) => Err(image.elsewhere("a parent")),
        (other, _) => Err(image.feature(format!("the type {other}"))),
    }
}
