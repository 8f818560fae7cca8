//! Volumes: show, find, list, create, delete, and waiting for one to get somewhere.

use super::{
    OpenstackError, Operation, VolumeService,
    volume_service::{Call, Repeat},
    wire::{VolumeEnvelope, VolumePage, next_marker, with},
};
use crate::model::{ErrorKind, ImageId, NewVolume, Volume, VolumeId, VolumeOrigin};
use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Pauses between looks at a volume that is on its way. Cinder's API offers no event to wait on. A thin volume is ready within
/// 100 ms; one made from an image takes minutes.
const LOOK_MIN: Duration = Duration::from_millis(100);
/// Longest pause between looks.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Growth of the pause from look to look.
const LOOK_FACTOR: f32 = 1.5;
/// More pages than any project has; a bound on a service that links in circles.
pub(super) const PAGES_MAX: usize = 1000;

/// The microversion that writes images over volumes: `os-reimage`. Cinder has it since the release Yoga.
const REIMAGE: &str = "volume 3.68";

impl VolumeService {
    /// The volume with this id.
    pub async fn volume(&self, id: VolumeId) -> Result<Volume, OpenstackError> {
        let operation = Operation::ShowVolume(id);
        let answer = self.call(Call::get(operation.clone(), format!("volumes/{id}"))).await?;
        Ok(answer.json::<VolumeEnvelope>(&operation)?.volume.into())
    }

