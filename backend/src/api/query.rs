//! What clients ask lists for: filters, order, pages.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use uuid::Uuid;

use super::errors::ApiError;
use super::microversion::Microversion;
use super::policy::Context;
use crate::domain::{OperationKind, OperationState, Refusal};
use crate::store::{
    AttachmentFilter, BackupFilter, Moment, OperationFilter, SnapshotFilter, SortDirection, SortKey, TimeFilter, VolumePage,
};

/// No page is longer, whatever is asked.
pub(super) const LARGEST_PAGE: u32 = 1000;

/// How long a stream is to last at most.
const TIMEOUT: &str = "timeout_s";

/// The query's pairs, in order, and as they came.
pub(super) struct Pairs(Vec<(String, String)>, String);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(pairs): Query<Vec<(String, String)>> = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
        if pairs.iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
            return Err(ApiError::BadRequest("The query string cannot be read: it has a NUL character in it".into()));
        }
        Ok(Self(pairs, parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl Pairs {
    /// The same query for the page after `last`.
    pub(super) fn next(&self, last: Uuid) -> String {
        let same =
            self.1.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("marker=") && !pair.starts_with("offset="));
        same.chain([format!("marker={last}").as_str()]).collect::<Vec<_>>().join("&")
    }

    /// Whether all projects' things are asked for.
    pub(super) fn all_projects(&self) -> Result<bool, ApiError> {
        match self.0.iter().find(|(key, _)| key == "all_tenants" || key == "all_projects") {
            Some((key, value)) => boolean(key, value),
            None => Ok(false),
        }
    }

    /// The value of a key, where it is there.
    pub(super) fn value(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str())
    }

    /// Whether something is asked for by a key.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ApiError> {
        self.value(key).map_or(Ok(false), |value| boolean(key, value))
    }

    /// How many, and after how many.
    pub(super) fn window(&self) -> Result<(u32, u32), ApiError> {
        let limit = self.value("limit").map(limit).transpose()?.unwrap_or(LARGEST_PAGE);
        Ok((limit, self.value("offset").map(|value| number("offset", value)).transpose()?.unwrap_or(0)))
    }

    /// A page of types.
    pub(super) fn types(&self, version: Microversion) -> Result<TypesAsked, ApiError> {
        let (limit, offset) = self.window()?;
        let mut asked = TypesAsked { limit, offset, ..TypesAsked::default() };
        for (key, value) in &self.0 {
            match key.as_str() {
                "is_public" if value.eq_ignore_ascii_case("none") => {}
                "is_public" => asked.is_public = Some(boolean("is_public", value)?),
                "name" => asked.name = Some(value.clone()),
                "extra_specs" if version >= Microversion::TYPES_BY_SPECS => asked.extra_specs = literal_pairs(value)?,
                "marker" => asked.marker = Some(value.clone()),
                "sort" => {
                    asked.by_id = value.starts_with("id");
                    asked.descending = value.contains(":desc");
                }
                "sort_key" => asked.by_id = value == "id",
                "sort_dir" => asked.descending = sort_direction(value)? == SortDirection::Desc,
                _ => {}
            }
        }
        Ok(asked)
    }

    /// A page of snapshots, and whether the whole count is wanted too.
    pub(super) fn snapshots(&self, version: Microversion, context: &Context) -> Result<(SnapshotFilter, bool), ApiError> {
        let project_id = context.listed_project(self.all_projects()?);
        let mut filter = SnapshotFilter { project_id, limit: LARGEST_PAGE, ..SnapshotFilter::default() };
        let mut with_count = false;
        let mut unknown = Vec::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "volume_id" => filter.volume_id = Some(value.to_ascii_lowercase()),
                "name" | "display_name" => filter.name = Some(value.clone()),
                "status" => filter.status = Some(value.to_ascii_lowercase()),
                "marker" => filter.marker = Some(snapshot_id(value)?),
                "offset" => filter.offset = number("offset", value)?,
                "limit" => filter.limit = limit(value)?,
                "id" => filter.id = Some(value.to_ascii_lowercase()),
                "name~" if version >= Microversion::LIKE_FILTER => filter.name_contains = Some(value.clone()),
                "metadata" => filter.metadata = literal_pairs(value)?,
                "created_at" | "updated_at" if version >= Microversion::TIME_FILTERS => {
                    filter.times.extend(times(key, value)?);
                }
                "sort" => {
                    let (key, direction) = sort(value, SortKey::parse_of_snapshots)?;
                    (filter.sort_key, filter.ascending) = (Some(key), direction == SortDirection::Asc);
                }
                "sort_key" => filter.sort_key = Some(sort_key(value, SortKey::parse_of_snapshots)?),
                "sort_dir" => filter.ascending = sort_direction(value)? == SortDirection::Asc,
                "with_count" if version >= Microversion::WITH_COUNT => with_count = boolean("with_count", value)?,
                // Every snapshot's owner pays for it.
                "consumes_quota" | "use_quota" if version >= Microversion::CONSUMES_QUOTA => {
                    if !boolean(key, value)? {
                        filter.id = Some(String::new());
                    }
                }
                "project_id" if context.is_admin() => filter.project_id = Some(value.replace('-', "")),
                "all_tenants" | "all_projects" | "project_id" => {}
                _ => unknown.push(key.clone()),
            }
        }
        refuse_unknown(&unknown)?;
        Ok((filter, with_count))
    }

    /// A page of volumes, and whether the whole count is wanted too.
    pub(super) fn volumes(&self, version: Microversion, context: &Context) -> Result<(VolumePage, bool), ApiError> {
        let mut page = VolumePage {
            project_id: context.listed_project(self.all_projects()?),
            name: None,
            name_contains: None,
            status: None,
            id: None,
            availability_zone: None,
            metadata: BTreeMap::new(),
            bootable: None,
            multiattach: None,
            consumes_quota: None,
            description_contains: None,
            equal: Vec::new(),
            times: Vec::new(),
            sort_key: SortKey::CreatedAt,
            sort_direction: SortDirection::Desc,
            marker: None,
            offset: 0,
            limit: LARGEST_PAGE,
        };
        let mut with_count = false;
        let mut unknown = Vec::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "name" | "display_name" => page.name = Some(value.clone()),
                "name~" if version >= Microversion::LIKE_FILTER => page.name_contains = Some(value.clone()),
                "status" => page.status = Some(value.to_ascii_lowercase()),
                "id" => page.id = Some(value.to_ascii_lowercase()),
                "availability_zone" => page.availability_zone = Some(value.clone()),
                "metadata" => page.metadata = literal_pairs(value)?,
                "bootable" => page.bootable = Some(boolean("bootable", value)?),
                "multiattach" => page.multiattach = Some(boolean("multiattach", value)?),
                "marker" => page.marker = Some(volume_id(value)?),
                "offset" => page.offset = number("offset", value)?,
                "limit" => page.limit = limit(value)?,
                "description~" | "display_description~" if version >= Microversion::LIKE_FILTER => {
                    page.description_contains = Some(value.clone());
                }
                "status~" if version >= Microversion::LIKE_FILTER => page.status = Some(value.to_ascii_lowercase()),
                "user_id" => page.equal.push(("user_id", value.clone())),
                "snapshot_id" => page.equal.push(("snapshot_id", value.to_ascii_lowercase())),
                "source_volid" => page.equal.push(("source_volume_id", value.to_ascii_lowercase())),
                "volume_type_id" => page.equal.push(("volume_type_id", value.clone())),
                "host" if context.is_admin() => page.equal.push(("host", value.clone())),
                "migration_status" if context.is_admin() => page.equal.push(("migration_status", value.clone())),
                "group_id" if version >= Microversion(10) => page.equal.push(("group_id", value.clone())),
                "created_at" | "updated_at" if version >= Microversion::TIME_FILTERS => {
                    page.times.extend(times(key, value)?);
                }
                "consumes_quota" | "use_quota" if version >= Microversion::CONSUMES_QUOTA => {
                    page.consumes_quota = Some(boolean(key, value)?);
                }
                "sort" => (page.sort_key, page.sort_direction) = sort(value, volume_sort_key)?,
                "sort_key" => page.sort_key = sort_key(value, volume_sort_key)?,
                "sort_dir" => page.sort_direction = sort_direction(value)?,
                "with_count" if version >= Microversion::WITH_COUNT => with_count = boolean("with_count", value)?,
                "project_id" if context.is_admin() => page.project_id = Some(value.replace('-', "")),
                "all_tenants" | "all_projects" | "project_id" => {}
                _ => unknown.push(key.clone()),
            }
        }
        refuse_unknown(&unknown)?;
        Ok((page, with_count))
    }

    /// A page of backups, and whether the whole count is wanted too.
    pub(super) fn backups(&self, version: Microversion, context: &Context) -> Result<(BackupFilter, bool), ApiError> {
        let project_id = context.listed_project(self.all_projects()?);
        let mut filter = BackupFilter { project_id, limit: LARGEST_PAGE, ..BackupFilter::default() };
        let mut with_count = false;
        let mut unknown = Vec::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "name" | "display_name" => filter.equal.push(("name", value.clone())),
                "name~" if version >= Microversion::LIKE_FILTER => filter.name_contains = Some(value.clone()),
                "status" => filter.equal.push(("status", value.to_ascii_lowercase())),
                "id" => filter.equal.push(("id", value.to_ascii_lowercase())),
                "volume_id" => filter.equal.push(("volume_id", value.to_ascii_lowercase())),
                "snapshot_id" => filter.equal.push(("snapshot_id", value.to_ascii_lowercase())),
                "parent_id" => filter.equal.push(("parent_id", value.to_ascii_lowercase())),
                "marker" => filter.marker = Some(backup_id(value)?),
                "offset" => filter.offset = number("offset", value)?,
                "limit" => filter.limit = limit(value)?,
                "sort" => {
                    let (key, direction) = sort(value, SortKey::parse_of_snapshots)?;
                    (filter.sort_key, filter.ascending) = (Some(key), direction == SortDirection::Asc);
                }
                "sort_key" => filter.sort_key = Some(sort_key(value, SortKey::parse_of_snapshots)?),
                "sort_dir" => filter.ascending = sort_direction(value)? == SortDirection::Asc,
                "with_count" if version >= Microversion::WITH_COUNT => with_count = boolean("with_count", value)?,
                "project_id" if context.is_admin() => filter.project_id = Some(value.replace('-', "")),
                "all_tenants" | "all_projects" | "project_id" => {}
                _ => unknown.push(key.clone()),
            }
        }
        refuse_unknown(&unknown)?;
        Ok((filter, with_count))
    }

    /// A page of operations, or those to be told of; the whole query but for `timeout_s`, which is left to whoever knows it.
    pub(super) fn operations(&self, context: &Context) -> Result<OperationFilter, ApiError> {
        let project_id = context.listed_project(self.all_projects()?);
        let mut filter = OperationFilter { project_id, limit: LARGEST_PAGE, ..OperationFilter::default() };
        let id = |key: &str, value: &str| {
            let wrong = || ApiError::BadRequest(format!("Invalid input received: {key} must be an id, not '{value}'"));
            Uuid::parse_str(value).map_err(|_| wrong())
        };
        let mut unknown = Vec::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "object_id" => filter.object_id = Some(id(key, value)?),
                "kind" => filter.kinds = words(key, value, OperationKind::parse)?,
                "state" => filter.states = words(key, value, OperationState::parse)?,
                "marker" => filter.marker = Some(id(key, value)?),
                "limit" => filter.limit = limit(value)?,
                "project_id" if context.is_admin() => filter.project_id = Some(value.replace('-', "")),
                "all_tenants" | "all_projects" | "project_id" | TIMEOUT => {}
                _ => unknown.push(key.clone()),
            }
        }
        refuse_unknown(&unknown)?;
        Ok(filter)
    }

    /// How long a stream is to last at most, in seconds, where something is said of it.
    pub(super) fn timeout_s(&self) -> Result<Option<u32>, ApiError> {
        self.value(TIMEOUT).map(|value| number(TIMEOUT, value)).transpose()
    }

    /// A page of attachments.
    pub(super) fn attachments(&self, context: &Context) -> Result<AttachmentFilter, ApiError> {
        let project_id = context.listed_project(self.all_projects()?);
        let mut filter = AttachmentFilter { project_id, limit: LARGEST_PAGE, ..AttachmentFilter::default() };
        let mut unknown = Vec::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                "volume_id" => filter.volume_id = Some(value.to_ascii_lowercase()),
                "instance_id" | "instance_uuid" => filter.instance_id = Some(value.to_ascii_lowercase()),
                "status" | "attach_status" => filter.status = Some(value.to_ascii_lowercase()),
                "marker" => filter.marker = Some(attachment_id(value)?),
                "offset" => filter.offset = number("offset", value)?,
                "limit" => filter.limit = limit(value)?,
                "project_id" if context.is_admin() => filter.project_id = Some(value.replace('-', "")),
                // There is one order: these choose nothing.
                "all_tenants" | "all_projects" | "project_id" | "sort" | "sort_key" | "sort_dir" => {}
                _ => unknown.push(key.clone()),
            }
        }
        refuse_unknown(&unknown)?;
        Ok(filter)
    }
}

