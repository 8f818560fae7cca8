//! Objects in a bucket of what speaks Amazon's S3; the bucket is named in the path, which every such server understands.

use futures_util::future::BoxFuture;
use quick_xml::Reader;
use quick_xml::events::Event;
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::super::object::{ObjectName, Place};
use super::signature::{Request, Signer};
use super::{ObjectStore, StoreFault, http, read_secret};
use crate::config::S3Config;

/// A list of a thousand names is not longer, bytes.
const LONGEST_LIST: u64 = 4 << 20;

/// The store.
pub(super) struct S3Store {
    client: Client,
    endpoint: Url,
    host: String,
    bucket: String,
    signer: Signer,
}

impl S3Store {
    pub(super) fn new(config: &S3Config) -> Result<Self, StoreFault> {
        let wrong = |problem: &str| StoreFault::Answer { operation: "use backup.s3.endpoint", problem: problem.to_owned() };
        let endpoint: Url = config.endpoint.parse().map_err(|_| wrong("it is no URL"))?;
        let mut host = endpoint.host_str().ok_or_else(|| wrong("it names no host"))?.to_owned();
        if let Some(port) = endpoint.port() {
            host.push_str(&format!(":{port}"));
        }
        let (access_key_id, region) = (config.access_key_id.clone(), config.region.clone());
        let signer = Signer { access_key_id, secret_key: read_secret(&config.secret_key_file)?, region };
        Ok(Self { client: http::client()?, endpoint, host, bucket: config.bucket.clone(), signer })
    }

    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        object: &str,
        query: &str,
        payload: Vec<u8>,
    ) -> Result<Response, StoreFault> {
        let slash = if object.is_empty() { "" } else { "/" };
        // Only characters that are sent as they are: names of objects have no others, and a bucket's neither.
        let path = format!("/{}{slash}{object}", self.bucket);
        let mut url = self.endpoint.clone();
        url.set_path(&path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        // Servers take a signature for a quarter of an hour, which is longer than all tries take.
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let (host, path) = (self.host.as_str(), path.as_str());
        let signed = self.signer.sign(&Request { method: method.as_str(), host, path, query, payload: &payload, time: &time });
        let request = self.client.request(method, url).body(payload);
        let request = request.header("x-amz-date", time).header("x-amz-content-sha256", signed.payload_sha256);
        http::send(operation, object, request.header("authorization", signed.authorization)).await
    }
}

impl ObjectStore for S3Store {
    fn put<'a>(&'a self, name: &'a ObjectName, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("write", Method::PUT, name.as_str(), "", bytes).await?;
            if answer.status().is_success() { Ok(()) } else { Err(http::refused(answer, "write", name.as_str()).await) }
        })
    }

    fn get<'a>(&'a self, name: &'a ObjectName, most: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("read", Method::GET, name.as_str(), "", Vec::new()).await?;
            match answer.status() {
                StatusCode::OK => Ok(Some(http::body(answer, most, "read", name.as_str()).await?)),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(http::refused(answer, "read", name.as_str()).await),
            }
        })
    }

    fn remove<'a>(&'a self, name: &'a ObjectName) -> BoxFuture<'a, Result<(), StoreFault>> {
        Box::pin(async move {
            let answer = self.ask("remove", Method::DELETE, name.as_str(), "", Vec::new()).await?;
            if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
                return Ok(());
            }
            Err(http::refused(answer, "remove", name.as_str()).await)
        })
    }

    fn list<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a ObjectName>,
    ) -> BoxFuture<'a, Result<Vec<ObjectName>, StoreFault>> {
        Box::pin(async move {
            let prefix = place.prefix().replace('/', "%2F");
            let mut query = format!("list-type=2&prefix={prefix}");
            if let Some(after) = after {
                query.push_str(&format!("&start-after={}", after.as_str().replace('/', "%2F")));
            }
            let answer = self.ask("list", Method::GET, "", &query, Vec::new()).await?;
            if answer.status() != StatusCode::OK {
                return Err(http::refused(answer, "list", &place.prefix()).await);
            }
            let list = http::body(answer, LONGEST_LIST, "list", &place.prefix()).await?;
            Ok(keys(&list)?.iter().filter_map(|name| place.named(name)).collect())
        })
    }
}

/// The keys of a list.
fn keys(list: &[u8]) -> Result<Vec<String>, StoreFault> {
    let wrong = |problem: String| StoreFault::Answer { operation: "list objects", problem };
    let mut reader = Reader::from_reader(list);
    let (mut keys, mut key) = (Vec::new(), None::<String>);
    let mut buffer = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer).map_err(|error| wrong(error.to_string()))? {
            Event::Start(tag) if tag.local_name().as_ref() == "Key" => key = Some(String::new()),
            Event::Text(text) => {
                if let Some(key) = &mut key {
                    key.push_str(&text);
                }
            }
            Event::End(tag) if tag.local_name().as_ref() == "Key" => keys.extend(key.take()),
            Event::Eof => return Ok(keys),
            _ => {}
        }
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_list_are_found_and_what_is_no_list_is_told() {
        let list = b"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><Contents><Key>a/b</Key><Size>1</Size></Contents>\
                     <Contents><Key>a/c</Key></Contents></ListBucketResult>";
        assert_eq!(keys(list).unwrap(), ["a/b", "a/c"]);
        assert!(keys(b"<a><b></a>").is_err());
    }
}
