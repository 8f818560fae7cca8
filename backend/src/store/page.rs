//! One page of volumes: filters, order, marker. Pages are cut by key, not by offset alone, so the thousandth costs what
//! the first does.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::rows::{self, VOLUME_COLUMNS};
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
            _ => return None,
        })
    }

    /// Never null, so that "after the marker" is a plain comparison.
    fn expression(self) -> &'static str {
        match self {
            Self::CreatedAt => "seq",
            Self::Id => "id",
            Self::Name => "COALESCE(name, '')",
            Self::Size => "size_gib",
            Self::Status => "status",
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

/// Which volumes, in which order, how many.
#[derive(Clone, Debug)]
pub struct VolumePage {
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
    /// Only those one can, or cannot, boot from; no volume of this service is known to be bootable.
    pub bootable: Option<bool>,
    /// Only those that may, or may not, be shared.
    pub multiattach: Option<bool>,
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
        let op = || StoreError::query("list volumes");
        let mut connection = self.readers.acquire().await.map_err(op())?;
        let mut query = QueryBuilder::new(format!("SELECT {VOLUME_COLUMNS} FROM volumes WHERE 1 = 1"));
        filter(&mut query, page);
        let key = page.sort_key.expression();
        let (order, beyond) = match page.sort_direction {
            SortDirection::Asc => ("ASC", ">"),
            SortDirection::Desc => ("DESC", "<"),
        };
        if let Some(marker) = page.marker {
            // Refused as "not found" where the marker is unknown, as clients expect.
            let marker = volumes::find(&mut connection, marker).await?;
            query.push(format!(" AND ({key}, seq) {beyond} (SELECT {key}, seq FROM volumes WHERE seq = "));
            query.push_bind(marker.seq).push(")");
        }
        query.push(format!(" ORDER BY {key} {order}, seq {order} LIMIT "));
        query.push_bind(i64::from(page.limit)).push(" OFFSET ").push_bind(i64::from(page.offset));
        let rows = query.build().fetch_all(&mut *connection).await.map_err(op())?;
        rows.iter().map(rows::volume).collect()
    }

    /// How many volumes match, whatever the page.
    pub async fn count_volumes(&self, page: &VolumePage) -> Result<i64, StoreError> {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM volumes WHERE 1 = 1");
        filter(&mut query, page);
        let row = query.build().fetch_one(&self.readers).await.map_err(StoreError::query("count volumes"))?;
        row.try_get(0).map_err(StoreError::query("count volumes"))
    }
}

fn filter(query: &mut QueryBuilder<Sqlite>, page: &VolumePage) {
    if let Some(name) = &page.name {
        query.push(" AND name = ").push_bind(name.clone());
    }
    if let Some(part) = &page.name_contains {
        query.push(" AND instr(name, ").push_bind(part.clone()).push(") > 0");
    }
    if let Some(status) = &page.status {
        query.push(" AND status = ").push_bind(status.clone());
    }
    if let Some(id) = &page.id {
        query.push(" AND id = ").push_bind(id.clone());
    }
    if let Some(zone) = &page.availability_zone {
        query.push(" AND availability_zone = ").push_bind(zone.clone());
    }
    for (key, value) in &page.metadata {
        query.push(" AND EXISTS (SELECT 1 FROM json_each(metadata) AS pair WHERE pair.key = ").push_bind(key.clone());
        query.push(" AND pair.value = ").push_bind(value.clone()).push(")");
    }
    if page.bootable == Some(true) {
        query.push(" AND FALSE");
    }
    if let Some(multiattach) = page.multiattach {
        query.push(" AND multiattach = ").push_bind(multiattach);
    }
}
