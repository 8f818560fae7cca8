//! Options of a mapping: those of rbd(8) under "kernel rbd (krbd) options", from the configuration.

use super::RbdError;

/// What may be asked for. Not among them is what says which image or whose key, which Bowline says itself, and what would map
/// without waiting for udev.
const ALLOWED: [&str; 27] = [
    "fsid",
    "ip",
    "share",
    "noshare",
    "crc",
    "nocrc",
    "cephx_require_signatures",
    "nocephx_require_signatures",
    "tcp_nodelay",
    "notcp_nodelay",
    "mount_timeout",
    "osdkeepalive",
    "osd_idle_ttl",
    "osd_request_timeout",
    "queue_depth",
    "lock_on_read",
    "exclusive",
    "lock_timeout",
    "notrim",
    "abort_on_full",
    "alloc_size",
    "crush_location",
    "read_from_replica",
    "compression_hint",
    "ms_mode",
    "rxbounce",
    "norxbounce",
];

/// Refuses what is not known, and what could be more than it looks.
pub(super) fn check(options: &str) -> Result<(), RbdError> {
    for option in options.split(',') {
        let (name, value) = option.split_once('=').unwrap_or((option, "-"));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-' | '|' | '[' | ']');
        if !ALLOWED.contains(&name) || value.is_empty() || !value.chars().all(plain) {
            return Err(RbdError::MapOption { option: option.chars().take(64).collect() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tunes_a_mapping_is_taken() {
        check("queue_depth=256,lock_on_read,ms_mode=prefer-crc,crush_location=zone:a|rack:b").unwrap();
        for options in ["", "secret=QQ==", "key=client.admin", "_pool_ns=x", "noudev", "queue_depth=", "crc,", "ip=1 2"] {
            assert!(check(options).is_err(), "{options:?}");
        }
    }
}