/// Which types are asked for.
#[derive(Debug, Default)]
pub(super) struct TypesAsked {
    pub(super) is_public: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) extra_specs: BTreeMap<String, String>,
    pub(super) by_id: bool,
    pub(super) descending: bool,
    pub(super) marker: Option<String>,
    pub(super) limit: u32,
    pub(super) offset: u32,
}

/// `[operator:]time`, several separated by commas.
fn times(key: &str, value: &str) -> Result<Vec<TimeFilter>, ApiError> {
    let moment = if key == "created_at" { Moment::Created } else { Moment::Updated };
    let one = |part: &str| {
        let (operator, text) = match part.split_once(':') {
            Some((operator, rest)) if operator.bytes().all(|byte| byte.is_ascii_lowercase()) => (operator, rest),
            _ => ("eq", part),
        };
        let comparison = match operator {
            "gt" => ">",
            "gte" => ">=",
            "eq" => "=",
            "neq" => "<>",
            "lt" => "<",
            "lte" => "<=",
            _ => return Err(ApiError::BadRequest(format!("Invalid input received: {key}: unknown comparison {operator}"))),
        };
        let text = text.trim();
        let wrong = || ApiError::BadRequest(format!("Invalid input received: {key}: '{text}' is not a time in ISO 8601"));
        let zoned = text.parse::<jiff::Timestamp>();
        let time =
            zoned.or_else(|_| text.parse::<jiff::civil::DateTime>().and_then(|utc| jiff::tz::TimeZone::UTC.to_timestamp(utc)));
        Ok(TimeFilter { moment, comparison, at_us: time.map_err(|_| wrong())?.as_microsecond() })
    };
    value.split(',').map(one).collect()
}

