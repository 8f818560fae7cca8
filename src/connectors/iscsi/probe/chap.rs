//! CHAP with MD5 (RFC 1994, and RFC 7143, 12.1.3): the response proves the secret without sending it.

use super::ProbeError;
use crate::connectors::iscsi::identity::hex;
use crate::model::ChapCredentials;
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

/// CHAP's number for MD5.
pub(super) const MD5_ALGORITHM: &str = "5";

/// Length of a response, bytes.
const MD5_BYTES: usize = 16;

/// The longest challenge the standard allows, bytes.
const MAX_CHALLENGE_BYTES: usize = 1024;

/// Our own challenge to a target that must prove itself.
pub(super) struct Challenge {
    identifier: String,
    value: String,
}

impl Challenge {
    /// A new one, never used before.
    pub(super) fn new() -> Self {
        // 122 bits of each UUID are of the system's random source.
        let [random, more] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        Self { identifier: random.as_bytes()[0].to_string(), value: format!("0x{}{}", random.simple(), more.simple()) }
    }

    /// The two keys that put it.
    pub(super) fn keys(&self) -> [(String, String); 2] {
        [("CHAP_I".to_owned(), self.identifier.clone()), ("CHAP_C".to_owned(), self.value.clone())]
    }

    /// Whether these answers come from one who knows the account.
    pub(super) fn is_met(&self, account: &ChapCredentials, name: &str, answer: &str) -> bool {
        let expected = response(&self.identifier, &self.value, account.password.expose());
        let bytes = |text: &str| binary(text).filter(|bytes| bytes.len() == MD5_BYTES);
        name == account.username && expected.is_ok_and(|expected| bytes(&expected) == bytes(answer) && bytes(answer).is_some())
    }
}

/// The response to a challenge, as the value of `CHAP_R`.
pub(super) fn response(identifier: &str, challenge: &str, secret: &str) -> Result<String, ProbeError> {
    let identifier: u8 = identifier.parse().map_err(|_| ProbeError::Malformed { what: "CHAP_I is no number below 256" })?;
    let challenge = binary(challenge).ok_or(ProbeError::Malformed { what: "CHAP_C is no hexadecimal or base64 value" })?;
    if challenge.is_empty() || challenge.len() > MAX_CHALLENGE_BYTES {
        return Err(ProbeError::Malformed { what: "CHAP_C has an impossible length" });
    }
    let digest = Md5::new().chain_update([identifier]).chain_update(secret).chain_update(challenge).finalize();
    Ok(format!("0x{}", hex(&digest)))
}

/// A binary value as iSCSI writes it: `0x…` or `0b…` (base64).
fn binary(text: &str) -> Option<Vec<u8>> {
    let (kind, digits) = text.split_at_checked(2)?;
    match kind {
        "0x" | "0X" => {
            let nibbles: Option<Vec<u8>> =
                digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
            let mut nibbles = nibbles?;
            if nibbles.len() % 2 == 1 {
                nibbles.insert(0, 0);
            }
            Some(nibbles.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| (byte << 4) | nibble)).collect())
        }
        "0b" | "0B" => STANDARD.decode(digits).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn hexadecimal_and_base64_challenges_are_the_same_bytes() {
        assert_eq!(binary("0xdeadbeef"), Some(vec![0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(binary("0b3q2+7w=="), binary("0xDEADBEEF"));
        assert_eq!(binary("0xfff"), Some(vec![0x0f, 0xff]));
        for bad in ["", "0", "0x1g", "0b***", "dead", "é"] {
            assert_eq!(binary(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_response_is_the_md5_of_identifier_secret_and_challenge() {
        // printf 'Aabc\1\2' | md5sum
        assert_eq!(response("65", "0x0102", "abc").unwrap(), "0xb17d4fa2b708ef868c29a99f144bcb32");
    }

    #[test]
    fn a_target_is_believed_only_with_name_and_response_of_its_account() {
        let account = ChapCredentials { username: "array".into(), password: Secret::new("array-secret") };
        let challenge = Challenge::new();
        let right = response(&challenge.identifier, &challenge.value, "array-secret").unwrap();
        assert!(challenge.is_met(&account, "array", &right));
        assert!(!challenge.is_met(&account, "other", &right));
        assert!(!Challenge::new().is_met(&account, "array", &right), "an old answer to a new challenge");
        for wrong in ["", "0x", "0x00", &response(&challenge.identifier, &challenge.value, "guess").unwrap()] {
            assert!(!challenge.is_met(&account, "array", wrong), "{wrong}");
        }
    }

    #[test]
    fn impossible_challenges_are_refused() {
        for (identifier, challenge) in [("256", "0x01"), ("x", "0x01"), ("1", "0x"), ("1", &format!("0x{}", "00".repeat(1025)))]
        {
            assert!(response(identifier, challenge, "abc").is_err(), "{identifier} {challenge}");
        }
    }
}
