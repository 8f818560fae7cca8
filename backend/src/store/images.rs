//! Images in the database. A row is there before its bytes are and gone before they are, so that bytes without a row are nobody's.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::engine::{Row, Session, Sql, Value};
use super::{SortDirection, Store, StoreError, now_us};
use crate::domain::{Image, ImageFacts, ImageMember, ImageStatus, MemberStatus, Refusal, Visibility};

/// An image that was asked for and found valid.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// Chosen by the client or the service.
    pub id: Uuid,
    /// Whose it is to be.
    pub project_id: String,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Who sees it.
    pub visibility: Visibility,
    /// Whether it must not be deleted.
    pub protected: bool,
    /// What its bytes are to be.
    pub disk_format: Option<String>,
    /// What they are to be wrapped in.
    pub container_format: Option<String>,
    /// The smallest volume it fits, in GiB.
    pub min_disk_gib: u64,
    /// The least memory a guest of it needs, in MiB.
    pub min_ram_mib: u64,
    /// The owner's key-value pairs.
    pub properties: BTreeMap<String, String>,
    /// The owner's words for it.
    pub tags: BTreeSet<String>,
}

/// What images can be ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageSort {
    /// When they were accepted.
    #[default]
    CreatedAt,
    /// Their name.
    Name,
    /// Their size.
    Size,
    /// Their status.
    Status,
    /// Their id.
    Id,
    /// When they last changed.
    UpdatedAt,
    /// What their bytes are.
    DiskFormat,
}

impl ImageSort {
    /// The key the API spells so.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "created_at" => Self::CreatedAt,
            "name" => Self::Name,
            "size" => Self::Size,
            "status" => Self::Status,
            "id" => Self::Id,
            "updated_at" => Self::UpdatedAt,
            "disk_format" => Self::DiskFormat,
            _ => return None,
        })
    }

    /// Never null, so that "after the marker" is a plain comparison.
    fn expression(self) -> &'static str {
        match self {
            Self::CreatedAt => "seq",
            Self::Name => "COALESCE(name, '')",
            Self::Size => "COALESCE(size_bytes, 0)",
            Self::Status => "status",
            Self::Id => "id",
            Self::UpdatedAt => "COALESCE(updated_at_us, created_at_us)",
            Self::DiskFormat => "COALESCE(disk_format, '')",
        }
    }
}

/// Which images to list; `None` is any.
#[derive(Clone, Debug)]
pub struct ImageFilter {
    /// Those that this project sees; `None` is an administrator, who sees all.
    pub seen_by: Option<String>,
    /// Whether images that were offered to the project are listed: those it accepted, or those in this status.
    pub member_status: Option<MemberStatus>,
    /// Columns that must be equal: `name`, `status`, `visibility`, `project_id`, `disk_format`, `container_format`, `id`,
    /// `checksum`, `hash_value`.
    pub equal: Vec<(&'static str, String)>,
    /// Whether they must not be deleted.
    pub protected: Option<bool>,
    /// At least so many bytes.
    pub size_min: Option<u64>,
    /// At most so many bytes.
    pub size_max: Option<u64>,
    /// Those with all of these pairs.
    pub properties: Vec<(String, String)>,
    /// Those with all of these words.
    pub tags: Vec<String>,
    /// In this order, then by age.
    pub sort: ImageSort,
    /// Which way.
    pub direction: SortDirection,
    /// After this one.
    pub marker: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
}

impl Store {
    /// Records an image, without bytes.
    pub async fn insert_image(&self, new: NewImage) -> Result<Image, StoreError> {
        let mut tx = self.begin().await?;
        let id = new.id;
        insert(&mut tx, new).await?;
        tx.made("image", id);
        let image = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// Reads one image; refused as "not found" where there is none.
    pub async fn image(&self, id: Uuid) -> Result<Image, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// Lists images.
    pub async fn images(&self, filter: &ImageFilter) -> Result<Vec<Image>, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT * FROM images WHERE 1 = 1");
        conditions(&mut query, filter, session.is_postgres());
        let key = filter.sort.expression();
        let (order, beyond) = match filter.direction {
            SortDirection::Asc => ("ASC", ">"),
            SortDirection::Desc => ("DESC", "<"),
        };
        if let Some(marker) = filter.marker {
            find(&mut session, marker).await?;
            let after = format!(" AND ({key}, seq) {beyond} (SELECT {key}, seq FROM images WHERE id = ");
            query.push_bind(&after, marker).push(")");
        }
        query.push_bind(&format!(" ORDER BY {key} {order}, seq {order} LIMIT "), filter.limit);
        session.all("list images", query).await?.iter().map(image).collect()
    }