/// What volumes can be ordered by.
fn volume_sort_key(word: &str) -> Option<SortKey> {
    SortKey::parse(word)
}

/// A volume's id from a path or a query; what is no id names no volume.
pub(super) fn volume_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| Refusal::VolumeNotFound(text.to_owned()).into())
}

/// A snapshot's id from a path or a query.
pub(super) fn snapshot_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| Refusal::SnapshotNotFound(text.to_owned()).into())
}

/// A backup's id from a path or a query.
pub(super) fn backup_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| Refusal::BackupNotFound(text.to_owned()).into())
}

/// An attachment's id from a path or a query.
pub(super) fn attachment_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| Refusal::AttachmentNotFound(text.to_owned()).into())
}

fn refuse_unknown(keys: &[String]) -> Result<(), ApiError> {
    if keys.is_empty() {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("Invalid filters {} are found in query options.", keys.join(","))))
}

/// Words separated by commas.
fn words<T>(key: &str, value: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
    let wrong = |word: &str| ApiError::BadRequest(format!("Invalid input received: there is no {key} '{word}'"));
    value.split(',').map(|word| parse(word.trim()).ok_or_else(|| wrong(word))).collect()
}

fn number(key: &str, value: &str) -> Result<u32, ApiError> {
    value.parse().map_err(|_| ApiError::BadRequest(format!("Invalid input received: {key} must be an integer of 0 or more")))
}

