//! A real Glance in place of the service's own images. Who asks for a volume or an image is judged by Glance itself, by its own token;
//! the bytes come and go afterwards, with a token of this service's user, who must be allowed all images (the role `admin`). Bytes
//! are believed only where they have the digest that Glance tells.
//!
//! ```text
//! from an image:  shown with the asker's token ──▶ (the volume's host) fetched, verified, looked into, converted, written
//! to an image:    made with the asker's token ───▶ (the volume's host) read, converted, sent, its digest compared; or removed
//! ```

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::source::{format_of, raw_disk};
use super::{ImageFiles, ImageWriter, OpenError, Progress, Whole, WriteError};
use crate::auth::{AuthError, ServiceUser};
use crate::domain::{Image, ImageFacts, ImageStatus, Visibility};
use crate::drivers::Chunk;
use crate::secret::Secret;
use crate::store::NewImage;

/// How long a connection may take to come, and how long Glance may be silent within an answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const SILENT_AT_MOST: Duration = Duration::from_secs(120);

/// So much of what Glance says of a refusal is told, in characters.
const SAID: usize = 200;

/// The most that is read of an image's record, bytes; Glance limits them to much less.
const LONGEST_RECORD: usize = 1 << 20;

/// Glance could not do something.
#[derive(Debug, thiserror::Error)]
pub enum GlanceError {
    /// It could not be reached, or did not answer.
    #[error("Glance: cannot {operation}")]
    Request {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no.
    #[error("Glance: cannot {operation}: it answers {status}{}", if .said.is_empty() { String::new() } else { format!(" ({said})") })]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        said: String,
    },
    /// This service's own user.
    #[error(transparent)]
    User(#[from] AuthError),
    /// What it has is of no use.
    #[error("image {id} in Glance cannot be used: {why}")]
    Unusable {
        /// Which image.
        id: Uuid,
        /// Why.
        why: String,
    },
}

/// A Glance.
pub struct Glance {
    client: Client,
    images: String,
    user: ServiceUser,
}

impl Glance {
    /// At this address, without `/v2`; `user` fetches and sends bytes.
    pub fn new(url: &str, user: ServiceUser) -> Result<Self, GlanceError> {
        let client = Client::builder().connect_timeout(CONNECT_WITHIN).read_timeout(SILENT_AT_MOST);
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let url = url.trim_end_matches('/').trim_end_matches("/v2");
        Ok(Self { client: client.map_err(failed("prepare to ask"))?, images: format!("{url}/v2/images"), user })
    }

    /// An image as the owner of this token sees it; none where it does not.
    pub async fn show(&self, token: &Secret, id: Uuid) -> Result<Option<Image>, GlanceError> {
        const SHOW: &str = "show an image";
        let request = self.client.get(format!("{}/{id}", self.images)).header("x-auth-token", theirs(token)?);
        record(id, request.send().await.map_err(failed(SHOW))?, SHOW).await
    }

    /// An image as this service's own user sees it.
    pub async fn find(&self, id: Uuid) -> Result<Option<Image>, GlanceError> {
        const FIND: &str = "look for an image";
        record(id, self.as_service(FIND, || self.client.get(format!("{}/{id}", self.images))).await?, FIND).await
    }

