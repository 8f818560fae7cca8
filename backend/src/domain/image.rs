//! A disk image: bytes that volumes are made from, with what they are called and what they need.
//!
//! ```text
//! queued ──▶ saving ──▶ active ◀──▶ deactivated
//!    ▲          │
//!    └──────────┘  refused, cut off, or the service died
//! ```

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::statuses::words;

/// Where an image is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageStatus {
    /// It has no bytes yet.
    Queued,
    /// Its bytes are coming.
    Saving,
    /// Its bytes are there, and never change.
    Active,
    /// Its bytes are kept from all but administrators.
    Deactivated,
}

words!(ImageStatus {
    Queued => "queued",
    Saving => "saving",
    Active => "active",
    Deactivated => "deactivated",
});

/// Who sees an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Everybody, in every list.
    Public,
    /// Everybody who knows its id or asks for this kind.
    Community,
    /// Its project and the members it was offered to.
    Shared,
    /// Its project.
    Private,
}

words!(Visibility {
    Public => "public",
    Community => "community",
    Shared => "shared",
    Private => "private",
});

/// What a project makes of an image that it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberStatus {
    /// It has not said.
    Pending,
    /// It lists it.
    Accepted,
    /// It does not.
    Rejected,
}

words!(MemberStatus { Pending => "pending", Accepted => "accepted", Rejected => "rejected" });

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub project_id: String,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Where it is in its life.
    pub status: ImageStatus,
    /// Who sees it.
    pub visibility: Visibility,
    /// Whether it must not be deleted.
    pub protected: bool,
    /// What its bytes are: `raw`, `qcow2` …
    pub disk_format: Option<String>,
    /// What they are wrapped in: `bare`.
    pub container_format: Option<String>,
    /// How many bytes it has.
    pub size_bytes: Option<u64>,
    /// How many bytes a disk made from it has.
    pub virtual_bytes: Option<u64>,
    /// The smallest volume it fits, in GiB.
    pub min_disk_gib: u64,
    /// The least memory a guest of it needs, in MiB.
    pub min_ram_mib: u64,
    /// The MD5 of its bytes, in hex, for clients that know no better.
    pub checksum: Option<String>,
    /// The SHA-512 of its bytes, in hex.
    pub hash_value: Option<String>,
    /// The owner's key-value pairs.
    pub properties: BTreeMap<String, String>,
    /// The owner's words for it.
    pub tags: BTreeSet<String>,
    /// When it was accepted, microseconds since the epoch.
    pub created_at_us: i64,
    /// When it last changed, microseconds since the epoch.
    pub updated_at_us: Option<i64>,
}

/// What was found out about bytes while they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// How many.
    pub size_bytes: u64,
    /// How many a disk made from them has.
    pub virtual_bytes: u64,
    /// Their MD5, in hex.
    pub checksum: String,
    /// Their SHA-512, in hex.
    pub hash_value: String,
}

/// A project that an image was offered to.
#[derive(Clone, Debug)]
pub struct ImageMember {
    /// The image.
    pub image_id: Uuid,
    /// The project.
    pub project_id: String,
    /// What it makes of it.
    pub status: MemberStatus,
}

impl Image {
    /// What a volume made from it remembers of it, under the names the field gives.
    pub fn volume_metadata(&self) -> BTreeMap<String, String> {
        let mut facts = self.properties.clone();
        let mut put = |key: &str, value: String| facts.insert(key.to_owned(), value);
        put("image_id", self.id.to_string());
        put("image_name", self.name.clone().unwrap_or_default());
        put("min_disk", self.min_disk_gib.to_string());
        put("min_ram", self.min_ram_mib.to_string());
        put("size", self.size_bytes.unwrap_or(0).to_string());
        for (key, value) in
            [("checksum", &self.checksum), ("disk_format", &self.disk_format), ("container_format", &self.container_format)]
        {
            put(key, value.clone().unwrap_or_default());
        }
        facts
    }

    /// Whether a project sees it where it names it: its own, one for all, or one that it was offered.
    pub fn seen_by(&self, project_id: &str, is_member: bool) -> bool {
        match self.visibility {
            Visibility::Public | Visibility::Community => true,
            Visibility::Shared => self.project_id == project_id || is_member,
            Visibility::Private => self.project_id == project_id,
        }
    }
}
