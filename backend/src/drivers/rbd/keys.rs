//! A Ceph user for each attachment, `client.bowline.ATTACHMENT`: its key opens one image and what that was cloned from, and goes with
//! the attachment. A host that is connected keeps what it has until its ticket ends (`auth_service_ticket_ttl`, an hour), so a key is
//! no fence: that the guest has let go is for the one who detaches to know.

use serde::Deserialize;
use uuid::Uuid;

use super::super::DriverError;
use super::cluster::{CEPH, Cluster, parse};
use super::image::{Info, Parent};
use super::{failed, image};
use crate::command::CommandError;
use crate::config::Rbd;
use crate::domain::ChapAccount;
use crate::secret::Secret;

/// The user that is made and removed to see whether that is allowed.
const PROBE: &str = "bowline.check";

/// What a client may do on the monitors: find its way, and shut out the dead holder of an image's lock.
const MON: &str = "profile rbd";

/// `ceph auth get-or-create --format json`.
#[derive(Deserialize)]
struct Entity {
    key: String,
}

/// The user of an attachment, without `client.`.
pub(super) fn user(attachment_id: Uuid) -> String {
    format!("bowline.{attachment_id}")
}

impl Cluster {
    /// Makes a user that may open a volume's image and nothing else.
    pub(super) async fn make_key(&self, id: Uuid, attachment_id: Uuid, read_only: bool) -> Result<ChapAccount, DriverError> {
        let name = image(id);
        let found = self.find(&name).await.map_err(failed(id, "look at its image"))?;
        let Some(found) = found else {
            let problem = format!("volume {id} has no image {}", self.spec(&name));
            return Err(DriverError::Unready { problem, source: None });
        };
        let ancestors = self.ancestors(&found).await.map_err(failed(id, "look at what its image was cloned from"))?;
        let rights = self.rights(&name, &found, &ancestors, read_only);
        let username = user(attachment_id);
        // One that is there was made by a try that was cut off, or for another host.
        self.remove_key(&username).await.map_err(failed(id, "remove an older key for it"))?;
        let entity = self.get_or_create(&username, &rights).await.map_err(failed(id, "make a key for it"))?;
        Ok(ChapAccount { username, password: Secret::new(entity.key) })
    }

    /// Removes a user. Ceph says that all is well where there is none.
    pub(super) async fn remove_key(&self, user: &str) -> Result<(), CommandError> {
        self.ceph(["auth", "rm", &format!("client.{user}")]).await.map(drop)
    }

    /// Sees whether users can be made and removed.
    pub(super) async fn check_keys(&self) -> Result<(), DriverError> {
        let tried = async {
            self.remove_key(PROBE).await?;
            self.get_or_create(PROBE, "").await?;
            self.remove_key(PROBE).await
        };
        tried.await.map_err(|error| {
            let user = &self.settings.user;
            let pool = &self.settings.pool;
            let allowed = |what: &str| format!("allow command \"{what}\" with entity prefix \"client.bowline.\"");
            let problem = format!(
                "attachment_keys is set, but client.{user} may not make keys: `ceph auth caps client.{user} mon '{MON}, {}, {}' osd \
                 'profile rbd pool={pool}'`, or set it to false",
                allowed("auth get-or-create"),
                allowed("auth rm")
            );
            DriverError::Unready { problem, source: Some(error) }
        })
    }

    async fn get_or_create(&self, user: &str, osd: &str) -> Result<Entity, CommandError> {
        let entity = format!("client.{user}");
        let mut words = vec!["auth", "get-or-create", &entity, "mon", MON];
        if !osd.is_empty() {
            words.extend(["osd", osd]);
        }
        words.extend(["--format", "json"]);
        let text = self.ceph(words).await?;
        let (entity,) = parse(CEPH, &text)?;
        Ok(entity)
    }

    /// What a client needs to open one image: its objects, to read those of its ancestors, and the pool's directories, which hold
    /// names.
    fn rights(&self, name: &str, own: &Info, ancestors: &[(Parent, Info)], read_only: bool) -> String {
        let Rbd { pool, namespace, .. } = &self.settings;
        let mut rights = vec![format!("allow rx {} object_prefix rbd_id.{name}", scope(pool, namespace))];
        rights.extend(objects(pool, namespace, own, if read_only { "rx" } else { "rwx" }));
        let mut places = vec![scope(pool, namespace)];
        for (Parent { pool, pool_namespace, .. }, info) in ancestors {
            rights.extend(objects(pool, pool_namespace, info, "rx"));
            let there = scope(pool, pool_namespace);
            if !places.contains(&there) {
                places.push(there);
            }
        }
        for place in places {
            for object in ["rbd_info", "rbd_directory", "rbd_trash", "rbd_mirroring"] {
                rights.push(format!("allow rx {place} object_prefix {object}"));
            }
        }
        rights.join(", ")
    }
}

/// Rights on the objects of an image.
fn objects(pool: &str, namespace: &str, info: &Info, what: &str) -> [String; 3] {
    let Info { id, block_name_prefix, data_pool, .. } = info;
    let here = scope(pool, namespace);
    let data = scope(data_pool.as_deref().unwrap_or(pool), namespace);
    [
        format!("allow {what} {here} object_prefix rbd_header.{id}"),
        format!("allow {what} {here} object_prefix rbd_object_map.{id}"),
        // The dot keeps out an image whose id begins as this one's.
        format!("allow {what} {data} object_prefix {block_name_prefix}."),
    ]
}

/// The default namespace has to be named where it is meant: without a word about it, a right is good for all of them.
fn scope(pool: &str, namespace: &str) -> String {
    let namespace = if namespace.is_empty() { "\"\"" } else { namespace };
    format!("pool={pool} namespace={namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_written_its_ancestors_are_read_and_nothing_else_is_touched() {
        let info = |id: &str, data_pool: Option<&str>| Info {
            id: id.to_owned(),
            size: 1,
            block_name_prefix: format!("rbd_data.{id}"),
            data_pool: data_pool.map(str::to_owned),
            parent: None,
        };
        let parent = Parent { pool: "images".into(), pool_namespace: "ns".into(), id: "22".into() };
        let cluster = Cluster::new(Rbd::default());
        let rights = cluster.rights("volume-x", &info("11", Some("data")), &[(parent, info("22", None))], false);
        let writes: Vec<&str> = rights.split(", ").filter(|right| right.contains("rwx")).collect();
        assert_eq!(
            writes,
            [
                "allow rwx pool=volumes namespace=\"\" object_prefix rbd_header.11",
                "allow rwx pool=volumes namespace=\"\" object_prefix rbd_object_map.11",
                "allow rwx pool=data namespace=\"\" object_prefix rbd_data.11.",
            ]
        );
        assert!(rights.contains("allow rx pool=images namespace=ns object_prefix rbd_data.22."), "{rights}");
        assert!(rights.split(", ").all(|right| right.contains("object_prefix ")), "{rights}");
        assert!(!cluster.rights("volume-x", &info("11", None), &[], true).contains("rwx"));
    }
}
