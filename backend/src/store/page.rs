//! One page of volumes: filters, order, marker. Pages are cut by key, not by offset alone, so the thousandth costs what
//! the first does.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::engine::Sql;
use super::rows::{self, SELECT_VOLUMES};
use super::{Store, StoreError, volumes};
use crate::domain::Volume;

/// What volumes can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// When they were accepted.
    CreatedAt,
    /// Their id.
    Id,
    /// Their name; volumes without one count as empty.
    Name,
    /// Their size.
    Size,
    /// Their status.
    Status,
    /// When they last changed; what never did counts as made then.
    UpdatedAt,
    /// Whether one can boot from them.
    Bootable,
    /// Their zone.
    AvailabilityZone,
    /// The volume, of snapshots.
    VolumeId,
}

impl SortKey {
    /// The key the API spells so.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "created_at" => Self::CreatedAt,
            "id" => Self::Id,
            "name" | "display_name" => Self::Name,
            "size" => Self::Size,
            "status" => Self::Status,
            "updated_at" => Self::UpdatedAt,
            "bootable" => Self::Bootable,
            "availability_zone" => Self::AvailabilityZone,
            _ => return None,
        })
    }

    /// The key the API spells so where snapshots are listed.
    pub fn parse_of_snapshots(word: &str) -> Option<Self> {
        match word {
            "volume_id" => Some(Self::VolumeId),
            "volume_size" => Some(Self::Size),
            "bootable" | "availability_zone" => None,
            other => Self::parse(other),
        }
    }

    /// Never null, so that "after the marker" is a plain comparison.
    pub(super) fn expression(self) -> &'static str {
        match self {
            Self::CreatedAt => "seq",
            Self::Id => "id",
            Self::Name => "COALESCE(name, '')",
            Self::Size => "size_gib",
            Self::Status => "status",
            Self::UpdatedAt => "COALESCE(updated_at_us, created_at_us)",
            Self::Bootable => "bootable",
            Self::AvailabilityZone => "availability_zone",
            Self::VolumeId => "volume_id",
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortDirection {
    /// Smallest or oldest first.
    Asc,
    /// Largest or newest first.
    Desc,
}

/// Which time of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When it was accepted.
    Created,
    /// When it last changed.
    Updated,
}

/// A comparison of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFilter {
    /// Which time.
    pub moment: Moment,
    /// `<`, `<=`, `=`, `<>`, `>=`, `>`.
    pub comparison: &'static str,
    /// With this, microseconds since the epoch.
    pub at_us: i64,
}

/// Which volumes, in which order, how many.
#[derive(Clone, Debug)]
pub struct VolumePage {
    /// Only those of this project; `None` is all projects.
    pub project_id: Option<String>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those whose name contains this.
    pub name_contains: Option<String>,
    /// Only those in this status; a word that is no status matches none.
    pub status: Option<String>,
    /// Only the one of this id; what is no id matches none.
    pub id: Option<String>,
    /// Only those of this availability zone.
    pub availability_zone: Option<String>,
    /// Only those that have all of these pairs.
    pub metadata: BTreeMap<String, String>,
    /// Only those one can, or cannot, boot from.
    pub bootable: Option<bool>,
    /// Only those that may, or may not, be shared.
    pub multiattach: Option<bool>,
    /// Only those that the owner's quota pays for, or not.
    pub consumes_quota: Option<bool>,
    /// Only those whose description contains this.
    pub description_contains: Option<String>,
    /// Only those where these columns have these values.
    pub equal: Vec<(&'static str, String)>,
    /// Only those of these times.
    pub times: Vec<TimeFilter>,
    /// Ordered by this, then by age.
    pub sort_key: SortKey,
    /// Which way, both keys.
    pub sort_direction: SortDirection,
    /// Start after this volume.
    pub marker: Option<Uuid>,
    /// Skip so many.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

impl Store {
    /// Reads one page.
    pub async fn volumes(&self, page: &VolumePage) -> Result<Vec<Volume>, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new(SELECT_VOLUMES);
        query.push(" WHERE 1 = 1");
        filter(&mut query, page, session.is_postgres());
        let key = page.sort_key.expression();
        let (order, beyond) = match page.sort_direction {
            SortDirection::Asc => ("ASC", ">"),
            SortDirection::Desc => ("DESC", "<"),
        };
        if let Some(marker) = page.marker {
            // Refused as "not found" where the marker is unknown, as clients expect.
            let marker = volumes::find(&mut session, marker).await?;
            query
                .push_bind(&format!(" AND ({key}, seq) {beyond} (SELECT {key}, seq FROM volumes WHERE seq = "), marker.seq)
                .push(")");
        }
        query.push_bind(&format!(" ORDER BY {key} {order}, seq {order} LIMIT "), page.limit);
        query.push_bind(" OFFSET ", page.offset);
        session.all("list volumes", query).await?.iter().map(rows::volume).collect()
    }

    /// How many volumes match, whatever the page.
    pub async fn count_volumes(&self, page: &VolumePage) -> Result<i64, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT COUNT(*) FROM volumes WHERE 1 = 1");
        filter(&mut query, page, session.is_postgres());
        session.number("count volumes", query).await
    }
}

fn filter(query: &mut Sql, page: &VolumePage, postgres: bool) {
    if let Some(project) = &page.project_id {
        query.push_bind(" AND project_id = ", project);
    }
    if let Some(name) = &page.name {
        query.push_bind(" AND name = ", name);
    }
    contains(query, "name", page.name_contains.as_ref(), postgres);
    contains(query, "description", page.description_contains.as_ref(), postgres);
    for (column, value) in &page.equal {
        query.push_bind(&format!(" AND {column} = "), value);
    }
    at_times(query, &page.times);
    if let Some(status) = &page.status {
        query.push_bind(" AND status = ", status);
    }
    if let Some(id) = &page.id {
        query.push_bind(" AND id = ", id);
    }
    if let Some(zone) = &page.availability_zone {
        query.push_bind(" AND availability_zone = ", zone);
    }
    has_pairs(query, &page.metadata, postgres);
    if let Some(bootable) = page.bootable {
        query.push_bind(" AND bootable = ", bootable);
    }
    if let Some(multiattach) = page.multiattach {
        query.push_bind(" AND multiattach = ", multiattach);
    }
    if let Some(consumes) = page.consumes_quota {
        query.push_bind(" AND consumes_quota = ", consumes);
    }
}

/// Only where a text contains a part.
pub(super) fn contains(query: &mut Sql, column: &str, part: Option<&String>, postgres: bool) {
    if let Some(part) = part {
        let function = if postgres { "strpos" } else { "instr" };
        query.push_bind(&format!(" AND {function}({column}, "), part).push(") > 0");
    }
}

/// Only what has all of these pairs in its metadata.
pub(super) fn has_pairs(query: &mut Sql, pairs: &BTreeMap<String, String>, postgres: bool) {
    for (key, value) in pairs {
        if postgres {
            query.push_bind(" AND metadata::jsonb ->> ", key).push_bind(" = ", value);
        } else {
            query.push_bind(" AND EXISTS (SELECT 1 FROM json_each(metadata) AS pair WHERE pair.key = ", key);
            query.push_bind(" AND pair.value = ", value).push(")");
        }
    }
}

/// Only what is of these times.
pub(super) fn at_times(query: &mut Sql, times: &[TimeFilter]) {
    for time in times {
        let column = match time.moment {
            Moment::Created => "created_at_us",
            Moment::Updated => "COALESCE(updated_at_us, created_at_us)",
        };
        query.push_bind(&format!(" AND {column} {} ", time.comparison), time.at_us);
    }
}
