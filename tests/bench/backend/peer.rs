//! The same figures of a real Cinder that runs already: what ours are compared with.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::client::{Connection, Target};
use crate::{CONNECTIONS, FEW, changes, cycles, reads};

/// Debian 12's Cinder, 21.3, speaks the API to this one.
const VERSION: &str = "3.70";

/// Reads, creates and attachments.
pub async fn figures(address: String, volume_type: String) -> anyhow::Result<Value> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let service_token = Some(variable("BENCH_SERVICE_TOKEN")?);
    let volume_type = Some(volume_type);
    let target = Target { address, token: variable("BENCH_TOKEN")?, service_token, version: VERSION, volume_type };
    allow(&target, &cycles::project(&target).await?).await?;
    let volumes = cycles::volumes(&target, FEW).await?;
    let volume = volumes.first().context("no volume was made")?;
    let mut figures = reads(&target, None, volume).await?;
    changes(&target, cycles::SMALL, &mut figures).await?;
    figures["connections"] = json!(CONNECTIONS);
    Ok(figures)
}

/// As many volumes as are made.
async fn allow(target: &Target, project: &str) -> anyhow::Result<()> {
    let quotas = json!({ "quota_set": { "volumes": -1, "gigabytes": -1 } });
    let request = target.request("PUT", &format!("/os-quota-sets/{project}"), Some(&quotas));
    Connection::open(target).await?.ask(&request).await?;
    Ok(())
}
