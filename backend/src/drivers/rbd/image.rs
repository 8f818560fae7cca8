//! What `rbd info` says of an image, and of those it was cloned from.

use std::ffi::OsString;

use serde::Deserialize;

use super::cluster::{Cluster, RBD, is_missing, parse};
use crate::command::CommandError;

/// So many ancestors are followed: a chain that is longer has gone wrong.
const MOST_ANCESTORS: usize = 64;

/// An image.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Info {
    /// What its objects are named by; a new one for each image, whatever its name.
    pub(super) id: String,
    /// In bytes.
    pub(super) size: u64,
    /// What the names of the objects with its data begin with.
    pub(super) block_name_prefix: String,
    /// The pool of those, where that is another.
    pub(super) data_pool: Option<String>,
    /// What it was cloned from and still shares bytes with.
    pub(super) parent: Option<Parent>,
}

/// The image that another was cloned from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Parent {
    pub(super) pool: String,
    #[serde(default)]
    pub(super) pool_namespace: String,
    pub(super) id: String,
}

impl Cluster {
    /// An image by its name, where there is one.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Info>, CommandError> {
        match self.rbd(["info", "--format", "json", &self.spec(name)]).await {
            Ok(text) => parse(RBD, &text).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that an image shares bytes with, from its parent on: where each is and what it is.
    pub(super) async fn ancestors(&self, info: &Info) -> Result<Vec<(Parent, Info)>, CommandError> {
        let mut found = Vec::new();
        let mut next = info.parent.clone();
        while let Some(parent) = next.filter(|_| found.len() < MOST_ANCESTORS) {
            let Parent { pool, pool_namespace, id } = &parent;
            let words = ["info", "--format", "json", "--pool", pool, "--namespace", pool_namespace, "--image-id", id];
            let text = self.rbd(words.map(OsString::from)).await?;
            let info: Info = parse(RBD, &text)?;
            next = info.parent.clone();
            found.push((parent, info));
        }
        Ok(found)
    }
}
