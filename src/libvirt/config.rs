//! Where libvirt is and how long it may take.

use super::error::LibvirtError;

/// Settings of the connection. All times are in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtConfig {
    /// Connection URI.
    pub uri: String,
    /// A connection that is not there within this time counts as unavailable.
    pub connect_timeout_s: u64,
    /// A call that only reads, or changes no guest, may take this long.
    pub call_timeout_s: u64,
    /// Plugging in one disk may take this long: QEMU opens the disk, and logs into its target, within the call.
    pub attach_timeout_s: u64,
    /// A guest that has not let go is asked again after this time. QEMU refuses to repeat a request to the same
    /// device before 5 s have passed.
    pub detach_request_interval_s: u64,
    /// A guest that has not let go of a disk within this time is given up on.
    pub detach_timeout_s: u64,
    /// A guest that still runs this long after it was first asked to shut down is left running.
    pub shutdown_timeout_s: u64,
}

impl Default for LibvirtConfig {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            connect_timeout_s: 10,
            call_timeout_s: 30,
            attach_timeout_s: 60,
            detach_request_interval_s: 5,
            detach_timeout_s: 160,
            shutdown_timeout_s: 60,
        }
    }
}

impl LibvirtConfig {
    /// Zero would mean at once or never, and a null character ends a string early for libvirt.
    pub fn check(&self) -> Result<(), LibvirtError> {
        let bad = |setting, problem: &str| Err(LibvirtError::Config { setting, problem: problem.to_owned() });
        if self.uri.is_empty() || self.uri.contains('\0') {
            return bad("uri", "expected a connection URI such as qemu:///system");
        }
        let times_s = [
            ("connect_timeout_s", self.connect_timeout_s),
            ("call_timeout_s", self.call_timeout_s),
            ("attach_timeout_s", self.attach_timeout_s),
            ("detach_request_interval_s", self.detach_request_interval_s),
            ("detach_timeout_s", self.detach_timeout_s),
            ("shutdown_timeout_s", self.shutdown_timeout_s),
        ];
        match times_s.iter().find(|(_, time_s)| !(1..=MAX_TIME_S).contains(time_s)) {
            Some((setting, _)) => bad(setting, "expected 1 to 86400 seconds"),
            None => Ok(()),
        }
    }
}

/// A day: longer is a mistake, and far longer would overflow clocks.
const MAX_TIME_S: u64 = 86_400;
