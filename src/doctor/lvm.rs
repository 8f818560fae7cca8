//! Ephemeral disks on logical volumes, where the settings want them.

use super::facts::Facts;
use crate::model::{Finding, Verdict};

const AREA: &str = "images";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(is_thin) = facts.agent.as_ref().and_then(|agent| agent.thin_disks) else { return vec![] };
    let tools = [("lvcreate", "lvm2"), ("thin_check", "thin-provisioning-tools")];
    let needed = if is_thin { tools.as_slice() } else { &tools[..1] };
    needed.iter().map(|(program, package)| tool(facts, program, package)).collect()
}

fn tool(facts: &Facts, program: &str, package: &str) -> Finding {
    match facts.host.programs.get(program) {
        None => Finding::unknown(AREA, package, "the path was not looked at"),
        Some(true) => Finding::ok(AREA, package, format!("{program} is installed")),
        Some(false) => {
            let message =
                format!("{program} is not installed, and ephemeral disks are to be logical volumes (images.disks_on)");
            Finding::new(AREA, package, Verdict::Failure, message, format!("apt-get install {package}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::AgentFacts;

    #[test]
    fn what_the_settings_need_must_be_there() {
        let mut facts = Facts { agent: Some(AgentFacts { thin_disks: None, ..AgentFacts::sample() }), ..Facts::default() };
        facts.host.programs.extend([("lvcreate", true), ("thin_check", false)]);
        let worst = |facts: &Facts| check(facts).into_iter().map(|finding| finding.verdict).max();
        assert_eq!(worst(&facts), None);
        facts.agent = Some(AgentFacts { thin_disks: Some(false), ..AgentFacts::sample() });
        assert_eq!(worst(&facts), Some(Verdict::Ok));
        facts.agent = Some(AgentFacts { thin_disks: Some(true), ..AgentFacts::sample() });
        assert_eq!(worst(&facts), Some(Verdict::Failure));
    }
}
