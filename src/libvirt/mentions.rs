//! Who names something: in what a guest has, will have, or had when a snapshot of it was taken.
//!
//! The texts are searched as they are, so whatever way of naming a file or a device a definition has, the layers below a disk
//! included, it is found; and rather one too many than one too few.

use super::{error::LibvirtError, error::failed};
use std::collections::BTreeMap;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

/// Of each word that a guest names, that guest's name.
pub(super) fn mentions(connect: &Connect, words: &[String]) -> Result<BTreeMap<String, String>, LibvirtError> {
    let mut found = BTreeMap::new();
    for domain in connect.list_all_domains(0).map_err(failed("list guests"))? {
        let (name, texts) = match texts(&domain) {
            // It went away since it was listed.
            Err(LibvirtError::Call { source, .. }) if source.is(ErrorNumber::NoDomain) => continue,
            read => read?,
        };
        let named = words.iter().filter(|word| texts.iter().any(|text| names(text, word)));
        found.extend(named.map(|word| (word.clone(), name.clone())));
    }
    Ok(found)
}

fn texts(domain: &Domain) -> Result<(String, Vec<String>), LibvirtError> {
    let name = domain.name().map_err(failed("read a guest's name"))?;
    let read = |flags| domain.xml_desc(flags).map_err(failed(format!("read the definition of guest {name}")));
    // Of one that is off, or has no other, both are the same.
    let mut texts = vec![read(0)?, read(sys::VIR_DOMAIN_XML_INACTIVE)?];
    let told = || failed(format!("read the snapshots of guest {name}"));
    match domain.list_all_snapshots(0) {
        Err(error) if error.code().is(ErrorNumber::NoSupport) => {}
        snapshots => {
            for snapshot in snapshots.map_err(told())? {
                texts.push(snapshot.xml_desc(0).map_err(told())?);
            }
        }
    }
    // Memory that was saved has a definition of its own, which may be older: all that has the guest's UUID in its name is needed.
    if domain.has_managed_save(0).map_err(failed(format!("ask for saved memory of guest {name}")))? {
        texts.push(format!("{SAVED}{}", domain.uuid().map_err(failed("read the guest's UUID"))?));
    }
    Ok((name, texts))
}

/// Begins what stands for a saved guest.
const SAVED: &str = "saved ";

/// Whether the text has the word, and not only as the beginning of a longer one.
fn names(text: &str, word: &str) -> bool {
    if let Some(guest) = text.strip_prefix(SAVED) {
        return word.contains(guest) || word.contains(&guest.replace('-', "--"));
    }
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));
    text.match_indices(word).any(|(at, found)| !goes_on(&text[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_with_what_follows_a_point_and_not_within_another() {
        let text = "<source file='/d/0d1f/vda.base'/><source dev='/dev/mapper/fast-bowline--0d1f--vdb'/>";
        for (word, found) in [
            ("0d1f/vda", true),
            ("0d1f/vd", false),
            ("bowline--0d1f--vdb", true),
            ("bowline--0d1f", false),
            ("0d1f/vdb", false),
        ] {
            assert_eq!(names(text, word), found, "{word}");
        }
        assert!(!names("<source file='/d/0d1f/vda-0123abcd'/>", "0d1f/vda"));
        assert!(names("saved 0d1f-2e", "bowline-0d1f-2e-vda") && names("saved 0d1f-2e", "bowline--0d1f--2e--vda"));
    }

    #[test]
    fn every_guest_and_snapshot_is_asked() {
        let connect = Connect::open(Some("test:///default")).unwrap();
        let domain = connect.lookup_domain_by_name("test").unwrap();
        let disk = "<disk type='file' device='disk'><source file='/disks/0d1f/vda'/><target dev='vda' bus='virtio'/></disk>";
        let xml = format!(
            "<domain type='test'><name>other</name><memory>8192</memory><os><type>hvm</type></os><devices>{disk}</devices></domain>"
        );
        let other = connect.define_domain_xml(&xml).unwrap();
        let words = ["0d1f/vda".to_owned(), "0d1f/vdb".to_owned(), "before/vdc".to_owned()];
        domain
            .create_snapshot_xml("<domainsnapshot><name>s</name><description>before/vdc</description></domainsnapshot>", 0)
            .unwrap();
        let found = mentions(&connect, &words).unwrap();
        let told: Vec<_> = found.iter().map(|(word, guest)| (word.as_str(), guest.as_str())).collect();
        assert_eq!(told, [("0d1f/vda", "other"), ("before/vdc", "test")]);
        other.undefine().unwrap();
    }
}
