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
    /// How a volume that is said to be encrypted is to be decrypted by this host. `None`: the storage does it (`control_location`
    /// `back-end`). To be asked of no other volume: an answer without a key is an error.
    pub async fn encryption(&self, volume: VolumeId) -> Result<Option<VolumeEncryption>, OpenstackError> {
        let operation = Operation::ShowEncryption(volume);
        let answer = self.call(Call::get(operation.clone(), format!("volumes/{volume}/encryption"))).await?;
        read(answer.json(&operation)?).map_err(|problem| OpenstackError::Encryption { volume, problem })
    }
}

/// Only the part of the provider after the last dot counts: it was once the name of a Python class.
fn read(wire: WireEncryption) -> Result<Option<VolumeEncryption>, String> {
    if wire.control_location.as_deref() == Some("back-end") {
        return Ok(None);
    }
    // A guest that is shown ciphertext takes it for a blank disk: without a key there is no disk.
    let Some(key) = wire.encryption_key_id else {
        return Err("it is said to be encrypted, and no key is named: ask whoever runs the volume service for it".to_owned());
    };
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
        assert_eq!(parse(json!({"encryption_key_id": null, "control_location": "back-end"})), Ok(None));
        for keyless in [json!({"encryption_key_id": null}), json!({"control_location": "front-end", "provider": "luks"})] {
            assert!(parse(keyless).unwrap_err().contains("no key is named"), "its ciphertext would be attached");
        }
        assert_eq!(parse(json!({"encryption_key_id": KEY, "control_location": "back-end", "provider": "x"})), Ok(None));
        assert!(parse(json!({"encryption_key_id": KEY, "provider": "plain"})).unwrap_err().contains("\"plain\""));
        assert!(parse(json!({"encryption_key_id": "../x", "provider": "luks"})).unwrap_err().contains("UUID"));
    }
}
