//! Opening what a role stands on, by the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Api, Common, ServerError, first_password};
use crate::accept::Accept;
use crate::api::{Service, Shared, Watchers};
use crate::auth::{AuthError, Identity, KeystoneTokens, LocalTokens, Roles, ServiceUser, Validator};
use crate::backup::{self, ObjectStore, StoreFault};
use crate::config::{Config, KeyManagerKind, TargetKind};
use crate::drivers;
use crate::identity::People;
use crate::image::{Glance, ImageFiles};
use crate::keys::{Barbican, KeyManager, Vault};
use crate::nova::Nova;
use crate::secret::Secret;
use crate::store::{ServiceIdentity, Store};
use crate::targets::lio::LioTarget;
use crate::targets::tgt::{Daemon, ManagedTgtd, TgtTarget};
use crate::targets::{NoTarget, Target, TargetError};
use crate::volume::{HostParts, VolumeError, VolumeHost};

/// Who tells whom tokens speak for.
fn validator(
    config: &Config,
    store: &Store,
    token: &Secret,
    identity: &ServiceIdentity,
) -> Result<Arc<dyn Validator>, ServerError> {
    let ServiceIdentity { user_id, project_id, .. } = identity;
    if config.keystone.auth_url.is_empty() {
        return Ok(Arc::new(LocalTokens::new(store.clone(), token, user_id, project_id)));
    }
    let roles = Roles::of(["admin", "service"]);
    let operator = Identity { user_id: user_id.clone(), project_id: project_id.clone(), roles };
    Ok(Arc::new(KeystoneTokens::new(ServiceUser::new(&config.keystone)?, (token, operator))))
}

/// The Glance that has the images, where one does.
fn open_glance(config: &Config) -> Result<Option<Arc<Glance>>, ServerError> {
    if config.images.glance_url.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Glance::new(&config.images.glance_url, ServiceUser::new(&config.keystone)?)?)))
}

/// The Nova that is told of what it waits for, where Keystone says where it is.
fn open_nova(config: &Config) -> Result<Option<Nova>, AuthError> {
    if config.keystone.auth_url.is_empty() {
        return Ok(None);
    }
    Ok(Some(Nova::new(ServiceUser::new(&config.keystone)?)?))
}

/// The images' directory, for one role of this machine.
fn open_images(common: &Common<'_>, role: &str) -> Result<ImageFiles, ServerError> {
    let settings = &common.config.images;
    let directory = settings.directory.clone().unwrap_or_else(|| common.state_dir.images());
    Ok(ImageFiles::open(directory, &format!("{}-{role}", common.config.host_name()), settings)?)
}

/// What opens keys that are in the database. One that does not open those that are there is refused: with another file in the old one's
/// place new volumes would be made that only it opens.
async fn open_vault(common: &Common<'_>) -> Result<Vault, ServerError> {
    Ok(common.vault.get_or_try_init(|| try_vault(common)).await?.clone())
}

async fn try_vault(common: &Common<'_>) -> Result<Vault, ServerError> {
    let settings = &common.config.key_manager;
    let file = settings.master_key_file.as_deref();
    let vault = Vault::new(&common.state_dir.master_key(file)?);
    if let Some((id, sealed)) = common.store.oldest_kept_key().await? {
        if settings.kind == KeyManagerKind::Barbican {
            return Err(ServerError::KeysHere);
        }
        let path = common.state_dir.master_key_file(file);
        vault.open(id, &sealed).map_err(|source| ServerError::MasterKey { path, source })?;
    }
    Ok(vault)
}

/// Who has the keys of encrypted volumes.
async fn open_keys(common: &Common<'_>) -> Result<KeyManager, ServerError> {
    let settings = &common.config.key_manager;
    let barbican = match settings.kind {
        KeyManagerKind::Local => None,
        KeyManagerKind::Barbican => {
            let url = Some(settings.url.as_str()).filter(|url| !url.is_empty());
            Some(Barbican::new(url, ServiceUser::new(&common.config.keystone)?)?)
        }
    };
    Ok(KeyManager::new(common.store.clone(), open_vault(common).await?, barbican))
}

/// Where backups are.
pub(super) fn open_backups(common: &Common<'_>) -> Result<Arc<dyn ObjectStore>, StoreFault> {
    backup::open_store(&common.config.backup, common.state_dir.backups())
}

