//! Images of formats that no disk of this host is over: each is converted once, on its way into the cache.

use super::{
    BootSourceError,
    disks::{ONE_ARENA, QEMU_IMG_MEMORY, run},
};
use crate::model::{DiskFormat, ForeignFormat, ImageId};
use std::{ffi::OsString, path::Path, time::Duration};

/// Has qemu-img write a qcow2 file of bytes that our own look has let pass. It is told both formats and guesses none, and writes no more
/// than `most_bytes`.
pub(super) async fn convert(
    image: ImageId,
    (from, format): (&Path, ForeignFormat),
    to: &Path,
    most_bytes: u64,
    limit: Duration,
) -> Result<(), BootSourceError> {
    let arguments: [OsString; 14] = [
        QEMU_IMG_MEMORY.into(),
        format!("--fsize={most_bytes}").into(),
        "--".into(),
        "env".into(),
        ONE_ARENA.into(),
        "qemu-img".into(),
        "convert".into(),
        "-f".into(),
        format.qemu_name().into(),
        "-O".into(),
        DiskFormat::Qcow2.as_str().into(),
        "--".into(),
        from.into(),
        to.into(),
    ];
    run(&format!("of image {image}"), "prlimit", &arguments, limit).await
}