    /// Makes an image without bytes, as the owner of this token.
    pub async fn create(&self, token: &Secret, new: &NewImage) -> Result<(), GlanceError> {
        const CREATE: &str = "make an image";
        let mut body: Map<String, Value> = new.properties.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        for (key, value) in [
            ("id", json!(new.id)),
            ("name", json!(new.name)),
            ("visibility", json!(new.visibility.as_str())),
            ("protected", json!(new.protected)),
            ("disk_format", json!(new.disk_format)),
            ("container_format", json!(new.container_format)),
            ("min_disk", json!(new.min_disk_gib)),
            ("min_ram", json!(new.min_ram_mib)),
        ] {
            body.insert(key.into(), value);
        }
        let request = self.client.post(&self.images).header("x-auth-token", theirs(token)?).json(&body);
        let answer = request.send().await.map_err(failed(CREATE))?;
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(answer, CREATE).await) }
    }

    /// Fetches an image, compares it with its digest, and opens it as a raw disk: gives its size and its pieces. `work_id` names the
    /// files of this; they are gone with the stream.
    pub async fn open_as_raw(
        &self,
        files: &ImageFiles,
        image: &Image,
        work_id: Uuid,
        progress: &Progress,
    ) -> Result<(u64, BoxStream<'static, Result<Chunk, io::Error>>), OpenError> {
        let format = format_of(image)?;
        let whole = self.fetch(ImageWriter::start(files.clone(), work_id, format), image).await?;
        let file = whole.part.file.try_clone().map_err(super::files::failed("open", &whole.part.path))?;
        // The name of what was fetched goes at the end of this; its bytes live as long as they are open.
        raw_disk(files, (&whole.part.path, file), format, work_id, progress).await
    }

    async fn fetch(&self, writer: ImageWriter, image: &Image) -> Result<Whole, OpenError> {
        const FETCH: &str = "fetch an image's bytes";
        let unusable = |why: &str| GlanceError::Unusable { id: image.id, why: why.to_owned() };
        let url = format!("{}/{}/file", self.images, image.id);
        let mut answer = self.as_service(FETCH, || self.client.get(&url)).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer, FETCH).await.into());
        }
        while let Some(bytes) = answer.chunk().await.map_err(failed(FETCH))? {
            if !writer.write(bytes).await {
                break;
            }
        }
        let whole = writer.whole().await.map_err(|error| match error {
            WriteError::Unfit(unfit) => OpenError::Unfit(unfit),
            WriteError::Files(error) => OpenError::Files(error),
            WriteError::CutOff => unusable("its bytes were cut off").into(),
        })?;
        match is_of(image, &whole.facts) {
            Some(true) => Ok(whole),
            Some(false) => Err(unusable("its bytes do not have the digest that Glance tells").into()),
            None => Err(unusable("Glance tells no SHA-512 and no MD5 of it, so its bytes cannot be verified").into()),
        }
    }

    /// Sends an image's bytes, and looks whether Glance has the same.
    pub async fn upload(&self, id: Uuid, whole: Whole) -> Result<(), GlanceError> {
        const SEND: &str = "send an image's bytes";
        let url = format!("{}/{id}/file", self.images);
        let (path, length) = (&whole.part.path, whole.facts.size_bytes);
        let opened = || std::fs::File::open(path).map(tokio::fs::File::from_std);
        // Whether the token is good is asked before the bytes are on their way.
        self.find(id).await?;
        let file = opened().map_err(|source| GlanceError::Request { operation: SEND, source: Box::new(source) })?;
        let request = self.client.put(&url).header(CONTENT_TYPE, "application/octet-stream");
        let request = request.header(CONTENT_LENGTH, length).header("x-auth-token", self.user.token().await?);
        let answer = request.body(Body::from(file)).send().await.map_err(failed(SEND))?;
        if !answer.status().is_success() {
            return Err(refused(answer, SEND).await);
        }
        let image = self.find(id).await?.filter(|image| image.status == ImageStatus::Active);
        match image.and_then(|image| is_of(&image, &whole.facts)) {
            Some(true) => Ok(()),
            _ => Err(GlanceError::Unusable { id, why: "it does not have the digest of what was sent".into() }),
        }
    }

    /// Removes an image; nothing where there is none.
    pub async fn remove(&self, id: Uuid) -> Result<(), GlanceError> {
        const REMOVE: &str = "remove an image";
        let answer = self.as_service(REMOVE, || self.client.delete(format!("{}/{id}", self.images))).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::NOT_FOUND { Ok(()) } else { Err(refused(answer, REMOVE).await) }
    }

    /// Asks as this service's own user; once more with another token where the one it has is worth nothing any more.
    async fn as_service(&self, operation: &'static str, request: impl Fn() -> RequestBuilder) -> Result<Response, GlanceError> {
        let token = self.user.token().await?;
        let answer = request().header("x-auth-token", &token).send().await.map_err(failed(operation))?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.user.forget(&token).await;
        let token = self.user.token().await?;
        request().header("x-auth-token", &token).send().await.map_err(failed(operation))
    }
}