/// What answers clients.
pub(super) async fn open_api(
    common: &Common<'_>,
    identity: &ServiceIdentity,
    listener: TcpListener,
    address: SocketAddr,
) -> Result<Api, ServerError> {
    let token = common.state_dir.token()?;
    let store = common.store.clone();
    let (people, password) = if common.config.keystone.auth_url.is_empty() {
        let people = People::new(store.clone());
        let password = first_password(common.state_dir, &store, &people, identity).await?;
        (Some(people), password)
    } else {
        (None, None)
    };
    let tokens = validator(common.config, &store, &token, identity)?;
    let keys = open_keys(common).await?;
    common.state_dir.write_clouds_yaml(address, &token, password.as_ref(), keys.is_local())?;
    let images = open_images(common, "api")?;
    store.abort_image_uploads(images.who()).await?;
    store.release_keys_of(images.who()).await?;
    images.keep_only(&store.image_ids().await?)?;
    let service = Service::new(Shared {
        accept: Accept::new(store.clone(), common.bus.clone(), common.config.quota.clone()),
        tokens,
        store,
        closing: watch::channel(false).0,
        watchers: Watchers::default(),
        identity: identity.clone(),
        availability_zone: common.config.availability_zone.clone(),
        images,
        glance: open_glance(common.config)?,
        keys,
        people,
    });
    Ok(Api { listener, address, service })
}

async fn open_target(common: &Common<'_>, identity: &ServiceIdentity) -> Result<Arc<dyn Target>, ServerError> {
    if !common.config.needs_target() {
        return Ok(Arc::new(NoTarget::default()));
    }
    let (tgt, lio) = (&common.config.targets.tgt, &common.config.targets.lio);
    let portals = |first: &SocketAddr, more: &[SocketAddr]| [first].into_iter().chain(more).map(ToString::to_string).collect();
    if common.config.targets.kind == TargetKind::Lio {
        // Several services may use the kernel of one machine, of one installation or of several.
        let whole = format!("{} {}", identity.project_id, common.config.host_name());
        let mut owner = Uuid::new_v5(&Uuid::NAMESPACE_OID, whole.as_bytes()).simple().to_string();
        owner.truncate(8);
        return Ok(Arc::new(LioTarget::open(&owner, portals(&lio.portal, &lio.extra_portals))?));
    }
    let daemon = if tgt.manage {
        Daemon::start(ManagedTgtd { program: tgt.program.clone(), directory: common.state_dir.run() }).await
    } else {
        Daemon::adopt(tgt.control_socket.clone()).await
    };
    Ok(Arc::new(TgtTarget::new(daemon.map_err(ServerError::Tgt)?, portals(&tgt.portal, &tgt.extra_portals))))
}

/// What keeps volumes, and what shows them to hosts.
pub(super) async fn open_host(
    common: &Common<'_>,
    identity: &ServiceIdentity,
) -> Result<(VolumeHost, Arc<dyn Target>), ServerError> {
    let target = open_target(common, identity).await?;
    let opened = Opened {
        images: open_images(common, "volume")?,
        glance: open_glance(common.config)?,
        nova: open_nova(common.config)?,
        backups: open_backups(common)?,
        vault: open_vault(common).await?,
    };
    match start_host(common, target.clone(), opened).await {
        Ok(host) => Ok((host, target)),
        Err(error) => {
            target.stop().await;
            Err(match error {
                VolumeError::Target(
                    error @ (TargetError::PortalTaken { .. } | TargetError::Portal { .. } | TargetError::Lio(_)),
                ) => ServerError::Portal(error),
                other => ServerError::Restore(other),
            })
        }
    }
}

/// What a volume host needs beside its storage and its target.
struct Opened {
    images: ImageFiles,
    glance: Option<Arc<Glance>>,
    nova: Option<Nova>,
    backups: Arc<dyn ObjectStore>,
    vault: Vault,
}

async fn start_host(
    common: &Common<'_>,
    target: Arc<dyn Target>,
    Opened { images, glance, nova, backups, vault }: Opened,
) -> Result<VolumeHost, VolumeError> {
    let config = common.config;
    let name = config.host_name();
    let backends: std::collections::BTreeMap<_, _> = config
        .all_backends()
        .into_iter()
        .map(|(backend_name, backend)| {
            let driver = drivers::open(&backend, common.state_dir.volumes(), &common.state_dir.mounts());
            (format!("{name}@{backend_name}"), (backend, driver))
        })
        .collect();
    if let Some((first, (backend, _))) = backends.iter().next() {
        common.store.adopt_volumes(&format!("{first}#{}", backend.backend_name)).await?;
    }
    let parts = HostParts {
        store: common.store.clone(),
        backends,
        target,
        availability_zone: config.availability_zone.clone(),
        owner: common.owner.clone(),
        images,
        glance,
        nova,
        cached_images: config.images.cached,
        copy_held_max_bytes: config.targets.tgt.copy_held_max_mib.saturating_mul(1 << 20),
        backups,
        vault,
        stopping: common.stopping.clone(),
    };
    let host = VolumeHost::start(parts).await?;
    tokio::spawn(host.clone().keep_reporting(common.stopping.clone()));
    Ok(host)
}
