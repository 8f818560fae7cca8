//! Which initiator this host can use, and under what name it logs in.

use super::{InitiatorChoice, iface::Iface};
use crate::{connectors::ConnectorError, model::Initiator};
use std::{env, fs, io, path::Path};
use uuid::Uuid;

/// Settles the choice once, at start.
pub(super) fn choose(choice: InitiatorChoice, sysfs: &Path) -> Result<Initiator, ConnectorError> {
    settle(choice, missing(sysfs))
}

fn settle(choice: InitiatorChoice, missing: Option<&'static str>) -> Result<Initiator, ConnectorError> {
    match (choice, missing) {
        (InitiatorChoice::Qemu, _) => Ok(Initiator::Qemu),
        (InitiatorChoice::Kernel | InitiatorChoice::Auto, None) => Ok(Initiator::Kernel),
        (InitiatorChoice::Kernel, Some(missing)) => Err(ConnectorError::NoKernelInitiator { missing }),
        (InitiatorChoice::Auto, Some(missing)) => {
            tracing::info!(missing, "QEMU will log in to iSCSI targets itself: the kernel's initiator cannot be used");
            Ok(Initiator::Qemu)
        }
    }
}

/// What the kernel's initiator lacks here, if anything.
pub(super) fn missing(sysfs: &Path) -> Option<&'static str> {
    let in_path = |program: &str| {
        env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
    };
    if !in_path("iscsiadm") {
        Some("iscsiadm (open-iscsi) is not installed")
    } else if !module_usable(sysfs, "iscsi_tcp") {
        Some("the kernel has no module iscsi_tcp")
    } else {
        None
    }
}

/// Loaded or built in, or to be loaded by iscsid when it starts.
fn module_usable(sysfs: &Path, module: &str) -> bool {
    if sysfs.join("class/iscsi_transport/tcp").exists() || sysfs.join("module").join(module).exists() {
        return true;
    }
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let folder = Path::new("/lib/modules").join(release.trim());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        fs::read_to_string(folder.join(list)).is_ok_and(|text| {
            text.lines().any(|line| {
                let file = line.split(':').next().unwrap_or(line).rsplit('/').next().unwrap_or(line);
                file.split(".ko").next() == Some(module)
            })
        })
    })
}

/// This host's initiator name: its interface's own, else what open-iscsi was given, else one derived from the machine id in the form QEMU uses for its
/// own initiator, so that a host without open-iscsi has a lasting name too.
pub(super) fn initiator_name(file: &Path, iface: &Iface) -> Result<String, ConnectorError> {
    if let Some(name) = iface.initiator_name() {
        return Ok(name.to_owned());
    }
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(ConnectorError::system(format!("read {}", file.display()))(error)),
    };
    if let Some(name) = parse_initiator_name(&text) {
        return Ok(name);
    }
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match machine.trim() {
        "" | "uninitialized" => Err(ConnectorError::NoInitiatorName { file: file.to_owned() }),
        // The id itself is confidential (machine-id(5)): only a hash of it leaves the host.
        id => {
            Ok(format!("iqn.2008-11.org.linux-kvm:{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("bowline:{id}").as_bytes())))
        }
    }
}

/// `InitiatorName=…` of `initiatorname.iscsi`; the last one counts, as for iscsid.
fn parse_initiator_name(text: &str) -> Option<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName="));
    names.map(str::trim).rfind(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initiator_name_is_read_as_iscsid_reads_it() {
        let text = "## comment\n#InitiatorName=iqn.no\nInitiatorName=iqn.1993-08.org.debian:01:abc \n";
        assert_eq!(parse_initiator_name(text).as_deref(), Some("iqn.1993-08.org.debian:01:abc"));
        assert_eq!(parse_initiator_name("GenerateName=yes\n"), None);
    }

    #[test]
    fn a_loaded_transport_is_enough_for_the_kernel() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(!module_usable(sysfs.path(), "no_such_module"));
        fs::create_dir_all(sysfs.path().join("class/iscsi_transport/tcp")).unwrap();
        assert!(module_usable(sysfs.path(), "no_such_module"));
    }

    #[test]
    fn auto_falls_back_to_qemu_and_kernel_says_what_is_missing() {
        let missing = Some("the kernel has no module iscsi_tcp");
        assert_eq!(settle(InitiatorChoice::Auto, None).unwrap(), Initiator::Kernel);
        assert_eq!(settle(InitiatorChoice::Auto, missing).unwrap(), Initiator::Qemu);
        assert_eq!(settle(InitiatorChoice::Qemu, None).unwrap(), Initiator::Qemu);
        let error = settle(InitiatorChoice::Kernel, missing).unwrap_err().to_string();
        assert!(error.contains("no module iscsi_tcp") && error.contains("initiator = \"qemu\""), "{error}");
    }
}
