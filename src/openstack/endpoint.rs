//! Which address the volume service has, and how a request's address is made from it.

use super::{CloudConfig, OpenstackError};
use reqwest::Url;
use serde::Deserialize;

/// The types under which a catalog may list the volume service, best first (service-types authority: `block-storage` and
/// its aliases). `volume` once meant API v1.
const SERVICE_TYPES: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];

/// The type of the key manager in a catalog.
const KEY_MANAGER: &str = "key-manager";
/// The type of the image service in a catalog.
const IMAGE: &str = "image";

/// One service of Keystone's catalog.
#[derive(Debug, Deserialize)]
pub(super) struct CatalogEntry {
    #[serde(rename = "type")]
    service_type: String,
    #[serde(default)]
    endpoints: Vec<CatalogEndpoint>,
}

/// One address of a service.
#[derive(Debug, Deserialize)]
struct CatalogEndpoint {
    interface: String,
    /// `region` is the older spelling of `region_id`; Keystone writes both.
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

impl CatalogEndpoint {
    fn region(&self) -> Option<&str> {
        self.region_id.as_deref().or(self.region.as_deref())
    }
}

/// The volume service's base address, ending in `/v3` or `/v3/{project_id}`.
pub(super) fn volume_endpoint(
    config: &CloudConfig,
    catalog: &[CatalogEntry],
    project_id: Option<&str>,
) -> Result<Url, OpenstackError> {
    if let Some(url) = &config.volume_endpoint {
        let project = project_id.unwrap_or_default();
        let filled = ["%(project_id)s", "%(tenant_id)s", "$(project_id)s", "$(tenant_id)s"]
            .iter()
            .fold(url.clone(), |url, placeholder| url.replace(placeholder, project));
        return v3(&filled).ok_or_else(|| none(config, format!("only the configured {}", super::fault::printable(url, 200))));
    }
    for wanted in SERVICE_TYPES {
        let endpoints = catalog.iter().filter(|entry| entry.service_type == wanted).flat_map(|entry| &entry.endpoints);
        let mut usable = endpoints
            .filter(|endpoint| endpoint.interface.trim_end_matches("URL") == config.interface.as_str())
            .filter(|endpoint| config.region_name.is_none() || endpoint.region() == config.region_name.as_deref())
            .filter_map(|endpoint| v3(&endpoint.url));
        if let Some(url) = usable.next() {
            return Ok(url);
        }
    }
    let offered: Vec<_> = catalog
        .iter()
        .flat_map(|entry| entry.endpoints.iter().map(move |endpoint| (entry, endpoint)))
        .map(|(entry, endpoint)| {
            format!("{} {} in {}", entry.service_type, endpoint.interface, endpoint.region().unwrap_or("no region"))
        })
        .collect();
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    Err(none(config, super::fault::printable(&offered, 1000)))
}

/// The key manager's base address, ending in `/v1`.
pub(super) fn key_manager_endpoint(config: &CloudConfig, catalog: &[CatalogEntry]) -> Result<Url, OpenstackError> {
    let configured = config.key_manager_endpoint.as_deref().and_then(key_manager_address);
    let found = configured.or_else(|| in_catalog(config, catalog, KEY_MANAGER, key_manager_address));
    found.ok_or_else(|| OpenstackError::NoKeyManager {
        cloud: config.name.clone(),
        problem: format!("Keystone's catalog has no {} endpoint of type {KEY_MANAGER}", config.interface.as_str()),
    })
}

/// The image service's base address, ending in `/v2`.
pub(super) fn image_endpoint(config: &CloudConfig, catalog: &[CatalogEntry]) -> Result<Url, OpenstackError> {
    let configured = config.image_endpoint.as_deref().and_then(image_address);
    configured.or_else(|| in_catalog(config, catalog, IMAGE, image_address)).ok_or_else(|| OpenstackError::NoImageService {
        cloud: config.name.clone(),
        problem: format!("Keystone's catalog has no {} endpoint of type {IMAGE}", config.interface.as_str()),
    })
}

/// The address of a service in the catalog, with its version as `address` makes it.
fn in_catalog(
    config: &CloudConfig,
    catalog: &[CatalogEntry],
    service_type: &str,
    address: impl Fn(&str) -> Option<Url>,
) -> Option<Url> {
    let endpoints = catalog.iter().filter(|entry| entry.service_type == service_type).flat_map(|entry| &entry.endpoints);
    endpoints
        .filter(|endpoint| endpoint.interface.trim_end_matches("URL") == config.interface.as_str())
        .filter(|endpoint| config.region_name.is_none() || endpoint.region() == config.region_name.as_deref())
        .find_map(|endpoint| address(&endpoint.url))
}

/// A key manager's address with `/v1` in its path: catalogs have it with and without.
pub(super) fn key_manager_address(text: &str) -> Option<Url> {
    versioned(text, "v1")
}

/// An image service's address with `/v2` in its path: catalogs have it without.
pub(super) fn image_address(text: &str) -> Option<Url> {
    versioned(text, "v2")
}

fn versioned(text: &str, version: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.set_query(None);
    url.set_fragment(None);
    let has_version = url.path_segments()?.any(|segment| segment == version);
    let mut path = url.path_segments_mut().ok()?;
    path.pop_if_empty();
    if !has_version {
        path.push(version);
    }
    drop(path);
    Some(url)
}

fn none(config: &CloudConfig, offered: String) -> OpenstackError {
    OpenstackError::NoEndpoint { region: config.region_name.clone(), interface: config.interface.as_str(), offered }
}

/// The address with `/v3` in its path: added to a bare one, `None` for one of another version.
fn v3(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.set_query(None);
    url.set_fragment(None);
    let segments: Vec<String> = url.path_segments()?.map(str::to_owned).collect();
    if segments.iter().any(|segment| segment == "v1" || segment == "v2") {
        return None;
    }
    let has_version = segments.iter().any(|segment| segment == "v3");
    let mut path = url.path_segments_mut().ok()?;
    path.pop_if_empty();
    if !has_version {
        path.push("v3");
    }
    drop(path);
    Some(url)
}

/// Address of the resource `path` below `base`.
pub(super) fn resource(base: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// Whether what is sent to `url` could be read on a network.
pub(super) fn is_exposed(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !loopback
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::{AuthMethod, Interface};
    use serde_json::json;

    fn config(region: Option<&str>, interface: Interface, volume_endpoint: Option<&str>) -> CloudConfig {
        CloudConfig {
            name: "c".into(),
            auth: AuthMethod::NoToken { endpoint: String::new() },
            region_name: region.map(str::to_owned),
            interface,
            cacert: None,
            volume_endpoint: volume_endpoint.map(str::to_owned),
            image_endpoint: None,
            key_manager_endpoint: None,
        }
    }

    fn catalog() -> Vec<CatalogEntry> {
        let at = |interface, region, url| json!({"interface": interface, "region": region, "region_id": region, "url": url});
        serde_json::from_value(json!([
            {"type": "volumev2", "endpoints": [at("public", "A", "http://old/v2")]},
            {"type": "volume", "endpoints": [at("public", "A", "http://older/v1/p"), at("public", "A", "http://root")]},
            {"type": "volumev3", "endpoints": [at("public", "A", "http://a/v3/p1"), at("internal", "B", "http://b/v3/")]},
        ]))
        .unwrap()
    }

    #[test]
    fn region_and_interface_choose_and_v3_is_preferred() {
        for (region, interface, want) in [
            (None, Interface::Public, "http://a/v3/p1"),
            (Some("A"), Interface::Public, "http://a/v3/p1"),
            (Some("B"), Interface::Internal, "http://b/v3"),
        ] {
            assert_eq!(volume_endpoint(&config(region, interface, None), &catalog(), None).unwrap().as_str(), want);
        }
        let text = volume_endpoint(&config(Some("B"), Interface::Public, None), &catalog(), None).unwrap_err().to_string();
        assert!(
            text.contains("no public block storage v3 endpoint in region B") && text.contains("volumev3 internal in B"),
            "{text}"
        );
    }

    #[test]
    fn an_override_is_completed() {
        for (given, want) in [
            ("http://h:8776", "http://h:8776/v3"),
            ("http://h/volume/", "http://h/volume/v3"),
            ("http://h/v3/%(project_id)s", "http://h/v3/p9"),
        ] {
            let config = config(None, Interface::Public, Some(given));
            assert_eq!(volume_endpoint(&config, &[], Some("p9")).unwrap().as_str(), want);
        }
        assert!(volume_endpoint(&config(None, Interface::Public, Some("http://h/v2/p")), &[], None).is_err());
    }

    #[test]
    fn the_key_manager_is_found_with_or_without_its_version() {
        let entry = |url: &str| {
            let endpoints = json!([{"interface": "public", "region": "A", "url": url}]);
            serde_json::from_value(json!([{"type": "key-manager", "endpoints": endpoints}])).unwrap()
        };
        for (given, want) in [("http://h:9311", "http://h:9311/v1"), ("http://h/key-manager/v1/", "http://h/key-manager/v1")] {
            let catalog: Vec<CatalogEntry> = entry(given);
            assert_eq!(key_manager_endpoint(&config(None, Interface::Public, None), &catalog).unwrap().as_str(), want);
        }
        let told =
            CloudConfig { key_manager_endpoint: Some("http://k/key-manager".into()), ..config(None, Interface::Public, None) };
        let found = key_manager_endpoint(&told, &entry("http://h")).unwrap();
        assert_eq!(found.as_str(), "http://k/key-manager/v1", "an override comes before the catalog");
        let error = key_manager_endpoint(&config(None, Interface::Internal, None), &entry("http://h")).unwrap_err();
        assert!(error.to_string().contains("key-manager"), "{error}");
    }

    #[test]
    fn names_are_escaped_in_addresses() {
        let base = Url::parse("http://h/v3").unwrap();
        let url = resource(&base, "volumes/detail", &[("name", "x&y=z")]);
        assert_eq!(url.as_str(), "http://h/v3/volumes/detail?name=x%26y%3Dz");
    }

    #[test]
    fn plain_http_is_exposed_unless_it_stays_on_this_host() {
        for (url, exposed) in [
            ("http://127.0.0.2:1", false),
            ("http://[::1]", false),
            ("https://h", false),
            ("http://h", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(is_exposed(&Url::parse(url).unwrap()), exposed, "{url}");
        }
    }
}
