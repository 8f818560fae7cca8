//! Which pools would do for a volume, and, for each that would not, which filter said no and why.

use serde_json::Value;

use super::extra_specs;
use crate::domain::place::backend_of;
use crate::domain::{Pool, ServiceRow, WhyNot};
use crate::store::Candidates;

/// What the filters say of all pools.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    /// Those that would do.
    pub fit: Vec<Pool>,
    /// Why the others would not.
    pub why_not: Vec<WhyNot>,
}

/// One question to a pool: an answer is why not.
type Filter = fn(&Candidates, &ServiceRow, &Pool) -> Result<(), String>;

/// The questions, cheapest first, under the names that operators know from the field where there are such.
const FILTERS: [(&str, Filter); 6] = [
    ("ServiceUp", service_up),
    ("AvailabilityZoneFilter", availability_zone),
    ("IgnoreAttemptedHostsFilter", not_tried),
    ("SourceBackend", with_its_source),
    ("CapabilitiesFilter", capabilities),
    ("CapacityFilter", capacity),
];

/// Asks every pool every question, until one says no.
pub fn judge(candidates: &Candidates) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for service in &candidates.services {
        for pool in &service.pools {
            let refused = FILTERS.iter().find_map(|(name, filter)| Some((name, filter(candidates, service, pool).err()?)));
            match refused {
                None => verdicts.fit.push(pool.clone()),
                Some((filter, reason)) => {
                    verdicts.why_not.push(WhyNot { pool: pool.name.clone(), filter: (*filter).to_owned(), reason });
                }
            }
        }
    }
    verdicts
}

fn service_up(candidates: &Candidates, service: &ServiceRow, _pool: &Pool) -> Result<(), String> {
    if service.disabled {
        return Err(format!("the service is disabled ({})", service.disabled_reason.as_deref().unwrap_or("no reason given")));
    }
    if !service.is_heard_of(candidates.now_us) {
        let silent_s = candidates.now_us.saturating_sub(service.heartbeat_at_us) / 1_000_000;
        return Err(format!("the service was last heard of {silent_s} s ago"));
    }
    if service.problem.is_some() {
        // What exactly is the operator's business.
        return Err("its storage is down; bowline-backend status says why".into());
    }
    Ok(())
}

fn availability_zone(candidates: &Candidates, _service: &ServiceRow, pool: &Pool) -> Result<(), String> {
    let wanted = &candidates.volume.availability_zone;
    if pool.availability_zone == *wanted {
        Ok(())
    } else {
        Err(format!("it is in zone {}, not {wanted}", pool.availability_zone))
    }
}

fn not_tried(candidates: &Candidates, _service: &ServiceRow, pool: &Pool) -> Result<(), String> {
    if candidates.tried.contains(&pool.name) { Err("it was tried and failed".into()) } else { Ok(()) }
}

fn with_its_source(candidates: &Candidates, _service: &ServiceRow, pool: &Pool) -> Result<(), String> {
    match &candidates.source_host {
        Some(source) if backend_of(source) != backend_of(&pool.name) => Err(format!("what it is made from is on {source}")),
        _ => Ok(()),
    }
}

fn capabilities(candidates: &Candidates, _service: &ServiceRow, pool: &Pool) -> Result<(), String> {
    let none = Default::default();
    let specs = candidates.volume_type.as_ref().map_or(&none, |volume_type| &volume_type.extra_specs);
    for (key, spec) in specs {
        let key = match key.split_once(':') {
            Some(("capabilities", key)) => key,
            // Another scope is for the driver, not for the choice.
            Some(_) => continue,
            None => key,
        };
        let capability = match key {
            "volume_backend_name" => Value::from(pool.backend_name.as_str()),
            "multiattach" => Value::from(pool.multiattach),
            "thin_provisioning_support" => Value::from(pool.thin),
            "thick_provisioning_support" => Value::from(!pool.thin),
            "availability_zone" | "RESKEY" => continue,
            other => match pool.capabilities.get(other) {
                Some(capability) => capability.clone(),
                None => return Err(format!("it says nothing of {other}, and the type asks for '{spec}'")),
            },
        };
        if !extra_specs::matches(&capability, spec) {
            return Err(format!("its {key} is {capability}, and the type asks for '{spec}'"));
        }
    }
    Ok(())
}

