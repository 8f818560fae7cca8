//! Asks the cluster who an image is and how large, by `rbd info`.
//!
//! An image's name says little: the same name in another pool is another image, and an image made anew under an old name is
//! another one too. Its id, which Ceph gives it when it is made, tells them apart.

use super::{RbdError, tool::Access};
use crate::model::{DeviceIdentity, ObservedIdentity, RbdImage};
use serde::Deserialize;
use std::time::Duration;

/// The part of `rbd info --format json` that is used.
#[derive(Deserialize)]
struct Info {
    name: String,
    /// Images of format 1 have none.
    #[serde(default)]
    id: String,
    size: u64,
}

/// Runs `rbd info` for at most `limit`.
pub(super) async fn ask(access: &Access<'_>, limit: Duration) -> Result<ObservedIdentity, RbdError> {
    parse(access.image, &access.run("look at", &["--format", "json", "info"], limit).await?)
}

pub(super) fn parse(image: &RbdImage, said: &str) -> Result<ObservedIdentity, RbdError> {
    let bad = |problem: String| RbdError::Answer { image: image.to_string(), problem };
    let info: Info = serde_json::from_str(said).map_err(|error| bad(error.to_string()))?;
    if info.name != image.name {
        return Err(bad("it is about another image".to_owned()));
    }
    identity(image, &info.id, info.size)
}

/// The identity of an image with this id. The same whoever says it, so that an image is known again after the client was changed.
pub(super) fn identity(image: &RbdImage, id: &str, size_bytes: u64) -> Result<ObservedIdentity, RbdError> {
    if id.is_empty() || id.len() > 64 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(RbdError::Answer {
            image: image.to_string(),
            problem: "it gives no image id (images of format 1 have none), so the image's identity cannot be proved".to_owned(),
        });
    }
    let identity = DeviceIdentity { serial: Some(id.to_owned()), wwids: vec![format!("rbd.{image}")] };
    Ok(ObservedIdentity { identity, size_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(namespace: Option<&str>) -> RbdImage {
        RbdImage { pool: "volumes".into(), namespace: namespace.map(str::to_owned), name: "volume-1".into() }
    }

    #[test]
    fn an_image_is_known_by_its_id_and_where_it_is() {
        // As Ceph 16.2 writes it, shortened.
        let said = r#"{"name":"volume-1","id":"1017635b9a35","size":1073741824,"order":22,"format":2,"features":["layering"]}"#;
        let observed = parse(&image(None), said).unwrap();
        assert_eq!(observed.size_bytes, 1 << 30);
        assert_eq!(observed.identity.serial.as_deref(), Some("1017635b9a35"));
        assert_eq!(observed.identity.wwids, ["rbd.volumes/volume-1"]);
        assert_ne!(parse(&image(Some("ns")), said).unwrap().identity, observed.identity);
    }

    #[test]
    fn an_answer_that_proves_nothing_is_refused() {
        for said in [
            "",
            "[]",
            r#"{"name":"volume-1","size":1}"#,
            r#"{"name":"volume-1","id":"","size":1}"#,
            r#"{"name":"volume-1","id":"a b","size":1}"#,
            r#"{"name":"volume-2","id":"ab","size":1}"#,
            r#"{"name":"volume-1","id":"ab","size":-1}"#,
        ] {
            assert!(matches!(parse(&image(None), said), Err(RbdError::Answer { .. })), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(said in "\\PC*", size in any::<u64>(), id in "\\PC{0,9}") {
            let _ = parse(&image(None), &said);
            let whole = serde_json::json!({"name": "volume-1", "id": id, "size": size}).to_string();
            let proved = parse(&image(None), &whole).is_ok();
            prop_assert_eq!(proved, !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
        }
    }
}