fn limit(value: &str) -> Result<u32, ApiError> {
    Ok(number("limit", value)?.min(LARGEST_PAGE))
}

fn boolean(key: &str, value: &str) -> Result<bool, ApiError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(ApiError::BadRequest(format!("Invalid input received: {key} must be true or false"))),
    }
}

/// Pairs of text as clients write them into a query: a Python literal, `{'key': 'value'}`, or JSON.
fn literal_pairs(value: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let wrong =
        || ApiError::BadRequest(format!("Invalid input received: metadata must be like {{'key': 'value'}}, not {value}"));
    serde_json::from_str(&json_of(value)).map_err(|_| wrong())
}

/// A Python literal of text and dictionaries as JSON: single quotes become double ones, and what they quote is escaped anew.
fn json_of(literal: &str) -> String {
    let mut json = String::new();
    let mut quote = None;
    let mut chars = literal.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '\'' | '"') => {
                quote = Some(char);
                json.push('"');
            }
            (Some(open), _) if char == open => {
                quote = None;
                json.push('"');
            }
            (Some(_), '"') => json.push_str("\\\""),
            (Some(_), '\\') => match chars.next() {
                Some('\'') => json.push('\''),
                Some(escaped) => json.extend(['\\', escaped]),
                None => json.push('\\'),
            },
            _ => json.push(char),
        }
    }
    json
}

