//! Secrets that QEMU needs to log in. They are ephemeral (in the daemon's memory only, gone when it restarts) and
//! private (nobody can read the value back).
//!
//! Defining one and setting its value are two calls, and whoever is cut off in between leaves a secret that looks like any other: libvirt
//! does not even tell whether a private one has a value. So its description says so, which is written last.

use super::{
    Outcome,
    disk_xml::build,
    error::{LibvirtError, failed},
    ffi,
};
use crate::model::Secret;
use base64::{Engine, prelude::BASE64_STANDARD};
use quick_xml::events::BytesText;
use uuid::Uuid;
use virt::{
    connect::Connect,
    error::{Error, ErrorNumber},
};
use zeroize::Zeroizing;

/// What usages of Bowline's secrets begin with, so that forgotten ones can be told from others'.
pub const SECRET_USAGE_PREFIX: &str = "bowline";

/// Description of a secret whose value was set.
const HAS_VALUE: &str = "its value is set";

/// What a secret is for. The text is free, but no two secrets of a host may share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUsage {
    /// CHAP password of an iSCSI target.
    Iscsi(String),
    /// cephx key of a Ceph user. Its text is base64; libvirt is given the bytes.
    Ceph(String),
    /// Passphrase of an encrypted volume.
    Volume(String),
}

/// A secret of Bowline's that libvirt holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its usage text.
    pub usage: String,
    /// Its value was set.
    pub has_value: bool,
}

pub(super) fn define(connect: &Connect, uuid: Uuid, usage: &SecretUsage, value: &Secret) -> Result<(), LibvirtError> {
    let decoded;
    let value = match usage {
        SecretUsage::Iscsi(_) | SecretUsage::Volume(_) => value.expose().as_bytes(),
        SecretUsage::Ceph(_) => {
            let bytes = BASE64_STANDARD.decode(value.expose()).map_err(|_| LibvirtError::NotBase64 { uuid })?;
            decoded = Zeroizing::new(bytes);
            &decoded
        }
    };
    let define = |has_value| {
        let xml = describe(uuid, usage, has_value)?;
        connect.define_secret_xml(&xml, 0).map_err(failed(format!("define secret {uuid}")))
    };
    define(false)?.set_value(value, 0).map_err(failed(format!("set the value of secret {uuid}")))?;
    // A secret that is defined again keeps its value.
    define(true).map(drop)
}

fn describe(uuid: Uuid, usage: &SecretUsage, has_value: bool) -> Result<String, LibvirtError> {
    let (kind, element, name) = match usage {
        SecretUsage::Iscsi(name) => ("iscsi", "target", name),
        SecretUsage::Ceph(name) => ("ceph", "name", name),
        SecretUsage::Volume(name) => ("volume", "volume", name),
    };
    build(|xml| {
        xml.create_element("secret").with_attributes([("ephemeral", "yes"), ("private", "yes")]).write_inner_content(
            |xml| {
                xml.create_element("uuid").write_text_content(BytesText::new(&uuid.hyphenated().to_string()))?;
                if has_value {
                    xml.create_element("description").write_text_content(BytesText::new(HAS_VALUE))?;
                }
                xml.create_element("usage").with_attribute(("type", kind)).write_inner_content(|xml| {
                    xml.create_element(element).write_text_content(BytesText::new(name))?;
                    Ok(())
                })?;
                Ok(())
            },
        )?;
        Ok(())
    })
}

pub(super) fn undefine(connect: &Connect, uuid: Uuid) -> Result<Outcome, LibvirtError> {
    match connect.lookup_secret_by_uuid(uuid).and_then(|secret| secret.undefine()) {
        Ok(()) => Ok(Outcome::Changed),
        Err(error) if is_gone(&error) => Ok(Outcome::Unchanged),
        Err(error) => Err(failed(format!("undefine secret {uuid}"))(error)),
    }
}

fn is_gone(error: &Error) -> bool {
    error.code().is(ErrorNumber::NoSecret)
}

pub(super) fn list(connect: &Connect) -> Result<Vec<SecretRecord>, LibvirtError> {
    let mut records = Vec::new();
    for secret in connect.list_all_secrets(0).map_err(failed("list secrets"))? {
        // Name and UUID are in the handle: neither asks the daemon.
        let uuid = secret.uuid().map_err(failed("read a secret's UUID"))?;
        let usage = ffi::secret_usage(&secret).map_err(failed("read a secret's usage"))?;
        if !usage.starts_with(SECRET_USAGE_PREFIX) {
            continue;
        }
        match secret.xml_desc(0) {
            Ok(xml) => records.push(SecretRecord { uuid, usage, has_value: xml.contains(HAS_VALUE) }),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(failed(format!("read secret {uuid}"))(error)),
        }
    }
    Ok(records)
}
