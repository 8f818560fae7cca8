//! What another instance of the service needs to take a backup over: base64 of JSON, opaque to clients, as the field's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Digest, Place};
use crate::domain::{Backup, ImportedBackup, Refusal};

/// What clients send back along with the record: which service it is of.
pub(super) const SERVICE: &str = "bowline";

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    id: Uuid,
    parent_id: Option<Uuid>,
    size: u64,
    container: String,
    object_count: u64,
    display_name: Option<String>,
    display_description: Option<String>,
    manifest_sha256: String,
    data_at_us: i64,
}

/// The service's name and the record of a backup whose manifest has this digest.
pub fn encode(backup: &Backup, manifest: &str) -> Option<(&'static str, String)> {
    let record = Record {
        version: 1,
        id: backup.id,
        parent_id: backup.parent_id,
        size: backup.size_gib,
        container: backup.container.clone(),
        object_count: backup.object_count,
        display_name: backup.name.clone(),
        display_description: backup.description.clone(),
        manifest_sha256: manifest.to_owned(),
        data_at_us: backup.data_at_us,
    };
    Some((SERVICE, STANDARD.encode(serde_json::to_vec(&record).ok()?)))
}

/// What a record tells, checked.
pub fn decode(service: &str, record: &str) -> Result<ImportedBackup, Refusal> {
    let invalid = |why: &str| Refusal::Invalid(format!("Invalid input received: {why}"));
    if service != SERVICE {
        return Err(invalid(&format!("backup_service must be {SERVICE}: others' backups cannot be read")));
    }
    let bytes = STANDARD.decode(record.trim()).map_err(|_| invalid("Can't decode backup record."))?;
    let record: Record = serde_json::from_slice(&bytes).map_err(|_| invalid("Can't parse backup record."))?;
    if record.version != 1 {
        return Err(invalid("the backup record is of a version that is not known here"));
    }
    if !(1..=i32::MAX as u64).contains(&record.size) {
        return Err(invalid("Provided backup record is missing size attribute"));
    }
    Place::new(&record.container, record.id).map_err(|error| invalid(&error.to_string()))?;
    Digest::parse(&record.manifest_sha256).ok_or_else(|| invalid("the backup record has no SHA-256 of its manifest"))?;
    let text = |text: Option<String>| text.map(|text| text.chars().filter(|char| *char != '\0').take(255).collect());
    Ok(ImportedBackup {
        id: record.id,
        parent_id: record.parent_id,
        size_gib: record.size,
        container: record.container,
        object_count: record.object_count,
        name: text(record.display_name),
        description: text(record.display_description),
        manifest: record.manifest_sha256.to_ascii_lowercase(),
        data_at_us: record.data_at_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_none_is_refused() {
        assert!(decode("bowline", "%%%").is_err());
        assert!(decode("bowline", &STANDARD.encode("{}")).is_err());
        assert!(decode("cinder.backup.drivers.swift", &STANDARD.encode("{}")).is_err());
    }
}
