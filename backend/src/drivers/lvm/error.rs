//! Why LVM could not do something.

use std::path::PathBuf;

use crate::command::CommandError;

/// An operation on a volume group that failed.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// A command failed, or could not be run to its end.
    #[error("cannot {operation}")]
    Command {
        /// What was tried, with the names of what it was about.
        operation: String,
        /// Why.
        source: CommandError,
    },
    /// A report of LVM is not what it should be.
    #[error("cannot read what {program} reports")]
    Report {
        /// Which command's.
        program: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A program is missing that LVM runs for thin pools.
    #[error("`{program}` is missing, which LVM runs for thin pools: apt-get install thin-provisioning-tools")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// The volume group is not there.
    #[error(
        "there is no volume group {group}; make it with `vgcreate {group} DEVICE`, or set volume_group to the name of one (`vgs`)"
    )]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// The thin pool is not there.
    #[error(
        "volume group {group} has no thin pool {pool}; make it with `lvcreate --type thin-pool --extents 90%FREE --name {pool} \
         {group}`, or set thin_pool to the name of one (`lvs {group}`)"
    )]
    NoPool {
        /// The volume group.
        group: String,
        /// The pool.
        pool: String,
    },
    /// New volumes would show what deleted ones held.
    #[error(
        "thin pool {pool} does not zero what it gives out, so that a new volume would show the data of deleted ones; \
         `lvchange --zero y {pool}` mends it"
    )]
    NotZeroed {
        /// `group/pool`.
        pool: String,
    },
    /// Volumes have whole GiB.
    #[error(
        "volume group {group} has extents of {extent_bytes} bytes, of which no whole number is a GiB; make it with \
         `vgcreate --physicalextentsize 4m`"
    )]
    Extents {
        /// The volume group.
        group: String,
        /// Its extents' size.
        extent_bytes: u64,
    },
    /// The pool cannot take more writes.
    #[error("thin pool {pool} is {health}; mend it (`lvs -a`, `lvconvert --repair {pool}`)")]
    Unhealthy {
        /// `group/pool`.
        pool: String,
        /// What LVM says of it.
        health: String,
    },
    /// There is too little room to make or enlarge anything.
    #[error(
        "thin pool {pool} is full: {data_percent}% of its data and {metadata_percent}% of its metadata are used, {limit_percent}% is \
         the most; extend it with `lvextend --size` and `lvextend --poolmetadatasize`, or delete volumes"
    )]
    Full {
        /// `group/pool`.
        pool: String,
        /// How full its data is.
        data_percent: f64,
        /// How full its metadata is.
        metadata_percent: f64,
        /// How full either may be.
        limit_percent: f64,
    },
    /// Something else has the name.
    #[error("{name} exists and is not what this service made: {problem}; it is left alone")]
    Foreign {
        /// `group/name`.
        name: String,
        /// What is different.
        problem: String,
    },
    /// A volume or snapshot that should be there is not.
    #[error("{name} is not there")]
    Missing {
        /// `group/name`.
        name: String,
    },
    /// A volume's device could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    Device {
        /// What was tried.
        operation: &'static str,
        /// The device.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
