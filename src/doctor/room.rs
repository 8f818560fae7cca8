//! Room for images and ephemeral disks: in their folder, in the volume group and its thin pool.

use super::facts::{AgentFacts, Facts};
use crate::model::{Finding, FolderRoom, GIB, GroupRoom, POOL_FULL_PERCENT, PoolRoom, Verdict};

const AREA: &str = "images";

/// A pool grows by its guests' writes, of which nobody is asked: somebody should know in time. Percent that are taken.
const POOL_LOW_PERCENT: f64 = 80.0;

/// Less than this, and no disk worth having can be made, bytes.
const LOW_BYTES: u64 = GIB;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(agent) = &facts.agent else { return vec![] };
    let mut found = vec![folder(&agent.folder)];
    found.extend(group(agent));
    found
}

#[allow(clippy::cast_precision_loss, reason = "a tenth of a GiB is told")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

fn folder(room: &Result<FolderRoom, String>) -> Finding {
    const CHECK: &str = "room";
    let FolderRoom { folder, free_bytes, cached_bytes, limit_bytes } = match room {
        Err(why) => return Finding::unknown(AREA, CHECK, why.as_str()),
        Ok(room) => room,
    };
    let cache = format!("the image cache has {} of its {}", gib(*cached_bytes), gib(*limit_bytes));
    let message = format!("{folder} has {} left; {cache}", gib(*free_bytes));
    let remedy = "give images.dir a larger file system, or lower images.limit_gib";
    if *free_bytes < LOW_BYTES {
        Finding::new(AREA, CHECK, Verdict::Failure, format!("{message}: guests whose disks are there may be paused"), remedy)
    } else if *free_bytes < limit_bytes.saturating_sub(*cached_bytes) {
        let message = format!("{message}: it would fill the file system before it is full itself");
        Finding::new(AREA, CHECK, Verdict::Warning, message, remedy)
    } else {
        Finding::ok(AREA, CHECK, message)
    }
}

fn group(agent: &AgentFacts) -> Vec<Finding> {
    const CHECK: &str = "volume-group";
    let GroupRoom { name, free_bytes, pool } = match &agent.group {
        // Each of these says what mends it.
        Err(why) => return vec![Finding::new(AREA, CHECK, Verdict::Failure, why.as_str(), "see docs/operations.md, on LVM")],
        Ok(None) => return vec![],
        Ok(Some(room)) => room,
    };
    let message = format!("volume group {name} has {} free", gib(*free_bytes));
    match pool {
        None if *free_bytes < LOW_BYTES => {
            let message = format!("{message}: no room for linear disks");
            vec![Finding::new(AREA, CHECK, Verdict::Warning, message, format!("vgextend {name} DEVICE"))]
        }
        None => vec![Finding::ok(AREA, CHECK, message)],
        Some(room) => vec![Finding::ok(AREA, CHECK, message), pool_of(name, room)],
    }
}

fn pool_of(group: &str, pool: &PoolRoom) -> Finding {
    const CHECK: &str = "thin-pool";
    let name = format!("{group}/{}", pool.name);
    if !pool.is_zeroing {
        let message = format!(
            "thin pool {name} does not zero what it gives out: disks of it are refused, for they would show others' bytes"
        );
        return Finding::new(AREA, CHECK, Verdict::Failure, message, format!("lvchange --zero y {name}"));
    }
    let (Some(data), Some(metadata), Some(taken)) = (pool.data_percent, pool.metadata_percent, pool.taken_percent()) else {
        let message = format!("thin pool {name} is not active: none of its disks can be had");
        return Finding::new(AREA, CHECK, Verdict::Failure, message, format!("vgchange --activate y {group}"));
    };
    let message = format!("thin pool {name} zeroes, and of its data {data:.1} %, of its metadata {metadata:.1} % are taken");
    let (verdict, consequence) = match taken {
        taken if taken >= POOL_FULL_PERCENT => (Verdict::Failure, "it gives no new disks, and once it is full its guests stop"),
        taken if taken >= POOL_LOW_PERCENT => (Verdict::Warning, "once it is full its guests stop"),
        _ => return Finding::ok(AREA, CHECK, message),
    };
    let remedy = match data >= metadata {
        true => format!("lvextend --size +10G {name}"),
        false => format!("lvextend --poolmetadatasize +1G {name}"),
    };
    Finding::new(AREA, CHECK, verdict, format!("{message}: {consequence}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(folder: FolderRoom, group: Result<Option<GroupRoom>, String>) -> Vec<Verdict> {
        let agent = AgentFacts { folder: Ok(folder), group, ..AgentFacts::sample() };
        check(&Facts { agent: Some(agent), ..Facts::default() }).iter().map(|finding| finding.verdict).collect()
    }

    const fn room(free_bytes: u64) -> FolderRoom {
        FolderRoom { folder: String::new(), free_bytes, cached_bytes: 10 * GIB, limit_bytes: 50 * GIB }
    }

    #[test]
    fn the_cache_may_not_grow_beyond_its_file_system() {
        for (free_gib, verdict) in [(0, Verdict::Failure), (39, Verdict::Warning), (40, Verdict::Ok)] {
            assert_eq!(verdicts(room(free_gib * GIB), Ok(None)), [verdict], "{free_gib}");
        }
    }

    #[test]
    fn a_pool_is_told_before_it_is_full() {
        let of = |data, metadata, is_zeroing| {
            let pool = PoolRoom { name: "pool".into(), data_percent: data, metadata_percent: metadata, is_zeroing };
            let group = GroupRoom { name: "fast".into(), free_bytes: 0, pool: Some(pool) };
            verdicts(room(100 * GIB), Ok(Some(group)))[2]
        };
        assert_eq!(of(Some(79.0), Some(10.0), true), Verdict::Ok);
        assert_eq!(of(Some(10.0), Some(80.0), true), Verdict::Warning);
        assert_eq!(of(Some(95.0), Some(10.0), true), Verdict::Failure);
        assert_eq!(of(None, None, true), Verdict::Failure);
        assert_eq!(of(Some(10.0), Some(10.0), false), Verdict::Failure);
        let linear = |free_bytes| GroupRoom { name: "fast".into(), free_bytes, pool: None };
        assert_eq!(verdicts(room(100 * GIB), Ok(Some(linear(0))))[1], Verdict::Warning);
        assert_eq!(verdicts(room(100 * GIB), Ok(Some(linear(GIB))))[1], Verdict::Ok);
        assert_eq!(verdicts(room(100 * GIB), Err("the agent sees no volume group fast".into()))[1], Verdict::Failure);
    }
}
