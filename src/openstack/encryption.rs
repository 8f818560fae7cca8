//! How a volume is encrypted (`GET /volumes/{id}/encryption`): which layout, and which key of the key manager opens it.

use super::{OpenstackError, Operation, VolumeService, volume_service::Call};
use crate::model::{LuksVersion, VolumeEncryption, VolumeId};
use serde::Deserialize;
use uuid::Uuid;

/// The answer, as far as it is read. `cipher` and `key_size` are not: the header on the device has them, and is the truth.
#[derive(Deserialize)]
struct WireEncryption {
    provider: Option<String>,
    control_location: Option<String>,
    encryption_key_id: Option<String>,
}

impl VolumeService {
    /// How the volume is encrypted, if this host has to decrypt it. `None`: it is not, or the storage does it (`control_location`
    /// `back-end`).
    pub async fn encryption(&self, volume: VolumeId) -> Result<Option<VolumeEncryption>, OpenstackError> {
        let operation = Operation::ShowEncryption(volume);
        let answer = self.call(Call::get(operation.clone(), format!("volumes/{volume}/encryption"))).await?;
        read(answer.json(&operation)?).map_err(|problem| OpenstackError::Encryption { volume, problem })
    }
}

/// Only the part of the provider after the last dot counts: it was once the name of a Python class.
fn read(wire: WireEncryption) -> Result<Option<VolumeEncryption>, String> {
    let Some(key) = wire.encryption_key_id else { return Ok(None) };
    if wire.control_location.as_deref() == Some("back-end") {
        return Ok(None);
    }
    let provider = wire.provider.unwrap_or_default();
    let version = match provider.rsplit('.').next().unwrap_or_default() {
        "luks" | "LuksEncryptor" => LuksVersion::Luks1,
        "luks2" | "Luks2Encryptor" => LuksVersion::Luks2,
        other => {
            let other = super::fault::printable(other, 64);
            return Err(format!("its encryption provider is {other:?}: only luks and luks2 can be decrypted for a guest"));
        }
    };
    // It becomes a part of an address.
    let key = Uuid::try_parse(&key).map_err(|_| "the id of its key is not a UUID".to_owned())?;
    Ok(Some(VolumeEncryption { version, key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";

    fn parse(value: serde_json::Value) -> Result<Option<VolumeEncryption>, String> {
        read(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn providers_of_every_age_are_read() {
        for (provider, version) in [
            ("luks", LuksVersion::Luks1),
            ("luks2", LuksVersion::Luks2),
            ("nova.volume.encryptors.luks.LuksEncryptor", LuksVersion::Luks1),
        ] {
            let found = parse(json!({"provider": provider, "control_location": "front-end", "encryption_key_id": KEY,
                "cipher": "aes-xts-plain64", "key_size": 256}));
            assert_eq!(found, Ok(Some(VolumeEncryption { version, key: KEY.parse().unwrap() })), "{provider}");
        }
    }

    #[test]
    fn what_needs_no_decrypting_here_is_told_from_what_cannot_be() {
        assert_eq!(parse(json!({"encryption_key_id": null})), Ok(None));
        assert_eq!(parse(json!({"encryption_key_id": KEY, "control_location": "back-end", "provider": "x"})), Ok(None));
        assert!(parse(json!({"encryption_key_id": KEY, "provider": "plain"})).unwrap_err().contains("\"plain\""));
        assert!(parse(json!({"encryption_key_id": "../x", "provider": "luks"})).unwrap_err().contains("UUID"));
    }
}
