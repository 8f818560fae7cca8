//! Who else holds an image: what is left of a host that died, and what a host that lives has open.
//!
//! | found | what it is | what is done |
//! | --- | --- | --- |
//! | a watcher of this host | another guest's QEMU, or a mapping | nothing |
//! | a watcher of another host | it is open there, or was until some seconds ago (30 by default) | refused, or told of |
//! | a lock that a client took for itself (`auto ...`), and no watch of it | its host died with it | told of: Ceph lets the next writer take it |
//! | any other lock | somebody took it by hand, perhaps to fence the image | refused: nobody but its owner may break it |
//!
//! A host whose own address is on the cluster's blocklist learns it from the cluster's answer ([`RbdError::Blocklisted`]).

use super::{RbdError, tool::Access};
use crate::model::RbdImage;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use serde::Deserialize;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How librbd and the kernel name the locks that they take and give back by themselves.
const AUTOMATIC: &str = "auto ";

/// The part of `rbd status --format json` that is used.
#[derive(Debug, Deserialize)]
struct Status {
    watchers: Vec<Watcher>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Watcher {
    address: String,
    client: u64,
}

/// One of `rbd lock ls --format json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Lock {
    id: String,
    locker: String,
    address: String,
}

/// What was found out about an image before it is opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holders {
    watchers: Vec<Watcher>,
    locks: Vec<Lock>,
}

/// Asks the cluster, for at most `limit`.
pub(super) async fn ask(access: &Access<'_>, limit: Duration) -> Result<Holders, RbdError> {
    let (status, locks) = tokio::try_join!(
        access.run("look at", &["--format", "json", "status"], limit),
        access.run("look at", &["--format", "json", "lock", "ls"], limit),
    )?;
    parse(access.image, &status, &locks)
}

fn parse(image: &RbdImage, status: &str, locks: &str) -> Result<Holders, RbdError> {
    let bad = |error: serde_json::Error| RbdError::Answer { image: image.to_string(), problem: error.to_string() };
    let Status { watchers } = serde_json::from_str(status).map_err(bad)?;
    Ok(Holders { watchers, locks: serde_json::from_str(locks).map_err(bad)? })
}

impl Holders {
    /// Refuses an image with a lock that Ceph would not hand on, and one that is open on another host.
    pub(super) fn check(&self, image: &RbdImage) -> Result<(), RbdError> {
        if let Some(lock) = self.locks.iter().find(|lock| !lock.id.starts_with(AUTOMATIC)) {
            return Err(RbdError::Locked {
                image: image.to_string(),
                lock: lock.id.clone(),
                locker: lock.locker.clone(),
                address: lock.address.clone(),
            });
        }
        let elsewhere: Vec<String> = self
            .watchers
            .iter()
            .filter(|watcher| !is_here(&watcher.address))
            .map(|watcher| format!("client.{} at {}", watcher.client, watcher.address))
            .collect();
        if elsewhere.is_empty() {
            return Ok(());
        }
        Err(RbdError::OpenElsewhere { image: image.to_string(), clients: elsewhere.join(", ") })
    }

    /// The owner of a lock that outlived its owner's watch.
    pub(super) fn left_lock(&self) -> Option<String> {
        let is_dead = |lock: &&Lock| !self.watchers.iter().any(|watcher| lock.locker == format!("client.{}", watcher.client));
        self.locks.iter().find(is_dead).map(|lock| format!("{} at {}", lock.locker, lock.address))
    }
}

/// Whether a client's address, as Ceph writes it (`10.0.0.1:0/123`, `[fd00::1]:0/123`), is one of this host. One that cannot be read is
/// another's.
fn is_here(address: &str) -> bool {
    ip(address).is_some_and(|ip| own_addresses().contains(&ip))
}

/// The addresses that this host's interfaces have. Not what can be bound to: with `ip_nonlocal_bind` that is any.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(|interface| interface.address.and_then(ip)).collect()
}

fn ip(address: &str) -> Option<IpAddr> {
    let (address, _nonce) = address.split_once('/')?;
    let bare = ["v1:", "v2:", "any:"].iter().find_map(|kind| address.strip_prefix(kind)).unwrap_or(address);
    bare.parse::<SocketAddr>().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image() -> RbdImage {
        RbdImage { pool: "volumes".into(), namespace: None, name: "volume-1".into() }
    }

    // 192.0.2.0/24 is kept for documentation (RFC 5737): no host has one.
    fn holders(watcher: &str, lock: &str) -> Holders {
        let status = format!(r#"{{"watchers":[{{"address":"{watcher}","client":4128,"cookie":18446462598732840963}}]}}"#);
        let locks = format!(r#"[{{"id":"{lock}","locker":"client.4128","address":"192.0.2.1:0/825612530"}}]"#);
        parse(&image(), &status, &locks).unwrap()
    }

    #[test]
    fn what_this_host_has_open_is_no_obstacle_and_what_another_has_is() {
        for here in ["127.0.0.1:0/825612530", "v1:127.0.0.1:0/5"] {
            holders(here, "auto 1").check(&image()).unwrap();
        }
        for elsewhere in ["192.0.2.1:0/825612530", "[2001:db8::1]:0/8", "nonsense", ":/0"] {
            let error = holders(elsewhere, "auto 1").check(&image()).unwrap_err();
            assert!(matches!(&error, RbdError::OpenElsewhere { clients, .. } if clients.contains("client.4128")), "{error}");
        }
    }

    #[test]
    fn a_lock_taken_by_hand_is_refused_and_one_left_behind_is_told_of() {
        let error = holders("127.0.0.1:0/1", "fence").check(&image()).unwrap_err().to_string();
        assert!(error.contains("rbd lock rm") && error.contains("client.4128"), "{error}");
        assert_eq!(holders("192.0.2.1:0/825612530", "auto 1").left_lock(), None, "its owner is alive");
        let left = Holders { watchers: vec![], ..holders("192.0.2.1:0/1", "auto 1") };
        assert_eq!(left.left_lock().as_deref(), Some("client.4128 at 192.0.2.1:0/825612530"));
        left.check(&image()).unwrap();
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in "\\PC*", locks in "\\PC*", address in "\\PC*") {
            let _ = parse(&image(), &status, &locks);
            ip(&address);
        }
    }
}