/// `key[:direction]`. Further keys, after a comma, would order what the first leaves equal; age does that.
fn sort(value: &str, parse: fn(&str) -> Option<SortKey>) -> Result<(SortKey, SortDirection), ApiError> {
    let first = value.split(',').next().unwrap_or_default();
    match first.split_once(':') {
        Some((key, direction)) => Ok((sort_key(key, parse)?, sort_direction(direction)?)),
        None => Ok((sort_key(first, parse)?, SortDirection::Desc)),
    }
}

fn sort_key(word: &str, parse: fn(&str) -> Option<SortKey>) -> Result<SortKey, ApiError> {
    parse(word.trim())
        .ok_or_else(|| ApiError::BadRequest(format!("Invalid input received: Sort key supplied is invalid: {word}")))
}

fn sort_direction(word: &str) -> Result<SortDirection, ApiError> {
    match word.trim() {
        "asc" => Ok(SortDirection::Asc),
        "desc" => Ok(SortDirection::Desc),
        _ => Err(ApiError::BadRequest("Invalid input received: Sort direction must be asc or desc".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_as_python_and_as_json_write_it() {
        let pairs = |text: &str| literal_pairs(text).ok().map(|pairs| pairs.into_iter().collect::<Vec<_>>());
        let one = |key: &str, value: &str| Some(vec![(key.to_owned(), value.to_owned())]);
        assert_eq!(pairs("{'a': 'b'}"), one("a", "b"));
        assert_eq!(pairs(r#"{"a": "it's"}"#), one("a", "it's"));
        assert_eq!(pairs(r#"{'say "a"': 'it\'s \\'}"#), one("say \"a\"", "it's \\"));
        assert_eq!(pairs("{}"), Some(vec![]));
        for wrong in ["", "a", "{'a'", "{'a': 1}", "{'a': 'b", "['a']", "{'a': 'b\\"] {
            assert_eq!(pairs(wrong), None, "{wrong}");
        }
    }
}
