//! Several paths to one LUN: multipathd, and the settings that a host of changing volumes wants.

use super::facts::Facts;
use crate::model::{Finding, Verdict};

const AREA: &str = "multipath";

/// multipathd's control socket.
pub(super) const SOCKET: &str = "/org/kernel/linux/storage/multipathd";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![daemon(facts), find_multipaths(facts), names(facts)]
}

fn daemon(facts: &Facts) -> Finding {
    const CHECK: &str = "multipathd";
    let installed = facts.host.programs.get("multipathd");
    let wanted = facts.agent.as_ref().and_then(|agent| agent.wants_multipath);
    let verdict = if wanted == Some(true) { Verdict::Failure } else { Verdict::Warning };
    match (facts.listens(SOCKET), installed) {
        (None, _) | (_, None) => Finding::unknown(AREA, CHECK, "the sockets of this host cannot be seen from here"),
        (Some(true), _) => Finding::ok(AREA, CHECK, "running"),
        (Some(false), _) if wanted == Some(false) => {
            Finding::ok(AREA, CHECK, "it does not run, nor should it (iscsi.multipath)")
        }
        (Some(false), Some(true)) => {
            let message = "it does not run: a volume has one path, however many its storage offers";
            Finding::new(AREA, CHECK, verdict, message, "systemctl enable --now multipathd")
        }
        (Some(false), Some(false)) => {
            let message = "it is not installed: a volume has one path, however many its storage offers";
            Finding::new(AREA, CHECK, verdict, message, "apt-get install multipath-tools")
        }
    }
}

fn setting(
    facts: &Facts,
    check: &str,
    value: impl Fn(&super::facts::MultipathdConfig) -> Option<String>,
) -> Result<String, Finding> {
    let unknown = |why: &str| Finding::unknown(AREA, check, why);
    let config = facts.host.multipathd.as_ref().ok_or_else(|| unknown("multipathd cannot be asked from here"))?;
    value(config).ok_or_else(|| unknown("multipathd does not say"))
}

fn find_multipaths(facts: &Facts) -> Finding {
    const CHECK: &str = "find_multipaths";
    match setting(facts, CHECK, |config| config.find_multipaths.clone()) {
        Err(unknown) => unknown,
        // It makes maps only of what it knows from before, but for what it is asked for.
        Ok(value) if value == "strict" => Finding::ok(AREA, CHECK, "strict (the agent asks for each map, so it will do)"),
        Ok(value) => Finding::ok(AREA, CHECK, value),
    }
}

fn names(facts: &Facts) -> Finding {
    const CHECK: &str = "user_friendly_names";
    match setting(facts, CHECK, |config| config.user_friendly_names.clone()) {
        Err(unknown) => unknown,
        Ok(value) => Finding::ok(AREA, CHECK, format!("{value} (the agent finds maps by WWID, so either will do)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::MultipathdConfig;

    fn verdicts(facts: &Facts) -> Vec<Verdict> {
        check(facts).into_iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_running_daemon_is_asked_for_what_it_runs_with() {
        let mut facts = Facts::default();
        facts.host.programs.insert("multipathd", true);
        facts.host.sockets = Some(vec![SOCKET.into()]);
        let config =
            |find: &str| MultipathdConfig { find_multipaths: Some(find.into()), user_friendly_names: Some("yes".into()) };
        facts.host.multipathd = Some(config("on"));
        assert_eq!(verdicts(&facts), [Verdict::Ok; 3]);
        facts.host.multipathd = Some(config("strict"));
        assert_eq!(verdicts(&facts), [Verdict::Ok; 3]);
    }

    #[test]
    fn one_that_does_not_run_is_told_apart_from_one_that_is_not_there() {
        let mut facts = Facts::default();
        facts.host.sockets = Some(vec![]);
        for (installed, remedy) in [(true, "systemctl enable --now multipathd"), (false, "apt-get install multipath-tools")] {
            facts.host.programs.insert("multipathd", installed);
            assert_eq!(check(&facts)[0].remedy, remedy);
        }
    }
}
