//! The bytes of images, against their rows.

use super::{AuditError, Report};
use crate::config::Config;
use crate::image::ImageFiles;
use crate::store::Store;

const PLACE: &str = "images";

pub(super) async fn compare(config: &Config, store: &Store, report: &mut Report) -> Result<(), AuditError> {
    let directory = config.images.directory.clone().unwrap_or_else(|| config.state_dir.join("images"));
    if !directory.is_dir() {
        report.not_looked_at.push(format!("images: {} is not on this machine", directory.display()));
        return Ok(());
    }
    let before = store.kept_images().await?;
    let files = ImageFiles::open(directory, &format!("{}-audit", config.host_name()), &config.images)?;
    let found = files.list()?;
    let after = store.kept_images().await?;
    for image in before.iter().filter(|image| image.is_active && after.contains(image)) {
        match (found.get(&image.id), image.size_bytes) {
            (None, _) => {
                report.add(
                    "missing_image",
                    PLACE,
                    image.id,
                    "it is active, and its bytes are not there. Upload it anew, or delete it.",
                );
            }
            (Some(size), Some(wanted)) if *size != wanted => {
                report.add(
                    "wrong_size",
                    PLACE,
                    image.id,
                    format!("it has {size} bytes and should have {wanted}. Upload it anew."),
                );
            }
            _ => {}
        }
    }
    for (id, size) in &found {
        if !before.iter().chain(&after).any(|image| image.id == *id) {
            report.add(
                "orphan_image",
                PLACE,
                id,
                format!("{size} bytes; no image has it. The API removes it at its next start."),
            );
        }
    }
    Ok(())
}
