//! The names of objects: `<container>/<backup id>/<part>`. They are made of a checked word, ids and numbers alone, so nothing that is
//! read from a store or a request can name a place outside.

use std::fmt;

use uuid::Uuid;

use super::BackupError;

/// Where all that one backup has put into the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    container: String,
    backup: Uuid,
}

/// One object of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the backup consists of.
    Manifest,
    /// What a page of it consists of, by its place in the volume.
    Page(u64),
    /// A chunk, by its place in the volume.
    Chunk(u64),
}

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

impl Place {
    /// A backup's place in a container, which must be a word of at most 255 letters, digits, `.`, `_` and `-`.
    pub fn new(container: &str, backup: Uuid) -> Result<Self, BackupError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins = container.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !begins || container.len() > 255 || !container.bytes().all(fits) {
            return Err(BackupError::Container { name: container.chars().take(255).collect() });
        }
        Ok(Self { container: container.to_owned(), backup })
    }

    /// Whose.
    pub fn backup(&self) -> Uuid {
        self.backup
    }

    /// The place of another backup in the same container.
    pub(super) fn of(&self, backup: Uuid) -> Self {
        Self { container: self.container.clone(), backup }
    }

    /// What the names of all its objects begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/{}/", self.container, self.backup)
    }

    pub(super) fn object(&self, part: Part) -> ObjectName {
        let prefix = self.prefix();
        ObjectName(match part {
            Part::Manifest => format!("{prefix}manifest"),
            Part::Page(number) => format!("{prefix}page-{number:010}"),
            Part::Chunk(number) => format!("{prefix}chunk-{number:012}"),
        })
    }

    /// The object of this name, where it can be one of this backup's: a store may hold others' as well.
    pub(super) fn named(&self, name: &str) -> Option<ObjectName> {
        let part = name.strip_prefix(&self.prefix())?;
        let numbered = |kind: &str| part.strip_prefix(kind).and_then(|number| number.parse().ok());
        let part = match numbered("page-").map(Part::Page).or(numbered("chunk-").map(Part::Chunk)) {
            Some(part) => part,
            None if part == "manifest" => Part::Manifest,
            None => return None,
        };
        Some(self.object(part)).filter(|object| object.0 == name)
    }
}

impl ObjectName {
    /// As a path below the store's root.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_names_a_place_outside() {
        for wrong in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(256)] {
            assert!(Place::new(wrong, Uuid::nil()).is_err(), "{wrong}");
        }
        let place = Place::new("b-1_x.y", Uuid::nil()).unwrap();
        for part in [Part::Manifest, Part::Page(7), Part::Chunk(u64::MAX)] {
            let name = place.object(part);
            assert_eq!(place.named(name.as_str()), Some(name));
        }
        let prefix = place.prefix();
        for foreign in ["page-7", "chunk-../../x", "chunk-", "manifest/", "other"] {
            assert_eq!(place.named(&format!("{prefix}{foreign}")), None, "{foreign}");
        }
        assert_eq!(place.named("b-1_x.y/other/manifest"), None);
    }
}
