//! What can be seen on this machine alone.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::{Config, TargetKind};
use crate::store::now_us;

/// Below this the database itself may not find room, bytes.
const LEAST_FREE_BYTES: u64 = 1 << 30;

/// A clock before this (2026-01-01) was never set, microseconds since the epoch.
const EARLIEST_US: i64 = 1_767_225_600_000_000;

/// All of it.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let needs_tgt = config.needs_target() && config.targets.kind == TargetKind::Tgt;
    if !needs_tgt {
        // Nothing of it is started.
    } else if config.targets.tgt.manage {
        found.push(program(&config.targets.tgt.program, "volumes cannot be shown to hosts", "apt-get install tgt"));
    } else {
        found.push(control_socket(&config.targets.tgt.control_socket));
    }
    found.push(program(Path::new("qemu-img"), "volumes cannot be made from images", "apt-get install qemu-utils"));
    let running = is_running(&config.state_dir);
    found.push(directory(&config.state_dir));
    found.extend(room(&config.state_dir));
    for directory in config.backends.values().filter_map(|backend| backend.directory.as_ref()) {
        found.extend(room(directory));
    }
    found.push(clock());
    found.push(port("listen", config.listen, running));
    if needs_tgt {
        found.push(port("targets.tgt.portal", config.targets.tgt.portal, running));
    }
    found
}

fn program(name: &Path, without: &str, mend: &str) -> Finding {
    let check = name.display().to_string();
    let candidates: Vec<PathBuf> = if name.components().count() > 1 {
        vec![name.to_owned()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    let runs = |path: &&PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    match candidates.iter().find(runs) {
        Some(path) => Finding::ok(check, path.display().to_string()),
        None => Finding::failed(check, format!("not found; {without}"), mend),
    }
}

fn control_socket(path: &Path) -> Finding {
    const CHECK: &str = "targets.tgt.control_socket";
    match fs::metadata(path) {
        Ok(_) => Finding::ok(CHECK, path.display().to_string()),
        Err(error) => Finding::failed(CHECK, format!("{}: {error}", path.display()), "systemctl start tgt"),
    }
}

/// Whether a service has the directory's lock.
fn is_running(state_dir: &Path) -> bool {
    File::open(state_dir.join("lock")).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

fn directory(path: &Path) -> Finding {
    const CHECK: &str = "state_dir";
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::warning(CHECK, format!("{shown} is not there yet"), "bowline-backend init makes it");
        }
        Err(error) => return Finding::failed(CHECK, format!("{shown}: {error}"), format!("ls -ld {shown}")),
    };
    let own = nix::unistd::geteuid().as_raw();
    if !found.is_dir() {
        return Finding::failed(CHECK, format!("{shown} is no directory"), "name another one in state_dir");
    }
    if found.uid() != own {
        return Finding::failed(
            CHECK,
            format!("{shown} belongs to user {}, not {own}", found.uid()),
            format!("chown -R {own} {shown}"),
        );
    }
    if found.mode() & 0o077 != 0 {
        return Finding::failed(CHECK, format!("{shown} is open to others, and holds secrets"), format!("chmod 700 {shown}"));
    }
    Finding::ok(CHECK, shown.to_string())
}

/// Room where volumes go; nothing is said of a directory that is not there.
fn room(path: &Path) -> Option<Finding> {
    let there = path.ancestors().find(|path| path.exists())?;
    let check = format!("room in {}", path.display());
    let found = match rustix::fs::statvfs(there) {
        Ok(found) => found,
        Err(error) => return Some(Finding::failed(check, error.to_string(), format!("df {}", there.display()))),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let percent = found.f_bavail.saturating_mul(100).checked_div(found.f_blocks).unwrap_or(0);
    let says = format!("{} GiB free, {percent} % of it", free >> 30);
    let mend = "delete volumes or snapshots, or make the file system larger";
    Some(match (free < LEAST_FREE_BYTES, percent < 10) {
        (true, _) => Finding::failed(check, says, mend),
        (false, true) => Finding::warning(check, says, mend),
        (false, false) => Finding::ok(check, says),
    })
}

fn clock() -> Finding {
    const CHECK: &str = "clock";
    let now_us = now_us();
    let shown = jiff::Timestamp::from_microsecond(now_us).map(|now| now.to_string()).unwrap_or_default();
    if now_us < EARLIEST_US {
        return Finding::failed(
            CHECK,
            format!("it says {shown}: tokens and leases end at wrong times"),
            "timedatectl set-ntp true",
        );
    }
    Finding::ok(CHECK, shown)
}

fn port(check: &str, address: SocketAddr, running: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && running => {
            Finding::ok(check, format!("{address} is in use, and a bowline-backend is running"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let mend =
                format!("ss -ltnp 'sport = :{}' says who has it; stop that, or choose another in {check}", address.port());
            Finding::failed(check, format!("{address} is in use by somebody else"), mend)
        }
        Err(error) => Finding::failed(check, format!("{address}: {error}"), format!("ip address; name one of them in {check}")),
    }
}
