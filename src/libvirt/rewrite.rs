//! A domain's XML copied with small changes: all else goes over as it was.
//!
//! Only what is to be defined for the first time, and what a guest is started by once, is written so: a definition that stands is
//! never written back.

use super::error::LibvirtError;
use crate::model::GuestUuid;
use quick_xml::{
    Reader, Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};
use uuid::Uuid;

/// The namespace of what Bowline writes into a definition's metadata.
pub(super) const NAMESPACE: &str = "urn:bowline:guest:1";

/// Makes a handed-over XML one that has this UUID and this mark, and no mark of another time.
pub(super) fn marked(xml: &str, guest: GuestUuid, mark: Uuid) -> Result<String, LibvirtError> {
    let mut has_metadata = false;
    let copied = copy(xml, |path, element, out| {
        match (path, element) {
            (["domain", "uuid"], _) => return Ok(Fate::Dropped),
            (["domain", "metadata", _], Element::Opens(element)) if is_mark(element) => return Ok(Fate::Dropped),
            (["domain", "metadata"], Element::Opens(_)) => has_metadata = true,
            (["domain", "metadata"], Element::Closes) => write_mark(out, mark)?,
            (["domain"], Element::Closes) => {
                if !has_metadata {
                    out.write_event(Event::Start(BytesStart::new("metadata")))?;
                    write_mark(out, mark)?;
                    out.write_event(Event::End(BytesEnd::new("metadata")))?;
                }
                out.create_element("uuid").write_text_content(BytesText::new(&guest.to_string()))?;
            }
            _ => {}
        }
        Ok(Fate::Copied)
    })?;
    Ok(copied)
}

/// A definition that boots from one more disk and from nothing else.
pub(super) fn booting_from(xml: &str, disk: &str) -> Result<String, LibvirtError> {
    copy(xml, |path, element, out| {
        match (path, element) {
            (["domain", "os", "boot" | "kernel" | "initrd" | "cmdline"] | ["domain", "devices", _, "boot"], _) => {
                return Ok(Fate::Dropped);
            }
            (["domain", "devices"], Element::Closes) => out.get_mut().extend_from_slice(disk.as_bytes()),
            _ => {}
        }
        Ok(Fate::Copied)
    })
}

/// The mark that an element is, if it is one.
pub(super) fn mark_of(element: &BytesStart<'_>) -> Option<Uuid> {
    let value = |name: &str| {
        let attribute = element.attributes().flatten().find(|attribute| attribute.key.as_ref() == name)?;
        Some(attribute.value.into_owned())
    };
    is_mark(element).then(|| value("mark")?.parse().ok()).flatten()
}

fn is_mark(element: &BytesStart<'_>) -> bool {
    element
        .attributes()
        .flatten()
        .any(|attribute| attribute.key.as_ref().starts_with("xmlns") && &*attribute.value == NAMESPACE)
}

fn write_mark(out: &mut Writer<Vec<u8>>, mark: Uuid) -> std::io::Result<()> {
    let mark = mark.to_string();
    let attributes = [("xmlns:bowline", NAMESPACE), ("mark", mark.as_str())];
    out.create_element("bowline:guest").with_attributes(attributes).write_empty()?;
    Ok(())
}

/// What becomes of an element.
enum Fate {
    Copied,
    /// With all that is in it.
    Dropped,
}

/// Where the copying is at.
enum Element<'a, 'b> {
    /// Before its start is copied.
    Opens(&'a BytesStart<'b>),
    /// Before its end is copied.
    Closes,
}

fn copy(
    xml: &str,
    mut judge: impl FnMut(&[&str], &Element<'_, '_>, &mut Writer<Vec<u8>>) -> std::io::Result<Fate>,
) -> Result<String, LibvirtError> {
    let unreadable = |problem: String| LibvirtError::DomainXml { problem };
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut out = Writer::new(Vec::new());
    let mut path: Vec<String> = Vec::new();
    // How deep the element is that is being dropped.
    let mut dropped: Option<usize> = None;
    loop {
        let event = reader.read_event().map_err(|error| unreadable(error.to_string()))?;
        match &event {
            Event::Eof => break,
            Event::Start(element) => {
                path.push(element.name().as_ref().to_owned());
                let steps: Vec<&str> = path.iter().map(String::as_str).collect();
                if dropped.is_none() {
                    let fate = judge(&steps, &Element::Opens(element), &mut out);
                    if let Fate::Dropped = fate.map_err(|error| unreadable(error.to_string()))? {
                        dropped = Some(path.len());
                    }
                }
            }
            Event::End(_) if dropped.is_none() => {
                let steps: Vec<&str> = path.iter().map(String::as_str).collect();
                judge(&steps, &Element::Closes, &mut out).map_err(|error| unreadable(error.to_string()))?;
            }
            _ => {}
        }
        if dropped.is_none() {
            out.write_event(event.borrow()).map_err(|error| unreadable(error.to_string()))?;
        }
        if let Event::End(_) = event {
            if dropped == Some(path.len()) {
                dropped = None;
            }
            path.pop();
        }
    }
    String::from_utf8(out.into_inner()).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: GuestUuid = GuestUuid(Uuid::from_u128(7));

    #[test]
    fn a_mark_and_a_uuid_come_in_the_place_of_those_that_were() {
        let mark = Uuid::from_u128(9);
        let ours = format!("<bowline:guest xmlns:bowline=\"{NAMESPACE}\" mark=\"{mark}\"/>");
        let uuid = format!("<uuid>{GUEST}</uuid>");
        let bare = marked("<domain type='kvm'><name>a&amp;b</name></domain>", GUEST, mark).unwrap();
        assert_eq!(bare, format!("<domain type='kvm'><name>a&amp;b</name><metadata>{ours}</metadata>{uuid}</domain>"));
        let before = marked("<domain><uuid>x</uuid><metadata><o:x xmlns:o='urn:o'><y/></o:x></metadata></domain>", GUEST, mark);
        let before = before.unwrap();
        assert_eq!(before, format!("<domain><metadata><o:x xmlns:o='urn:o'><y></y></o:x>{ours}</metadata>{uuid}</domain>"));
        let (again, other) = (Uuid::from_u128(10), marked(&before, GUEST, Uuid::from_u128(10)).unwrap());
        assert_eq!(other, before.replace(&mark.to_string(), &again.to_string()), "an old mark goes");
        assert_eq!(marked("<domain><metadata/></domain>", GUEST, mark).unwrap().matches("<bowline:guest").count(), 1);
    }

    #[test]
    fn a_guest_that_boots_from_a_disk_boots_from_no_other() {
        let xml = "<domain><os><type>hvm</type><kernel>/k</kernel><boot dev='hd'/></os><devices><disk><boot order='1'/><target dev='vda'/>\
                   </disk><interface><boot order='2'/></interface></devices></domain>";
        assert_eq!(
            booting_from(xml, "<disk/>").unwrap(),
            "<domain><os><type>hvm</type></os><devices><disk><target dev='vda'></target></disk><interface></interface><disk/></devices></domain>"
        );
    }
}
