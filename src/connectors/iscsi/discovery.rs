//! Fills in the paths that connection info leaves to discovery, before anything is journalled or touched.
//!
//! ```text
//! no path named ------------------------------> SendTargets -> the one target shown, or the one named -> its portals
//! one path named, every one wanted (multipath) -> SendTargets -> that target's other portals behind it; failing is no failure
//! ```
//! `iscsiadm -m discovery` would put the password on an argument list or into a file, leave a record of every target the
//! portal has, and log in to none of them any better; so the question is put by our own initiator.

use super::probe::{self, Advertised, Login};
use crate::{
    connectors::ConnectorError,
    model::{IscsiConnection, IscsiDiscovery, IscsiPath, Portal},
};

/// Paths taken at most: what a portal advertises is not to be trusted without bound.
const PATHS_MAX: usize = 128;

/// Asks where that is needed, or, with `every_path`, where it may bring more. Asked once, `discovery` is taken out of the connection.
pub(super) async fn settle(
    connection: &mut IscsiConnection,
    login: Login<'_>,
    every_path: bool,
    timeout_s: u64,
) -> Result<(), ConnectorError> {
    let Some(discovery) = connection.discovery.take() else { return Ok(()) };
    let is_needed = connection.paths.is_empty();
    if !is_needed && !every_path {
        return Ok(());
    }
    let login = Login { chap: discovery.chap.as_ref(), ..login };
    let found = probe::discover(&discovery.portal, login, timeout_s).await;
    let chosen = found
        .map_err(|source| ConnectorError::Discovery { portal: discovery.portal.clone(), source })
        .and_then(|ways| choose(&discovery, ways));
    match chosen {
        Ok(paths) => {
            for path in paths {
                if !connection.paths.contains(&path) && connection.paths.len() < PATHS_MAX {
                    connection.paths.push(path);
                }
            }
            tracing::debug!(portal = %discovery.portal, paths = connection.paths.len(), "asked for the ways to a target");
            Ok(())
        }
        Err(error) if is_needed => Err(error),
        Err(error) => {
            tracing::warn!(portal = %discovery.portal, error = &error as &dyn std::error::Error, "further paths are unknown");
            Ok(())
        }
    }
}

/// The paths of the one target that is meant. Which of several it is is never guessed: a LUN of the same number is behind each.
fn choose(discovery: &IscsiDiscovery, ways: Vec<Advertised>) -> Result<Vec<IscsiPath>, ConnectorError> {
    let mut iqns: Vec<&str> = ways.iter().map(|way| way.iqn.as_str()).collect();
    iqns.dedup();
    iqns.sort_unstable();
    iqns.dedup();
    let portal = || discovery.portal.clone();
    let iqn = match (&discovery.iqn, iqns.as_slice()) {
        (Some(iqn), shown) if shown.contains(&iqn.as_str()) => iqn.clone(),
        (Some(iqn), _) => return Err(ConnectorError::TargetNotShown { portal: portal(), iqn: iqn.clone() }),
        (None, [only]) => (*only).to_owned(),
        (None, several) => return Err(ConnectorError::TargetUnclear { portal: portal(), count: several.len() }),
    };
    let mut portals: Vec<Portal> = ways.into_iter().filter(|way| way.iqn == iqn).map(|way| way.portal).collect();
    // The one that answered just now is tried first.
    portals.sort_by_key(|portal| *portal != discovery.portal);
    Ok(portals.into_iter().map(|portal| IscsiPath { portal, iqn: iqn.clone(), lun: discovery.lun }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(iqn: &str, portal: &str) -> Advertised {
        Advertised { iqn: iqn.into(), portal: portal.parse().unwrap() }
    }

    fn chosen(iqn: Option<&str>, ways: Vec<Advertised>) -> Result<Vec<String>, ConnectorError> {
        let portal = "10.0.0.2:3260".parse().unwrap();
        let discovery = IscsiDiscovery { portal, iqn: iqn.map(str::to_owned), lun: 4, chap: None };
        choose(&discovery, ways).map(|paths| paths.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_target_is_the_named_one_or_the_only_one_and_is_never_guessed() {
        let ways = || {
            vec![
                way("iqn.a", "10.0.0.1:3260"),
                way("iqn.b", "10.0.0.1:3260"),
                way("iqn.a", "10.0.0.2:3260"),
                way("iqn.a", "[fd00::1]:3260"),
            ]
        };
        assert_eq!(
            chosen(Some("iqn.a"), ways()).unwrap(),
            ["iqn.a lun 4 at 10.0.0.2:3260", "iqn.a lun 4 at 10.0.0.1:3260", "iqn.a lun 4 at [fd00::1]:3260"]
        );
        assert_eq!(chosen(None, vec![way("iqn.a", "10.0.0.1:3260")]).unwrap(), ["iqn.a lun 4 at 10.0.0.1:3260"]);
        assert!(matches!(chosen(Some("iqn.c"), ways()), Err(ConnectorError::TargetNotShown { .. })));
        assert!(matches!(chosen(None, ways()), Err(ConnectorError::TargetUnclear { count: 2, .. })));
        assert!(matches!(chosen(None, vec![]), Err(ConnectorError::TargetUnclear { count: 0, .. })));
    }
}
