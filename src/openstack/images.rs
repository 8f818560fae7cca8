//! Images: show, find by name, and their bytes as a stream that can begin anywhere. By the Image Service API v2 reference.

use super::{
    CloudConfig, HttpOptions, OpenstackError, Operation, endpoint,
    http::{Answer, Http, Stream, Upload},
    session::{Access, Session},
    volume_service::retry_reading,
};
use crate::model::{DigestAlgorithm, DiskBus, ErrorKind, Image, ImageDigest, ImageId};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE},
};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// A range that begins where the image's bytes end.
const RANGE_NOT_SATISFIABLE: u16 = 416;
/// The answer is the part that was asked for.
const PARTIAL_CONTENT: u16 = 206;

/// A client of one cloud's image service. Clones share its session and connections.
#[derive(Clone)]
pub struct ImageService {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    session: Session,
}

/// What comes of an image's bytes.
#[derive(Debug)]
pub enum Chunk {
    /// Those that follow begin here: where they were asked for, or at 0.
    From(u64),
    /// Some of them.
    Bytes(Vec<u8>),
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    images: Vec<Wire>,
}

/// An image on the wire. Its properties stand beside its fields.
#[derive(Deserialize)]
pub(super) struct Wire {
    id: ImageId,
    name: Option<String>,
    status: String,
    disk_format: Option<String>,
    container_format: Option<String>,
    size: Option<u64>,
    virtual_size: Option<u64>,
    #[serde(default)]
    min_disk: u64,
    #[serde(default)]
    min_ram: u64,
    checksum: Option<String>,
    os_hash_algo: Option<String>,
    os_hash_value: Option<String>,
    block_device_mapping: Option<Value>,
    bdm_v2: Option<Value>,
    mappings: Option<Value>,
    root_device_name: Option<String>,
    hw_disk_bus: Option<String>,
}

impl From<Wire> for Image {
    fn from(wire: Wire) -> Self {
        let digest = digest(&wire);
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let disk_format = wire.disk_format.unwrap_or_default();
        // The bytes of these are the disk's.
        let flat_bytes = wire.size.filter(|_| matches!(disk_format.as_str(), "raw" | "iso"));
        let root_device_name = wire.root_device_name.or_else(|| root_of_mappings(&text(wire.mappings?)));
        Self {
            id: wire.id,
            name: wire.name.unwrap_or_default(),
            status: wire.status,
            disk_format,
            container_format: wire.container_format.unwrap_or_default(),
            size_bytes: wire.size.unwrap_or_default(),
            min_disk_gib: wire.min_disk,
            min_ram_mib: wire.min_ram,
            virtual_bytes: wire.virtual_size.or(flat_bytes).filter(|bytes| *bytes > 0),
            digest,
            mapping: wire.block_device_mapping.map(text),
            is_mapping_v2: wire.bdm_v2.map(text).is_some_and(|word| word.eq_ignore_ascii_case("true")),
            root_device_name,
            disk_bus: wire.hw_disk_bus.and_then(|bus| bus.parse::<DiskBus>().ok()),
        }
    }
}

/// The device of the root disk in an image's `mappings`. Its swap and ephemeral disks have the sizes of a flavour, and here is none.
fn root_of_mappings(text: &str) -> Option<String> {
    let mappings: Vec<Value> = serde_json::from_str(text).ok()?;
    let root = mappings.iter().rfind(|mapping| mapping["virtual"] == "root")?;
    root["device"].as_str().map(str::to_owned)
}

/// The service's strong digest, else its older `checksum`, which is MD5. A digest of another length is none.
fn digest(wire: &Wire) -> Option<ImageDigest> {
    let strong = match wire.os_hash_algo.as_deref() {
        Some("sha512") => Some((DigestAlgorithm::Sha512, 128)),
        Some("sha256") => Some((DigestAlgorithm::Sha256, 64)),
        _ => None,
    };
    let (algorithm, digits, value) = match (strong, &wire.os_hash_value) {
        (Some((algorithm, digits)), Some(value)) => (algorithm, digits, value),
        _ => (DigestAlgorithm::Md5, 32, wire.checksum.as_ref()?),
    };
    let hex = value.to_ascii_lowercase();
    let is_hex = hex.len() == digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then_some(ImageDigest { algorithm, hex })
}

impl ImageService {
    /// A client with `config`'s credentials. No I/O: the first request authenticates.
    ///
    /// # Errors
    /// HTTPS cannot be set up.
    pub fn new(config: CloudConfig, http: HttpOptions) -> Result<Self, OpenstackError> {
        let http = Http::new(http, config.cacert.clone())?;
        let session = Session::image_service(http.clone(), config, None);
        Ok(Self { inner: Arc::new(Inner { http, session }) })
    }

