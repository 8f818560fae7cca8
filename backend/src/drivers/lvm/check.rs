//! What must be so before the driver can be used, each with the command that mends it; and the devices of volumes, which a
//! volume group that is not activated at boot lacks.

use std::path::Path;

use tracing::info;

use super::LvmDriver;
use super::error::LvmError;
use crate::domain::volume::GIB;

/// LVM runs it whenever a pool is activated.
const THIN_CHECK: &str = "thin_check";

impl LvmDriver {
    pub(super) async fn check(&self) -> Result<(), LvmError> {
        if !is_there(THIN_CHECK) {
            return Err(LvmError::NoProgram { program: THIN_CHECK });
        }
        self.tool.find_disks().await?;
        let pool = self.tool.look(&[]).await?.pool;
        if !pool.zeroes {
            return Err(LvmError::NotZeroed { pool: self.tool.pool_name() });
        }
        if pool.extent_bytes == 0 || !GIB.is_multiple_of(pool.extent_bytes) {
            return Err(LvmError::Extents { group: self.directory_name(), extent_bytes: pool.extent_bytes });
        }
        let mut inactive = self.tool.inactive_volumes().await?;
        if !pool.is_active {
            // Nobody knows how full it is before it is.
            inactive.push(self.tool.pool_name());
        }
        if !inactive.is_empty() {
            let names: Vec<&str> = inactive.iter().map(String::as_str).collect();
            self.activate(&names).await?;
            info!(volumes = inactive.len(), pool = self.tool.pool_name(), "activated");
        }
        Ok(())
    }

    fn directory_name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // LVM looks there whatever the path is.
    std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]).any(|folder| folder.join(program).exists())
}
