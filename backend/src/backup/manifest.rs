//! Manifests and pages: JSON of a fixed form, read strictly. What they say is checked before anything is done by it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::BackupError;
use crate::hex::hex;

/// The bytes of a chunk. Small enough that a changed byte does not cost much, large enough that a store's time for a request does not
/// count.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// The chunks of a page: 4 GiB of the volume, some 170 KiB of page at most.
pub(super) const PAGE_CHUNKS: u64 = 1024;

/// No page is longer, bytes.
pub(super) const LONGEST_PAGE: u64 = 1 << 20;

/// No manifest is longer, bytes: that of a volume of a petabyte.
pub(super) const LONGEST_MANIFEST: u64 = 64 << 20;

/// The form of what is written here.
const FORMAT: u32 = 1;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// As 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

/// What a backup consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// Whose it is.
    pub backup_id: Uuid,
    /// The backup it holds the differences from.
    pub parent_id: Option<Uuid>,
    /// The volume's size.
    pub size_bytes: u64,
    /// How long a chunk is.
    chunk_bytes: u64,
    /// How many chunks a page has room for.
    page_chunks: u64,
    /// The pages that are not all zeros, in order.
    pub(super) pages: Vec<PageRef>,
}

/// Where a page is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageRef {
    /// Which, by its place in the volume.
    pub(super) page: u64,
    /// The backup that has put it there.
    pub(super) owner: Uuid,
    /// Of its bytes.
    pub(super) sha256: Digest,
    /// Its length.
    pub(super) bytes: u64,
}

/// What a page consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The chunks that are not all zeros, in order.
    pub(super) chunks: Vec<ChunkRef>,
}

/// Where a chunk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChunkRef {
    /// Which, by its place in the volume.
    pub(super) chunk: u64,
    /// Of the bytes it holds, as they are in the volume.
    pub(super) sha256: Digest,
    /// The backup that has put it there.
    pub(super) owner: Uuid,
    /// By which number: what is in a page twice is in the store once.
    pub(super) object: u64,
    /// How long it is there, compressed.
    pub(super) bytes: u64,
}

impl Manifest {
    pub(super) fn new(backup_id: Uuid, parent_id: Option<Uuid>, size_bytes: u64, pages: Vec<PageRef>) -> Self {
        let (chunk_bytes, page_chunks) = (CHUNK_BYTES, PAGE_CHUNKS);
        Self { format: FORMAT, backup_id, parent_id, size_bytes, chunk_bytes, page_chunks, pages }
    }

    /// Refuses what this version cannot read and what cannot be.
    pub(super) fn check(&self, object: &str, backup_id: Uuid) -> Result<(), BackupError> {
        let wrong = |why: String| Err(BackupError::Nonsense { object: object.to_owned(), why });
        if (self.format, self.chunk_bytes, self.page_chunks) != (FORMAT, CHUNK_BYTES, PAGE_CHUNKS) {
            return wrong(format!("it has format {}, and this version knows only {FORMAT}", self.format));
        }
        if self.backup_id != backup_id {
            return wrong(format!("it is that of backup {}", self.backup_id));
        }
        let pages = self.size_bytes.div_ceil(CHUNK_BYTES).div_ceil(PAGE_CHUNKS);
        let in_order = self.pages.is_sorted_by(|a, b| a.page < b.page);
        if !in_order || self.pages.last().is_some_and(|last| last.page >= pages) {
            return wrong("its pages are not in order, or lie beyond the volume's end".into());
        }
        if self.pages.iter().any(|page| page.bytes > LONGEST_PAGE) {
            return wrong("it tells of a page that is longer than any can be".into());
        }
        Ok(())
    }

    /// How long a chunk of the volume is; 0 beyond its end.
    pub(super) fn chunk_length(&self, chunk: u64) -> u64 {
        self.size_bytes.saturating_sub(chunk.saturating_mul(CHUNK_BYTES)).min(CHUNK_BYTES)
    }
}

impl Page {
    /// Refuses what cannot be.
    pub(super) fn check(&self, object: &str, page: u64, manifest: &Manifest) -> Result<(), BackupError> {
        let first = page.saturating_mul(PAGE_CHUNKS);
        let inside = |chunk: &ChunkRef| {
            (first..first.saturating_add(PAGE_CHUNKS)).contains(&chunk.chunk) && manifest.chunk_length(chunk.chunk) > 0
        };
        if !self.chunks.is_sorted_by(|a, b| a.chunk < b.chunk) || !self.chunks.iter().all(inside) {
            let why = "its chunks are not in order, or lie beyond its end".into();
            return Err(BackupError::Nonsense { object: object.to_owned(), why });
        }
        if self.chunks.iter().any(|chunk| chunk.bytes > longest_stored()) {
            let why = "it tells of a chunk that is longer than any can be".into();
            return Err(BackupError::Nonsense { object: object.to_owned(), why });
        }
        Ok(())
    }
}

/// What a chunk that cannot be compressed takes, bytes.
fn longest_stored() -> u64 {
    zstd::zstd_safe::compress_bound(usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX)) as u64
}
