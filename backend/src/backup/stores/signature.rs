//! Requests to S3 are signed by "AWS Signature Version 4", as <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
//! describes it: header-based, the whole payload hashed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::secret::Secret;

/// Who signs, for where.
pub(super) struct Signer {
    pub(super) access_key_id: String,
    pub(super) secret_key: Secret,
    pub(super) region: String,
}

/// What is signed.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// `host[:port]`, as it is sent.
    pub(super) host: &'a str,
    /// Encoded, as it is sent.
    pub(super) path: &'a str,
    /// Encoded and in the order of its keys, as it is sent.
    pub(super) query: &'a str,
    pub(super) payload: &'a [u8],
    /// `YYYYMMDDThhmmssZ`
    pub(super) time: &'a str,
}

/// The headers to send beside `host` and `x-amz-date`.
pub(super) struct Signed {
    pub(super) payload_sha256: String,
    pub(super) authorization: String,
}

const HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

impl Signer {
    pub(super) fn sign(&self, request: &Request<'_>) -> Signed {
        let payload_sha256 = hex(&Sha256::digest(request.payload));
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\nx-amz-content-sha256:{payload_sha256}\nx-amz-date:{}\n\n{HEADERS}\n{payload_sha256}",
            request.method, request.path, request.query, request.host, request.time
        );
        let day: String = request.time.chars().take(8).collect();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", request.time, hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", self.secret_key.reveal()).into_bytes();
        for part in [day.as_str(), self.region.as_str(), "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature = hex(&hmac(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={HEADERS}, Signature={signature}",
            self.access_key_id
        );
        Signed { payload_sha256, authorization }
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "GET Bucket (List Objects)" of the examples in Amazon's documentation.
    #[test]
    fn a_request_is_signed_as_amazon_does_it() {
        let signer = Signer {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            region: "us-east-1".into(),
        };
        let signed = signer.sign(&Request {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: "max-keys=2&prefix=J",
            payload: b"",
            time: "20130524T000000Z",
        });
        let (_, signature) = signed.authorization.split_once("Signature=").unwrap();
        assert_eq!(signature, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }
}