    /// The image with this id, or else the only one with this name.
    ///
    /// # Errors
    /// There is none, or more than one with the name; the service refuses or cannot be reached.
    pub async fn find_image(&self, name_or_id: &str) -> Result<Image, OpenstackError> {
        let operation = Operation::FindImage(name_or_id.to_owned());
        if let Ok(id) = name_or_id.parse::<ImageId>() {
            match self.get(&operation, &format!("images/{id}"), &[]).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                answer => return Ok(answer?.json::<Wire>(&operation)?.into()),
            }
        }
        let mut found = self.get(&operation, "images", &[("name", name_or_id)]).await?.json::<Page>(&operation)?.images;
        // Asked again here: a service may not know the filter, or match parts.
        found.retain(|image| image.name.as_deref() == Some(name_or_id));
        match (found.pop(), found.len()) {
            (Some(only), 0) => Ok(only.into()),
            (last, others) => Err(OpenstackError::NotOne {
                what: "images",
                name: name_or_id.to_owned(),
                count: others + usize::from(last.is_some()),
            }),
        }
    }

    /// Hands an image's bytes from an offset on to `take`, as they come, until it says that it wants no more. There is no deadline for
    /// the whole; between two pieces there is the one of any request.
    ///
    /// # Errors
    /// The service refuses, cannot be reached, or falls silent. What was taken until then is right.
    pub async fn fetch<F>(
        &self,
        image: ImageId,
        from: u64,
        mut take: impl FnMut(Chunk) -> F + Send,
    ) -> Result<(), OpenstackError>
    where
        F: Future<Output = bool> + Send,
    {
        let operation = Operation::FetchImage(image);
        let mut stream = retry_reading(|| self.stream(&operation, image, from)).await?;
        if stream.status == RANGE_NOT_SATISFIABLE {
            // There is nothing after that.
            return Ok(());
        }
        let begins = if stream.status == PARTIAL_CONTENT { from } else { 0 };
        if !take(Chunk::From(begins)).await {
            return Ok(());
        }
        while let Some(bytes) = stream.next(&operation).await? {
            if !take(Chunk::Bytes(bytes)).await {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn get(&self, operation: &Operation, path: &str, query: &[(&str, &str)]) -> Result<Answer, OpenstackError> {
        retry_reading(|| self.once(operation, Method::GET, path, query, None)).await?.accepted(operation)
    }

    /// One request that changes something; made once.
    pub(super) async fn change(
        &self,
        operation: &Operation,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, OpenstackError> {
        self.once(operation, method, path, &[], body).await?.accepted(operation)
    }

    /// One try; a refused token is replaced once.
    async fn once(
        &self,
        operation: &Operation,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, OpenstackError> {
        let send = async |access: &Access, body: Option<Vec<u8>>| {
            let (base, mut headers) = self.addressed(access)?;
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            let url = endpoint::resource(base, path, query);
            self.inner.http.exchange(operation, method.clone(), url, headers, body).await
        };
        let access = self.inner.session.access(None).await?;
        let answer = send(&access, body.clone()).await?;
        if answer.status != 401 || !self.inner.session.is_renewable() {
            return Ok(answer);
        }
        let access = self.inner.session.access(Some(&access)).await?;
        send(&access, body).await
    }

    /// Sends an image's bytes, once.
    pub(super) async fn send_bytes(&self, operation: &Operation, image: ImageId, upload: Upload) -> Result<(), OpenstackError> {
        let access = self.inner.session.access(None).await?;
        let (base, mut headers) = self.addressed(&access)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let url = endpoint::resource(base, &format!("images/{image}/file"), &[]);
        self.inner.http.upload(operation, url, headers, upload).await?.accepted(operation).map(|_| ())
    }

    /// One try; a refused token is replaced once.
    async fn stream(&self, operation: &Operation, image: ImageId, from: u64) -> Result<Stream, OpenstackError> {
        let mut access = self.inner.session.access(None).await?;
        let mut renewed = false;
        loop {
            let (base, mut headers) = self.addressed(&access)?;
            if from > 0 {
                headers.insert(
                    RANGE,
                    HeaderValue::from_str(&format!("bytes={from}-")).unwrap_or(HeaderValue::from_static("bytes=0-")),
                );
            }
            let url = endpoint::resource(base, &format!("images/{image}/file"), &[]);
            let stream = self.inner.http.stream(operation, url, headers).await?;
            match stream.status {
                200 | PARTIAL_CONTENT | RANGE_NOT_SATISFIABLE => return Ok(stream),
                401 if !renewed && self.inner.session.is_renewable() => {
                    access = self.inner.session.access(Some(&access)).await?;
                    renewed = true;
                }
                _ => return Err(stream.answer(operation).await?.refused(operation)),
            }
        }
    }

    fn addressed<'a>(&self, access: &'a Access) -> Result<(&'a reqwest::Url, HeaderMap), OpenstackError> {
        let Some(base) = &access.endpoint else {
            return Err(OpenstackError::NoImageService { cloud: String::new(), problem: "this session has no address".into() });
        };
        let mut headers = HeaderMap::with_capacity(3);
        if let Some(token) = &access.token {
            headers.insert(TOKEN, token.clone());
        }
        Ok((base, headers))
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
pub(super) mod tests;