    /// The volume with this id, or else the only one with this name.
    pub async fn find_volume(&self, name_or_id: &str) -> Result<Volume, OpenstackError> {
        if let Ok(id) = name_or_id.parse() {
            match self.volume(id).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => return result,
            }
        }
        let operation = Operation::FindVolume(name_or_id.to_owned());
        let mut volumes = self.pages(operation, Some(name_or_id)).await?;
        // Asked again here: a service may not know the filter, or match parts.
        volumes.retain(|volume| volume.name == name_or_id);
        match (volumes.pop(), volumes.len()) {
            (Some(only), 0) => Ok(only),
            (Some(_), others) => Err(OpenstackError::AmbiguousName { name: name_or_id.to_owned(), count: others + 1 }),
            (None, _) => Err(OpenstackError::NoSuchVolume { name: name_or_id.to_owned() }),
        }
    }

    /// Every volume of the project, all pages of them.
    pub async fn volumes(&self) -> Result<Vec<Volume>, OpenstackError> {
        self.pages(Operation::ListVolumes, None).await
    }

    async fn pages(&self, operation: Operation, name: Option<&str>) -> Result<Vec<Volume>, OpenstackError> {
        let mut volumes = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = Vec::new();
            query.extend(name.map(|name| ("name", name)));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let call = Call { query: &query, ..Call::get(operation.clone(), "volumes/detail") };
            let answer = self.call(call).await?;
            let page: VolumePage = answer.json(&operation)?;
            let next = next_marker(&page.volumes_links);
            volumes.extend(page.volumes.into_iter().map(Volume::from));
            if next.is_none() {
                return Ok(volumes);
            }
            if next == marker {
                return Err(answer.unintelligible(&operation, "a page that links to itself"));
            }
            marker = next;
        }
        Err(OpenstackError::Unintelligible {
            operation,
            status: 200,
            problem: format!("more than {PAGES_MAX} pages"),
            request_id: None,
        })
    }

    /// Creates a volume; it is `creating` when this returns. Sent again only to a service that keeps idempotency keys: see [`OpenstackError::outcome_unknown`].
    pub async fn create_volume(&self, new: &NewVolume) -> Result<Volume, OpenstackError> {
        let operation = Operation::CreateVolume(new.name.clone());
        let mut volume = json!({"size": new.size_gib});
        if !new.name.is_empty() {
            volume = with(volume, "name", new.name.as_str());
        }
        if let Some(volume_type) = &new.volume_type {
            volume = with(volume, "volume_type", volume_type.as_str());
        }
        if new.multiattach {
            volume = with(volume, "multiattach", true);
        }
        match new.origin {
            VolumeOrigin::Blank => {}
            VolumeOrigin::Image(image) => volume = with(volume, "imageRef", image.to_string()),
            VolumeOrigin::Snapshot(snapshot) => volume = with(volume, "snapshot_id", snapshot.to_string()),
        }
        let call = Call {
            method: Method::POST,
            body: Some(json!({"volume": volume})),
            repeat: Repeat::Keyed,
            ..Call::get(operation.clone(), "volumes")
        };
        let answer = self.call(call).await?;
        let volume: Volume = answer.json::<VolumeEnvelope>(&operation)?.volume.into();
        self.note_begun(volume.id, &answer);
        Ok(volume)
    }

    /// Asks for a volume's deletion; [`VolumeService::wait_volume_gone`] tells its end.
    pub async fn delete_volume(&self, id: VolumeId) -> Result<(), OpenstackError> {
        let call = Call {
            method: Method::DELETE,
            repeat: Repeat::Idempotent,
            ..Call::get(Operation::DeleteVolume(id), format!("volumes/{id}"))
        };
        self.call(call).await.map(|answer| self.note_begun(id, &answer))
    }

    /// Asks for a larger volume, attached or not; [`VolumeService::wait_volume_extended`] tells the end. Sent again
    /// only to a service that keeps idempotency keys: elsewhere a second one would be refused, or be another extension.
    pub async fn extend_volume(&self, id: VolumeId, size_gib: u64) -> Result<(), OpenstackError> {
        let call = Call {
            method: Method::POST,
            body: Some(json!({"os-extend": {"new_size": size_gib}})),
            repeat: Repeat::Keyed,
            ..Call::get(Operation::ExtendVolume { volume: id, size_gib }, format!("volumes/{id}/action"))
        };
        self.call(call).await.map(|answer| self.note_begun(id, &answer))
    }

    /// Waits until a volume is not being extended any more, and gives the volume: its size tells what became of it. Ends early
    /// when the extension fails.
    pub async fn wait_volume_extended(&self, id: VolumeId, deadline: Instant) -> Result<Volume, OpenstackError> {
        self.wait(id, "extended", deadline, |found| {
            let volume = found?;
            match volume.status.as_str() {
                "extending" => Ok(Look::NotYet(volume.status)),
                status if status.starts_with("error") => Err(failed(id, status, "extended")),
                _ => Ok(Look::Done(volume)),
            }
        })
        .await
    }

    /// The volume with this id, of a service that can write an image over a volume: one that cannot refuses the question.
    pub async fn volume_to_reimage(&self, id: VolumeId) -> Result<Volume, OpenstackError> {
        let operation = Operation::ShowVolume(id);
        let call = Call { microversion: REIMAGE, ..Call::get(operation.clone(), format!("volumes/{id}")) };
        let answer = self.call(call).await.map_err(OpenstackError::wanting_reimage)?;
        Ok(answer.json::<VolumeEnvelope>(&operation)?.volume.into())
    }

    /// Asks that an image is written over what a volume has, which is reserved for a guest; [`VolumeService::wait_volume_reimaged`] tells
    /// the end. Sent again only to a service that keeps idempotency keys: elsewhere a second one would be refused while the first is
    /// at it.
    pub async fn reimage_volume(&self, id: VolumeId, image: ImageId) -> Result<(), OpenstackError> {
        let call = Call {
            method: Method::POST,
            body: Some(json!({"os-reimage": {"image_id": image.to_string(), "reimage_reserved": true}})),
            repeat: Repeat::Keyed,
            microversion: REIMAGE,
            ..Call::get(Operation::ReimageVolume { volume: id, image }, format!("volumes/{id}/action"))
        };
        let answer = self.call(call).await.map_err(OpenstackError::wanting_reimage)?;
        self.note_begun(id, &answer);
        Ok(())
    }

    /// Waits until no image is being written over a volume any more. Ends early when that fails.
    pub async fn wait_volume_reimaged(&self, id: VolumeId, deadline: Instant) -> Result<(), OpenstackError> {
        self.wait(id, "reserved", deadline, |found| {
            let volume = found?;
            match volume.status.as_str() {
                "downloading" => Ok(Look::NotYet(volume.status)),
                status if status.starts_with("error") => Err(failed(id, status, "reserved")),
                _ => Ok(Look::Done(())),
            }
        })
        .await
    }

    /// Waits until a volume's status is `want`, and gives the volume. Ends early when the status becomes an error.
    pub async fn wait_volume_status(&self, id: VolumeId, want: &str, deadline: Instant) -> Result<Volume, OpenstackError> {
        self.wait(id, want, deadline, |found| {
            let volume = found?;
            match volume.status.as_str() {
                status if status == want => Ok(Look::Done(volume)),
                status if status.starts_with("error") => Err(failed(id, status, want)),
                _ => Ok(Look::NotYet(volume.status)),
            }
        })
        .await
    }

    /// Waits until a volume is gone. Ends early when its deletion fails.
    pub async fn wait_volume_gone(&self, id: VolumeId, deadline: Instant) -> Result<(), OpenstackError> {
        self.wait(id, "deleted", deadline, |found| match found {
            Err(error) if error.status() == Some(404) => Ok(Look::Done(())),
            Err(error) => Err(error),
            Ok(volume) if volume.status == "error_deleting" => Err(failed(id, &volume.status, "deleted")),
            Ok(volume) => Ok(Look::NotYet(volume.status)),
        })
        .await
    }

    /// A service that tells of its operations is listened to. Any other tells nobody when a status changes, so it is looked at: often
    /// at first, ever more seldom later.
    async fn wait<T: Send>(
        &self,
        id: VolumeId,
        want: &str,
        deadline: Instant,
        judge: impl Fn(Result<Volume, OpenstackError>) -> Result<Look<T>, OpenstackError> + Send,
    ) -> Result<T, OpenstackError> {
        let mut pauses = looks();
        let mut last = "unknown".to_owned();
        let looking = async {
            loop {
                match judge(self.volume(id).await)? {
                    Look::Done(done) => return Ok(done),
                    Look::NotYet(status) => last = status,
                }
                if !self.watch_begun(id).await {
                    tokio::time::sleep(pauses.next().unwrap_or(LOOK_MAX)).await;
                }
            }
        };
        match timeout_at(deadline, looking).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.with_cause(error).await),
            Err(_) => Err(OpenstackError::WaitedTooLong { volume: id, status: last, wanted: want.to_owned() }),
        }
    }
}

/// Pauses between looks at what is on its way: short at first, ever longer later, and jittered.
pub(super) fn looks() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(LOOK_MIN)
        .with_max_delay(LOOK_MAX)
        .with_factor(LOOK_FACTOR)
        .with_jitter()
        .without_max_times()
        .build()
}

/// What a look at a volume says of what is waited for.
enum Look<T> {
    Done(T),
    /// Not there yet; the status it has.
    NotYet(String),
}

fn failed(id: VolumeId, status: &str, want: &str) -> OpenstackError {
    OpenstackError::VolumeFailed { volume: id, status: status.to_owned(), wanted: want.to_owned(), cause: None }
}