    /// Changes what the owner may change. `change` sees the image as it is, and may refuse.
    pub async fn change_image(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut Image) -> Result<(), Refusal> + Send,
    ) -> Result<Image, StoreError> {
        let mut tx = self.begin().await?;
        let mut image = lock(&mut tx, id).await?;
        change(&mut image)?;
        let update = Sql::update(
            "images",
            [
                ("name", image.name.into()),
                ("status", image.status.as_str().into()),
                ("project_id", image.project_id.into()),
                ("visibility", image.visibility.as_str().into()),
                ("protected", image.protected.into()),
                ("disk_format", image.disk_format.into()),
                ("container_format", image.container_format.into()),
                ("min_disk_gib", image.min_disk_gib.into()),
                ("min_ram_mib", image.min_ram_mib.into()),
                ("properties", Value::from(&image.properties)),
                ("tags", tags_value(&image.tags)),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change an image", update.filter("id = ", id)).await?;
        let image = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// Records that bytes are coming, to this machine. Only an image without bytes takes any.
    pub async fn begin_image_upload(&self, id: Uuid, host: &str) -> Result<Image, StoreError> {
        let mut tx = self.begin().await?;
        let image = lock(&mut tx, id).await?;
        if image.status != ImageStatus::Queued {
            return Err(Refusal::ImageState { image_id: id, status: image.status, what: "given data" }.into());
        }
        set_status(&mut tx, id, ImageStatus::Saving, Some(host)).await?;
        tx.commit().await?;
        Ok(Image { status: ImageStatus::Saving, ..image })
    }

    /// Records that the bytes are there; false where the image was deleted meanwhile.
    pub async fn end_image_upload(&self, id: Uuid, facts: &ImageFacts) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update(
            "images",
            [
                ("status", ImageStatus::Active.as_str().into()),
                ("size_bytes", facts.size_bytes.into()),
                ("virtual_bytes", facts.virtual_bytes.into()),
                ("checksum", facts.checksum.as_str().into()),
                ("hash_algo", "sha512".into()),
                ("hash_value", facts.hash_value.as_str().into()),
                ("location", Value::Text(None)),
                ("updated_at_us", now_us().into()),
            ],
        );
        let update = update.filter("id = ", id).filter("status = ", ImageStatus::Saving.as_str());
        let done = tx.execute("record an image's data", update).await? == 1;
        tx.commit().await?;
        Ok(done)
    }

    /// Records that the bytes did not come, or were refused.
    pub async fn abort_image_upload(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let image = find_locked(&mut tx, id).await?;
        if image.is_some_and(|image| image.status == ImageStatus::Saving) {
            set_status(&mut tx, id, ImageStatus::Queued, None).await?;
        }
        tx.commit().await
    }

    /// The same for all whose bytes were coming to this machine, which is just starting.
    pub async fn abort_image_uploads(&self, host: &str) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("images", [("status", ImageStatus::Queued.as_str().into()), ("location", Value::Text(None))]);
        let update = update.filter("status = ", ImageStatus::Saving.as_str()).filter("location = ", host);
        let aborted = tx.execute("requeue images", update).await?;
        tx.commit().await?;
        Ok(aborted)
    }

    /// Forgets an image, where it may be.
    pub async fn delete_image(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let image = lock(&mut tx, id).await?;
        if image.protected {
            return Err(Refusal::ImageProtected(id).into());
        }
        tx.execute("forget an image's members", Sql::new("DELETE FROM image_members").filter("image_id = ", id)).await?;
        tx.execute("forget an image", Sql::new("DELETE FROM images").filter("id = ", id)).await?;
        tx.commit().await
    }

    /// The ids of all images.
    pub async fn image_ids(&self) -> Result<BTreeSet<Uuid>, StoreError> {
        let rows = self.read().await?.all("list images", Sql::new("SELECT id FROM images")).await?;
        rows.iter().map(|row| row.uuid("id")).collect()
    }

    /// Whom an image was offered to.
    pub async fn image_members(&self, image_id: Uuid) -> Result<Vec<ImageMember>, StoreError> {
        let query = Sql::new("SELECT * FROM image_members").filter("image_id = ", image_id);
        let rows = self.read().await?.all("list members", query).await?;
        let mut members = rows.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        members.sort_by(|a, b| a.project_id.cmp(&b.project_id));
        Ok(members)
    }

    /// Offers an image to a project.
    pub async fn insert_image_member(&self, image_id: Uuid, project_id: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, image_id).await?;
        let mut insert = Sql::insert(
            "image_members",
            [
                ("image_id", image_id.into()),
                ("project_id", project_id.into()),
                ("status", MemberStatus::Pending.as_str().into()),
            ],
        );
        insert.push(" ON CONFLICT DO NOTHING");
        let inserted = tx.execute("offer an image", insert).await? == 1;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Records what a project makes of an image; false where it was not offered.
    pub async fn set_image_member(&self, image_id: Uuid, project_id: &str, to: MemberStatus) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("image_members", [("status", to.as_str().into())]);
        let update = update.filter("image_id = ", image_id).filter("project_id = ", project_id);
        let changed = tx.execute("change a member", update).await? == 1;
        tx.commit().await?;
        Ok(changed)
    }

