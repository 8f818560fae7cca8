//! What LVM reports of logical volumes, from its JSON (`lvs --reportformat json --units b --nosuffix`).

use serde::Deserialize;

use super::error::LvmError;

/// The columns that [`LogicalVolume`] is read from.
pub(super) const COLUMNS: &str = "lv_name,lv_size,lv_tags,lv_active,segtype,pool_lv,data_percent,metadata_percent,zero,\
                                  lv_health_status,vg_extent_size,vg_missing_pv_count";

/// One logical volume.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogicalVolume {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) tags: Vec<String>,
    pub(super) is_active: bool,
    /// `thin`, `thin-pool`, `linear` …
    pub(super) kind: String,
    /// The thin pool it is in.
    pub(super) pool: String,
    /// How full a pool's data is.
    pub(super) data_percent: f64,
    /// How full a pool's metadata is.
    pub(super) metadata_percent: f64,
    /// Whether a pool zeroes what it gives out.
    pub(super) zeroes: bool,
    /// Empty where it is well.
    pub(super) health: String,
    /// The size of its volume group's extents.
    pub(super) extent_bytes: u64,
    /// How many disks of its volume group were not found.
    pub(super) missing_disks: u64,
}

#[derive(Deserialize)]
struct Report<T> {
    report: Vec<T>,
}

#[derive(Deserialize)]
struct LogicalVolumes {
    lv: Vec<Row>,
}

#[derive(Deserialize)]
struct PhysicalVolumes {
    pv: Vec<PhysicalVolume>,
}

/// All values are text.
#[derive(Deserialize)]
struct Row {
    lv_name: String,
    lv_size: String,
    lv_tags: String,
    lv_active: String,
    segtype: String,
    pool_lv: String,
    data_percent: String,
    metadata_percent: String,
    zero: String,
    lv_health_status: String,
    vg_extent_size: String,
    vg_missing_pv_count: String,
}

#[derive(Deserialize)]
struct PhysicalVolume {
    pv_name: String,
    vg_name: String,
}

/// Reads a report of logical volumes.
pub(super) fn logical_volumes(text: &[u8]) -> Result<Vec<LogicalVolume>, LvmError> {
    let report: Report<LogicalVolumes> =
        serde_json::from_slice(text).map_err(|source| LvmError::Report { program: "lvs", source })?;
    Ok(report.report.into_iter().flat_map(|one| one.lv).map(LogicalVolume::from).collect())
}

/// Reads from a report of `pv_name,vg_name` which devices a volume group is on.
pub(super) fn disks_of(text: &[u8], group: &str) -> Result<Vec<String>, LvmError> {
    let report: Report<PhysicalVolumes> =
        serde_json::from_slice(text).map_err(|source| LvmError::Report { program: "pvs", source })?;
    let all = report.report.into_iter().flat_map(|one| one.pv);
    Ok(all.filter(|disk| disk.vg_name == group).map(|disk| disk.pv_name).collect())
}

impl From<Row> for LogicalVolume {
    fn from(row: Row) -> Self {
        // What cannot be read counts as nothing, or as full.
        let percent = |text: &str| if text.is_empty() { 0.0 } else { text.parse().unwrap_or(100.0) };
        Self {
            name: row.lv_name,
            size_bytes: row.lv_size.parse().unwrap_or(0),
            tags: row.lv_tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            is_active: row.lv_active.starts_with("active"),
            kind: row.segtype,
            pool: row.pool_lv,
            data_percent: percent(&row.data_percent),
            metadata_percent: percent(&row.metadata_percent),
            zeroes: row.zero == "zero",
            health: row.lv_health_status,
            extent_bytes: row.vg_extent_size.parse().unwrap_or(0),
            missing_disks: row.vg_missing_pv_count.parse().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LVM 2.03.16 writes it.
    const REPORT: &str = r#"  { "report": [ { "lv": [
        {"lv_name":"pool", "lv_size":"469762048", "lv_tags":"", "lv_active":"active", "segtype":"thin-pool", "pool_lv":"", "data_percent":"1.79", "metadata_percent":"11.43", "zero":"zero", "lv_health_status":"", "vg_extent_size":"4194304", "vg_missing_pv_count":"0"},
        {"lv_name":"volume-1", "lv_size":"1073741824", "lv_tags":"bowline.volume,other", "lv_active":"", "segtype":"thin", "pool_lv":"pool", "data_percent":"", "metadata_percent":"", "zero":"unknown", "lv_health_status":"", "vg_extent_size":"4194304", "vg_missing_pv_count":"0"}
    ] } ] }"#;

    #[test]
    fn a_report_is_read() {
        let all = logical_volumes(REPORT.as_bytes()).unwrap();
        assert_eq!((all[0].data_percent, all[0].metadata_percent, all[0].zeroes, all[0].is_active), (1.79, 11.43, true, true));
        assert_eq!((all[1].size_bytes, all[1].is_active, all[1].pool.as_str()), (1 << 30, false, "pool"));
        assert_eq!(all[1].tags, ["bowline.volume", "other"]);
        assert_eq!(logical_volumes(br#"{"report":[{"lv":[]}]}"#).unwrap(), []);
        assert!(matches!(logical_volumes(b"  WARNING: hm"), Err(LvmError::Report { program: "lvs", .. })));
    }

    #[test]
    fn a_fullness_that_cannot_be_read_counts_as_full() {
        let text = REPORT.replace("\"1.79\"", "\"-nan\"").replace("\"11.43\"", "\"?\"");
        let pool = logical_volumes(text.as_bytes()).unwrap().remove(0);
        assert_eq!(pool.metadata_percent, 100.0);
        assert!(pool.data_percent.is_nan(), "which is below no limit");
    }

    #[test]
    fn the_disks_of_a_group_are_found() {
        let text = br#"{"report":[{"pv":[{"pv_name":"/dev/loop0","vg_name":"fast"},{"pv_name":"/dev/sdb","vg_name":"slow"},
            {"pv_name":"/dev/sdc","vg_name":""}]}]}"#;
        assert_eq!(disks_of(text, "fast").unwrap(), ["/dev/loop0"]);
    }
}
