//! The servers that this configuration names: reached, and logged in to, as the service would.

use std::time::Duration;

use uuid::Uuid;

use super::Finding;
use crate::auth::{Identity, KeystoneTokens, Roles, ServiceUser, Validator as _};
use crate::bus::RabbitBus;
use crate::config::Config;
use crate::image::Glance;
use crate::secret::Secret;
use crate::store::Store;
use crate::volume::chain;

/// How long each may take.
const WITHIN: Duration = Duration::from_secs(5);

/// All of it.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if !config.database.url.is_empty() {
        let reached = tokio::time::timeout(WITHIN, Store::reach(&config.database.url)).await;
        let reached = reached.map_err(|_| late()).and_then(|reached| reached.map_err(|error| chain(&error)));
        found.push(told("PostgreSQL", reached, "check [database] url: psql URL -c 'SELECT 1' must answer from here"));
    }
    if !config.bus.url.is_empty() {
        let reached = RabbitBus::connect(&config.bus.url, WITHIN).await.map(drop).map_err(|error| chain(&error));
        found.push(told("RabbitMQ", reached, "check [bus] url, and on the broker: rabbitmqctl list_users, list_permissions"));
    }
    if !config.keystone.auth_url.is_empty() {
        let mend = "check [keystone]: openstack token issue with the same user must work from here";
        found.push(told("Keystone", keystone(config).await, mend));
    }
    if !config.images.glance_url.is_empty() {
        let mend = "check [images] glance_url: openstack image list as the user of [keystone] must work from here";
        found.push(told("Glance", glance(config).await, mend));
    }
    found
}

fn late() -> String {
    format!("no answer within {} s", WITHIN.as_secs())
}

fn told(check: &str, reached: Result<(), String>, mend: &str) -> Finding {
    match reached {
        Ok(()) => Finding::ok(check, "reached, and it lets this service in"),
        Err(cause) => Finding::failed(check, cause, mend),
    }
}

fn user(config: &Config) -> Result<ServiceUser, String> {
    ServiceUser::new(&config.keystone).map_err(|error| chain(&error))
}

/// Asks for one image.
async fn glance(config: &Config) -> Result<(), String> {
    let glance = Glance::new(&config.images.glance_url, user(config)?).map_err(|error| chain(&error))?;
    let asked = tokio::time::timeout(WITHIN, glance.find(Uuid::nil())).await.map_err(|_| late())?;
    asked.map(drop).map_err(|error| chain(&error))
}

/// Asks for a token that nobody has: the answer takes a login of the service's own.
async fn keystone(config: &Config) -> Result<(), String> {
    let nobody = Identity { user_id: String::new(), project_id: String::new(), roles: Roles::default() };
    let operator = (&Secret::random(32), nobody);
    let tokens = KeystoneTokens::new(user(config)?, operator);
    let asked = tokio::time::timeout(WITHIN, tokens.validate(b"gAAAAA-of-nobody")).await.map_err(|_| late())?;
    asked.map(drop).map_err(|error| chain(&error))
}