    /// Takes an offer back; false where there was none.
    pub async fn delete_image_member(&self, image_id: Uuid, project_id: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let delete = Sql::new("DELETE FROM image_members").filter("image_id = ", image_id).filter("project_id = ", project_id);
        let deleted = tx.execute("take an offer back", delete).await? == 1;
        tx.commit().await?;
        Ok(deleted)
    }
}

/// Records an image without bytes, within a transaction.
pub(super) async fn insert(tx: &mut Session, new: NewImage) -> Result<(), StoreError> {
    let mut statement = Sql::insert(
        "images",
        [
            ("id", new.id.into()),
            ("project_id", new.project_id.into()),
            ("name", new.name.into()),
            ("status", ImageStatus::Queued.as_str().into()),
            ("visibility", new.visibility.as_str().into()),
            ("protected", new.protected.into()),
            ("disk_format", new.disk_format.into()),
            ("container_format", new.container_format.into()),
            ("min_disk_gib", new.min_disk_gib.into()),
            ("min_ram_mib", new.min_ram_mib.into()),
            ("properties", Value::from(&new.properties)),
            ("tags", tags_value(&new.tags)),
            ("created_at_us", now_us().into()),
        ],
    );
    statement.push(" ON CONFLICT DO NOTHING");
    if tx.execute("record an image", statement).await? == 0 {
        return Err(Refusal::ImageExists(new.id).into());
    }
    Ok(())
}

