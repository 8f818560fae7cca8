//! Images that are made here: the record, its bytes, and whether they arrived. By the Image Service API v2 reference.
//!
//! ```text
//! absent --create--> queued --bytes--> saving --> active --compared with what was sent--> whole
//! ```
//! The id is chosen here, so an image is found, and taken away, whatever became of an answer.

use super::{ImageService, OpenstackError, Operation, http::Upload};
use crate::model::{DigestAlgorithm, ErrorKind, Image, ImageId, NewImage};
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Told of an upload: bytes that were sent, and bytes in all.
pub type Sent = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl ImageService {
    /// Makes an image's record; one with this id that is there already stays as it is.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub async fn create_image(&self, new: &NewImage) -> Result<(), OpenstackError> {
        let operation = Operation::CreateImage(new.id);
        let mut record: Map<String, Value> =
            new.properties.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        let Value::Object(fields) = json!({
            "id": new.id,
            "name": new.name,
            "disk_format": new.disk_format,
            "container_format": "bare",
            "min_disk": new.min_disk_gib,
            "visibility": "private",
        }) else {
            return Ok(());
        };
        record.extend(fields);
        let body = Value::Object(record).to_string().into_bytes();
        match self.change(&operation, Method::POST, "images", Some(body)).await {
            Err(error) if error.kind() == ErrorKind::Conflict && self.find_image(&new.id.to_string()).await.is_ok() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Sends an image's bytes from a file, piece by piece, and sees that the service has them: by its SHA-512 where it has one, else by
    /// its size. `None` sends none: an image that is all mapping. An image that has the bytes already is left as it is.
    ///
    /// # Errors
    /// The file, the service, or a difference between what was sent and what it has.
    pub async fn upload_image(&self, image: ImageId, file: Option<&Path>, sent: Sent) -> Result<(), OpenstackError> {
        let operation = Operation::UploadImage(image);
        let digest = Arc::new(Mutex::new(Sha512::new()));
        // This read renews a token that has run out, which could not be done once the bytes flow.
        if self.find_image(&image.to_string()).await?.status != "queued" {
            let problem = "it has other bytes already";
            return Err(OpenstackError::Upload { image, found: problem.to_owned(), sent: "nothing yet".to_owned() });
        }
        let digested = digest.clone();
        let seen = move |bytes: &[u8]| digested.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        let upload = Upload::open(file, Box::new(seen), sent).await?;
        let size_bytes = upload.size_bytes();
        self.send_bytes(&operation, image, upload).await?;
        let digest = std::mem::take(&mut *digest.lock().unwrap_or_else(PoisonError::into_inner)).finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        compare(&self.find_image(&image.to_string()).await?, size_bytes, &hex)
    }

    /// Deletes an image. One that is not there is fine.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub async fn delete_image(&self, image: ImageId) -> Result<(), OpenstackError> {
        match self.change(&Operation::DeleteImage(image), Method::DELETE, &format!("images/{image}"), None).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn compare(image: &Image, size_bytes: u64, sha512: &str) -> Result<(), OpenstackError> {
    let differs = |found: String, sent: String| Err(OpenstackError::Upload { image: image.id, found, sent });
    if image.status != "active" {
        return differs(format!("it is {}", image.status), "active once all".to_owned());
    }
    if image.size_bytes != size_bytes {
        return differs(format!("{} bytes", image.size_bytes), format!("{size_bytes} bytes"));
    }
    match &image.digest {
        Some(digest) if digest.algorithm == DigestAlgorithm::Sha512 && digest.hex != sha512 => {
            differs(format!("sha512 {}", digest.hex), format!("sha512 {sha512}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::tests::{ID, client, record};
    use super::super::test_server::{Reply, Server};
    use super::*;
    use std::collections::BTreeMap;

    /// A service that takes an image, and then says of it what `more` says.
    async fn uploads(more: Value) -> (Result<(), OpenstackError>, Vec<String>) {
        let server = Server::start(move |request, earlier| match request.line.split(' ').next() {
            Some("POST") => Reply::Json(201, &[], record(json!({"status": "queued"}))),
            Some("GET") if earlier == 0 => Reply::Json(200, &[], record(json!({"status": "queued"}))),
            Some("GET") => Reply::Json(200, &[], record(more.clone())),
            _ => Reply::Text(204, String::new()),
        })
        .await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "content").unwrap();
        let new = NewImage {
            id: ID.parse().unwrap(),
            name: "snap".into(),
            disk_format: "qcow2".into(),
            min_disk_gib: 1,
            properties: BTreeMap::from([("image_type".to_owned(), "snapshot".to_owned())]),
        };
        let images = client(&server);
        images.create_image(&new).await.unwrap();
        let told = Arc::new(Mutex::new(vec![]));
        let sent = told.clone();
        let uploaded = images
            .upload_image(new.id, Some(file.path()), Arc::new(move |one, all| sent.lock().unwrap().push((one, all))))
            .await;
        assert_eq!(told.lock().unwrap().last(), Some(&(7, 7)));
        let requests = server.requests();
        assert!(requests[0].body.contains("\"image_type\":\"snapshot\""), "{}", requests[0].body);
        let put = requests.iter().find(|request| request.line.starts_with("PUT")).unwrap();
        assert_eq!((put.header("content-length"), put.body.as_str()), (Some("7"), "content"));
        (uploaded, requests.iter().map(|request| request.line.clone()).collect())
    }

    #[tokio::test]
    async fn what_arrived_is_compared_with_what_was_sent() {
        let right: String = Sha512::digest("content").iter().map(|byte| format!("{byte:02x}")).collect();
        let (uploaded, _) = uploads(json!({"os_hash_value": right})).await;
        uploaded.unwrap();
        for (more, word) in [
            (json!({"os_hash_value": "c".repeat(128)}), "sha512"),
            (json!({"size": 6}), "6 bytes"),
            (json!({"status": "killed"}), "killed"),
        ] {
            let error = uploads(more).await.0.unwrap_err();
            assert!(error.kind() == ErrorKind::IdentityMismatch && error.to_string().contains(word), "{error}");
        }
    }
}