/// Room by what was promised and by what there really is: a thin pool may promise more than it has, in all and, as in the field,
/// of what is free in truth beyond its reserve. So one that fills up takes no more, however little was promised.
fn capacity(candidates: &Candidates, _service: &ServiceRow, pool: &Pool) -> Result<(), String> {
    let wanted_gib = candidates.volume.size_gib as f64;
    let reserved_gib = (pool.total_gib * f64::from(pool.reserved_percentage) / 100.0).floor();
    let free_gib = pool.free_gib - reserved_gib;
    if !pool.thin {
        return if free_gib >= wanted_gib {
            Ok(())
        } else {
            Err(format!("{free_gib:.1} GiB are free beyond the reserve, {wanted_gib} GiB are asked for"))
        };
    }
    if free_gib <= 0.0 {
        return Err(format!("{:.1} GiB are free in truth, and {reserved_gib} GiB are held in reserve", pool.free_gib));
    }
    let virtual_gib = free_gib * pool.max_over_subscription_ratio;
    if wanted_gib > virtual_gib {
        return Err(format!(
            "{free_gib:.1} GiB are free in truth beyond the reserve, for {virtual_gib:.1} GiB at {} times over, {wanted_gib} GiB are \
             asked for",
            pool.max_over_subscription_ratio
        ));
    }
    let allocated_gib = candidates.allocated_gib.get(&pool.name).copied().unwrap_or(0) as f64;
    let may_promise_gib = (pool.total_gib - reserved_gib) * pool.max_over_subscription_ratio;
    if allocated_gib + wanted_gib > may_promise_gib {
        return Err(format!(
            "{allocated_gib} GiB of {may_promise_gib:.1} GiB that may be promised are given out, {wanted_gib} GiB are asked for"
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Volume, VolumeStatus, VolumeType};
    use serde_json::json;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    pub(crate) fn pool(name: &str) -> Pool {
        Pool {
            name: name.into(),
            backend_name: "files".into(),
            availability_zone: "nova".into(),
            total_gib: 100.0,
            free_gib: 50.0,
            thin: true,
            max_over_subscription_ratio: 2.0,
            reserved_percentage: 10,
            multiattach: true,
            capabilities: BTreeMap::from([("disk".to_owned(), json!("ssd"))]),
        }
    }

    fn service(pools: Vec<Pool>) -> ServiceRow {
        ServiceRow {
            id: "s".into(),
            name: "cinder-volume".into(),
            host: "a@files".into(),
            availability_zone: "nova".into(),
            disabled: false,
            disabled_reason: None,
            pools,
            heartbeat_at_us: 1_000_000_000,
            updated_at_us: None,
            gone_at_us: None,
            problem: None,
        }
    }

    pub(crate) fn candidates(size_gib: u64, pools: Vec<Pool>) -> Candidates {
        let volume = Volume {
            id: Uuid::nil(),
            seq: 1,
            name: None,
            description: None,
            size_gib,
            status: VolumeStatus::Creating,
            multiattach: false,
            availability_zone: "nova".into(),
            metadata: Default::default(),
            created_at_us: 0,
            updated_at_us: None,
            project_id: "p".into(),
            user_id: "u".into(),
            host: String::new(),
            volume_type_id: None,
            volume_type: None,
            bootable: false,
            readonly: false,
            encryption_key_id: None,
            image_metadata: None,
            snapshot_id: None,
            source_volume_id: None,
            image_id: None,
            backup_id: None,
            group_id: None,
            migration_status: None,
            name_id: None,
            provider: None,
            consumes_quota: true,
        };
        Candidates {
            volume,
            volume_type: None,
            source_host: None,
            tried: vec![],
            services: vec![service(pools)],
            allocated_gib: BTreeMap::new(),
            now_us: 1_000_000_000,
        }
    }

    fn refused_by(candidates: &Candidates) -> Option<String> {
        judge(candidates).why_not.first().map(|why| why.filter.clone())
    }

    #[test]
    fn each_filter_says_no_by_its_name() {
        let base = || candidates(1, vec![pool("a@files#files")]);
        assert_eq!(refused_by(&base()), None);
        let mut down = base();
        down.now_us += 61_000_000;
        assert_eq!(refused_by(&down).as_deref(), Some("ServiceUp"));
        let mut disabled = base();
        disabled.services[0].disabled = true;
        assert_eq!(refused_by(&disabled).as_deref(), Some("ServiceUp"));
        let mut elsewhere = base();
        elsewhere.volume.availability_zone = "moon".into();
        assert_eq!(refused_by(&elsewhere).as_deref(), Some("AvailabilityZoneFilter"));
        let mut tried = base();
        tried.tried = vec!["a@files#files".into()];
        assert_eq!(refused_by(&tried).as_deref(), Some("IgnoreAttemptedHostsFilter"));
        let mut sourced = base();
        sourced.source_host = Some("b@files#files".into());
        assert_eq!(refused_by(&sourced).as_deref(), Some("SourceBackend"));
        sourced.source_host = Some("a@files#other".into());
        assert_eq!(refused_by(&sourced), None, "another pool of the same backend will do");
    }

    #[test]
    fn types_ask_in_extra_specs() {
        for (key, spec, fits) in [
            ("volume_backend_name", "files", true),
            ("volume_backend_name", "ceph", false),
            ("multiattach", "<is> True", true),
            ("capabilities:disk", "<in> ssd", true),
            ("disk", "hdd", false),
            ("unheard_of", "x", false),
            ("quality:unheard_of", "x", true),
        ] {
            let mut candidates = candidates(1, vec![pool("a@files#files")]);
            candidates.volume_type = Some(VolumeType {
                id: "t".into(),
                name: "t".into(),
                description: None,
                is_public: true,
                extra_specs: BTreeMap::from([(key.to_owned(), spec.to_owned())]),
                qos_specs_id: None,
                encryption: None,
            });
            assert_eq!(refused_by(&candidates).is_none(), fits, "{key}={spec}");
        }
    }

    #[test]
    fn a_thin_pool_promises_more_than_it_has_but_not_when_nothing_is_left() {
        let with = |allocated: i64, free: f64, size| {
            let mut pool = pool("a@files#files");
            pool.free_gib = free;
            let mut candidates = candidates(size, vec![pool]);
            candidates.allocated_gib.insert("a@files#files".into(), allocated);
            refused_by(&candidates).is_none()
        };
        // 100 GiB, a tenth in reserve, twice promised: 180 GiB.
        assert!(with(0, 100.0, 180) && with(179, 50.0, 1));
        assert!(!with(0, 100.0, 181) && !with(180, 50.0, 1));
        assert!(!with(0, 10.0, 1), "what is free in truth is the reserve");
        // Little was promised, and yet the disk is nearly full: 12 GiB free, 2 of them beyond the reserve.
        assert!(with(0, 12.0, 4) && !with(0, 12.0, 5));
        let mut thick = pool("a@files#files");
        thick.thin = false;
        assert!(refused_by(&candidates(40, vec![thick.clone()])).is_none());
        assert!(refused_by(&candidates(41, vec![thick])).is_some());
    }
}