fn conditions(query: &mut Sql, filter: &ImageFilter, postgres: bool) {
    if let Some(project) = &filter.seen_by {
        let asks_for_community = filter.equal.iter().any(|(column, value)| *column == "visibility" && value == "community");
        query.push(" AND (visibility = 'public'");
        if asks_for_community {
            query.push(" OR visibility = 'community'");
        }
        query.push_bind(" OR project_id = ", project);
        let status = filter.member_status.unwrap_or(MemberStatus::Accepted);
        query.push_bind(
            " OR (visibility = 'shared' AND id IN (SELECT image_id FROM image_members WHERE status = ",
            status.as_str(),
        );
        query.push_bind(" AND project_id = ", project).push(")))");
    }
    for (column, value) in &filter.equal {
        query.push_bind(&format!(" AND {column} = "), value);
    }
    if let Some(protected) = filter.protected {
        query.push_bind(" AND protected = ", protected);
    }
    if let Some(size) = filter.size_min {
        query.push_bind(" AND size_bytes >= ", size);
    }
    if let Some(size) = filter.size_max {
        query.push_bind(" AND size_bytes <= ", size);
    }
    for (key, value) in &filter.properties {
        if postgres {
            query.push_bind(" AND properties::jsonb ->> ", key).push_bind(" = ", value);
        } else {
            query.push_bind(" AND EXISTS (SELECT 1 FROM json_each(properties) AS pair WHERE pair.key = ", key);
            query.push_bind(" AND pair.value = ", value).push(")");
        }
    }
    for tag in &filter.tags {
        if postgres {
            query.push_bind(" AND EXISTS (SELECT 1 FROM jsonb_array_elements_text(tags::jsonb) AS word WHERE word = ", tag);
        } else {
            query.push_bind(" AND EXISTS (SELECT 1 FROM json_each(tags) AS word WHERE word.value = ", tag);
        }
        query.push(")");
    }
}

fn tags_value(tags: &BTreeSet<String>) -> Value {
    Value::from(&serde_json::Value::Array(tags.iter().cloned().map(serde_json::Value::String).collect()))
}

pub(super) async fn set_status(tx: &mut Session, id: Uuid, status: ImageStatus, host: Option<&str>) -> Result<(), StoreError> {
    let update = Sql::update(
        "images",
        [("status", status.as_str().into()), ("location", host.into()), ("updated_at_us", now_us().into())],
    );
    tx.execute("change an image's status", update.filter("id = ", id)).await?;
    Ok(())
}

pub(super) async fn find(session: &mut Session, id: Uuid) -> Result<Image, StoreError> {
    let row = session.optional("read an image", Sql::new("SELECT * FROM images").filter("id = ", id)).await?;
    row.as_ref().map(image).transpose()?.ok_or_else(|| Refusal::ImageNotFound(id.to_string()).into())
}

async fn find_locked(tx: &mut Session, id: Uuid) -> Result<Option<Image>, StoreError> {
    let query = Sql::new("SELECT * FROM images").filter("id = ", id).for_update();
    tx.optional("read an image", query).await?.as_ref().map(image).transpose()
}

async fn lock(tx: &mut Session, id: Uuid) -> Result<Image, StoreError> {
    find_locked(tx, id).await?.ok_or_else(|| Refusal::ImageNotFound(id.to_string()).into())
}

fn optional_size(row: &Row, column: &'static str) -> Result<Option<u64>, StoreError> {
    row.optional_int(column)?.map(u64::try_from).transpose().map_err(|_| row.unreadable(column))
}

fn image(row: &Row) -> Result<Image, StoreError> {
    Ok(Image {
        id: row.uuid("id")?,
        project_id: row.text("project_id")?,
        name: row.optional_text("name")?,
        status: row.word("status", ImageStatus::parse)?,
        visibility: row.word("visibility", Visibility::parse)?,
        protected: row.flag("protected")?,
        disk_format: row.optional_text("disk_format")?,
        container_format: row.optional_text("container_format")?,
        size_bytes: optional_size(row, "size_bytes")?,
        virtual_bytes: optional_size(row, "virtual_bytes")?,
        min_disk_gib: row.size("min_disk_gib")?,
        min_ram_mib: row.size("min_ram_mib")?,
        checksum: row.optional_text("checksum")?,
        hash_value: row.optional_text("hash_value")?,
        properties: row.json("properties")?,
        tags: row.json("tags")?,
        created_at_us: row.int("created_at_us")?,
        updated_at_us: row.optional_int("updated_at_us")?,
    })
}

fn member(row: &Row) -> Result<ImageMember, StoreError> {
    Ok(ImageMember {
        image_id: row.uuid("image_id")?,
        project_id: row.text("project_id")?,
        status: row.word("status", MemberStatus::parse)?,
    })
}