/// Whether an image consists of these bytes, where Glance tells a digest that is known here.
fn is_of(image: &Image, facts: &ImageFacts) -> Option<bool> {
    let same = |told: &str, found: &str| told.eq_ignore_ascii_case(found);
    let strong = image.hash_value.as_deref().map(|told| same(told, &facts.hash_value));
    let is_whole = image.size_bytes.is_none_or(|bytes| bytes == facts.size_bytes);
    strong.or_else(|| image.checksum.as_deref().map(|told| same(told, &facts.checksum))).map(|same| same && is_whole)
}

async fn record(id: Uuid, answer: Response, operation: &'static str) -> Result<Option<Image>, GlanceError> {
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(refused(answer, operation).await),
    }
    let said = beginning(answer, LONGEST_RECORD).await.map_err(failed(operation))?;
    let Ok(Value::Object(record)) = serde_json::from_slice(&said) else {
        return Err(GlanceError::Unusable { id, why: "what Glance tells of it cannot be understood".into() });
    };
    Ok(Some(image(id, record)))
}

/// What begins so is Glance's own, and no client's to set.
const RESERVED: &str = "os_glance_";

/// What Glance keeps under these is no property.
const NO_PROPERTIES: [&str; 25] = [
    "id",
    "name",
    "status",
    "visibility",
    "protected",
    "disk_format",
    "container_format",
    "size",
    "virtual_size",
    "min_disk",
    "min_ram",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "os_hidden",
    "owner",
    "tags",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "locations",
    "direct_url",
    "stores",
];

fn image(id: Uuid, record: Map<String, Value>) -> Image {
    let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| record.get(key).and_then(Value::as_u64);
    let word = |key: &str| text(key).unwrap_or_default();
    let disk_format = text("disk_format");
    let is_sha512 = word("os_hash_algo") == "sha512";
    let properties: BTreeMap<String, String> = record
        .iter()
        .filter(|(key, _)| !NO_PROPERTIES.contains(&key.as_str()) && !key.starts_with(RESERVED))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let size_bytes = number("size");
    Image {
        id,
        project_id: word("owner"),
        name: text("name"),
        // What has no bytes that could be read is nothing more here.
        status: ImageStatus::parse(&word("status")).unwrap_or(ImageStatus::Queued),
        visibility: Visibility::parse(&word("visibility")).unwrap_or(Visibility::Private),
        protected: record.get("protected").and_then(Value::as_bool).unwrap_or(false),
        virtual_bytes: number("virtual_size").or(size_bytes.filter(|_| disk_format.as_deref() == Some("raw"))),
        disk_format,
        container_format: text("container_format"),
        size_bytes,
        min_disk_gib: number("min_disk").unwrap_or(0),
        min_ram_mib: number("min_ram").unwrap_or(0),
        checksum: text("checksum"),
        hash_value: text("os_hash_value").filter(|_| is_sha512),
        properties,
        tags: Default::default(),
        created_at_us: 0,
        updated_at_us: None,
    }
}

/// What an answer says, to a length.
async fn beginning(mut answer: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut said = Vec::new();
    while let Some(bytes) = answer.chunk().await? {
        said.extend_from_slice(&bytes);
        if said.len() > most {
            break;
        }
    }
    Ok(said)
}

async fn refused(answer: Response, operation: &'static str) -> GlanceError {
    let status = answer.status().as_u16();
    let said = beginning(answer, 4096).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    // Its words are in HTML.
    let words = said.split('<').map(|part| part.rsplit('>').next().unwrap_or_default());
    let words = words.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    GlanceError::Refused { operation, status, said: words.chars().take(SAID).collect() }
}

fn theirs(token: &Secret) -> Result<HeaderValue, GlanceError> {
    let value = HeaderValue::try_from(token.reveal());
    let mut value = value.map_err(|source| GlanceError::Request { operation: "use a token", source: Box::new(source) })?;
    value.set_sensitive(true);
    Ok(value)
}

fn failed(operation: &'static str) -> impl FnOnce(reqwest::Error) -> GlanceError {
    // The address may hold a name and a password.
    move |source| GlanceError::Request { operation, source: Box::new(source.without_url()) }
}
