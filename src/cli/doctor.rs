//! `bowline doctor`: what the agent finds of this host, and what this command sees where the agent is away or cannot look.

use super::{client::Client, error::CliError, output::Output};
use crate::{
    doctor::{self, facts::Facts},
    model::{ErrorKind, Finding, Verdict},
};
use serde_json::json;
use std::path::Path;

/// Where open-iscsi keeps the initiator's name; the agent's own look goes by its settings.
const INITIATOR_NAME_FILE: &str = "/etc/iscsi/initiatorname.iscsi";

/// Examines, prints, and fails if something cannot work.
pub async fn run(client: Result<Client, CliError>, output: Output) -> Result<(), CliError> {
    let own = doctor::examine(&Facts { host: doctor::gather(Path::new(INITIATOR_NAME_FILE)), agent: None });
    let asked = match client {
        Ok(client) => client.examine().await,
        Err(error) => Err(error),
    };
    let agent = asked.unwrap_or_else(|error| {
        let remedy = error.remedy();
        let message = format!("{error}: libvirt, the volume service and the journal were not looked at");
        // Whoever may not ask does not know whether anything is amiss.
        let denied = error.kind() == Some(ErrorKind::PermissionDenied);
        let verdict = if denied { Verdict::Unknown } else { Verdict::Failure };
        vec![Finding::new("agent", "bowlined", verdict, message, remedy)]
    });
    let findings = doctor::merge(agent, own);
    if output.json {
        let findings: Vec<_> = findings.iter().map(document).collect();
        output.document(&json!({ "findings": findings }))?;
    } else {
        output.line(&text(&findings))?;
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Failure).count() {
        0 => Ok(()),
        failures => Err(CliError::Unwell { failures }),
    }
}

fn document(finding: &Finding) -> serde_json::Value {
    let Finding { area, check, verdict, message, remedy } = finding;
    json!({ "area": area, "check": check, "verdict": verdict.as_str(), "message": message, "remedy": remedy })
}

/// Area by area, each in the order of its first finding.
fn text(findings: &[Finding]) -> String {
    let mut areas: Vec<&str> = vec![];
    for finding in findings {
        if !areas.contains(&finding.area.as_str()) {
            areas.push(&finding.area);
        }
    }
    let mut lines = vec![];
    for area in areas {
        lines.push(area.to_owned());
        for finding in findings.iter().filter(|finding| finding.area == area) {
            let verdict = match finding.verdict {
                Verdict::Failure => "FAILURE",
                other => other.as_str(),
            };
            lines.push(format!("  {verdict:<8} {}: {}", finding.check, finding.message));
            if !finding.remedy.is_empty() {
                lines.push(format!("           mend it with: {}", finding.remedy));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_under_their_area_with_what_mends_them() {
        let findings = [
            Finding::ok("iscsi", "a", "fine"),
            Finding::new("cloud", "b", Verdict::Failure, "away", "start it"),
            Finding::unknown("iscsi", "c", "hidden"),
        ];
        let expected =
            "iscsi\n  ok       a: fine\n  unknown  c: hidden\ncloud\n  FAILURE  b: away\n           mend it with: start it";
        assert_eq!(text(&findings), expected);
    }
}
