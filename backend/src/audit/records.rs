//! Statuses that nobody works on, and counters that are not the sum they stand for.

use super::{AuditError, Repair, Report};
use crate::store::Store;

const PLACE: &str = "database";

pub(super) async fn compare(store: &Store, repair: Repair, report: &mut Report) -> Result<(), AuditError> {
    let may_mend = repair != Repair::Nothing;
    for stuck in store.stuck().await? {
        let object = format!("{} {}", stuck.kind, stuck.id);
        report.add("stuck", PLACE, object, format!("it is {}, and no operation is about to end that.", stuck.status));
        if may_mend && store.end_stuck(&stuck).await? {
            report.mended("it has the status that is true of it");
        }
    }
    let drifted = store.usage_drift().await?;
    for drift in &drifted {
        let meaning = format!("{} are counted and there are {}.", drift.counted, drift.summed);
        report.add("drift", PLACE, format!("{} of {}", drift.resource, drift.owner), meaning);
    }
    if may_mend && !drifted.is_empty() {
        store.recount_usage().await?;
        for difference in report.differences.iter_mut().filter(|one| one.kind == "drift") {
            difference.mended = Some("counted anew".into());
        }
    }
    Ok(())
}
