//! Guests that Bowline defines, and takes away again: none of them but by the mark that it put into their definition.
//!
//! | handed over | refused, before libvirt sees it |
//! | --- | --- |
//! | any XML of a domain that libvirt's schema allows | a document type (entities that grow, files that are read) |
//! | with disks and devices of the host as its author likes | passwords, which would be in the journal |
//! | | another name than was asked for; a name or UUID that a guest has |

use super::{
    Outcome,
    connection::{Call, Connection},
    domain_xml::DomainXml,
    error::{LibvirtError, failed},
    guest, rewrite, template,
};
use crate::model::{GuestDefinition, GuestTemplate, GuestUuid, NewGuest};
use quick_xml::{Reader, events::Event};
use std::sync::Arc;
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

/// What a guest is undefined with: its saved state, the records of snapshots and checkpoints.
const WITH_ALL: u32 = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;

/// Reads what is handed over and makes the definition of it, under a UUID and a mark of its own. Touches nothing.
pub(super) async fn prepare(
    connection: &Arc<Connection>,
    name: &str,
    definition: &GuestDefinition,
) -> Result<NewGuest, LibvirtError> {
    let text = match definition {
        GuestDefinition::Xml(text) => text.clone(),
        GuestDefinition::Template(template) => {
            let GuestTemplate { virt_type, arch, machine, .. } = template.clone();
            let ask = move |connect: &Connect| {
                let told = connect.domain_capabilities(None, arch.as_deref(), machine.as_deref(), virt_type.as_deref(), 0);
                told.map_err(failed("find out what machines this host has"))
            };
            let call = Call::new("find out what machines this host has", None, connection.config.call_timeout_s);
            let machine = Machine::read(&connection.read(call, ask).await?)?;
            template::guest(name, template, &machine)?
        }
    };
    new_guest(name, &text)
}

/// What libvirt makes guests of where nothing else is asked for.
pub(super) struct Machine {
    /// `kvm`, or `qemu` where the host's processor cannot help.
    pub(super) domain_type: String,
    /// QEMU's word for it.
    pub(super) machine: String,
    /// libvirt's word for it.
    pub(super) arch: String,
}

impl Machine {
    /// From a `<domainCapabilities>`.
    fn read(xml: &str) -> Result<Self, LibvirtError> {
        let mut reader = Reader::from_str(xml);
        let mut machine = Self { domain_type: String::new(), machine: String::new(), arch: String::new() };
        let mut path: Vec<String> = vec![];
        loop {
            match reader.read_event().map_err(|error| LibvirtError::DomainXml { problem: error.to_string() })? {
                Event::Start(element) => path.push(element.name().as_ref().to_owned()),
                Event::End(_) => drop(path.pop()),
                Event::Text(text) => {
                    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
                    let place = match steps.as_slice() {
                        ["domainCapabilities", "domain"] => &mut machine.domain_type,
                        ["domainCapabilities", "machine"] => &mut machine.machine,
                        ["domainCapabilities", "arch"] => &mut machine.arch,
                        _ => continue,
                    };
                    place.push_str(&text.xml10_content());
                }
                Event::Eof => return Ok(machine),
                _ => {}
            }
        }
    }
}

/// Judges what is handed over.
pub(super) fn new_guest(name: &str, text: &str) -> Result<NewGuest, LibvirtError> {
    let refuse = |problem: String| LibvirtError::Definition { guest: name.to_owned(), problem };
    check_content(text).map_err(refuse)?;
    let domain = DomainXml::parse(text).map_err(|error| refuse(error.to_string()))?;
    let guest = domain.uuid.unwrap_or(GuestUuid(Uuid::new_v4()));
    if domain.name != name && guest.to_string() != name {
        return Err(refuse(format!("it is of a guest named {:?}", domain.name)));
    }
    if domain.has_uuid && domain.uuid.is_none() {
        return Err(refuse("its <uuid> is none".to_owned()));
    }
    let mark = Uuid::new_v4();
    let xml = rewrite::marked(text, guest, mark).map_err(|error| refuse(error.to_string()))?;
    let targets = domain.disks.into_iter().map(|disk| disk.target).collect();
    Ok(NewGuest { guest, mark, name: domain.name, xml, targets, memory_mib: domain.memory_mib })
}

/// What no handed-over XML may have, whatever libvirt makes of it.
fn check_content(text: &str) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    let mut roots = 0_usize;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::DocType(_) => return Err("it has a document type, which no domain needs: leave it out".to_owned()),
            Event::Start(element) | Event::Empty(element) if has_password(&element) => {
                return Err(
                    "it has a password (passwd), which would be kept in Bowline's journal: leave it out, and set it once the \
                            guest is there (virsh update-device)"
                        .to_owned(),
                );
            }
            Event::Start(element) | Event::Empty(element) if hands_qemu_a_secret(&element) => {
                return Err(
                    "it hands QEMU a secret (qemu:arg or qemu:env with a password or the data of a secret), which would be kept in \
                            Bowline's journal: name a file of the host that holds it"
                        .to_owned(),
                );
            }
            Event::Start(element) => {
                if depth == 0 {
                    roots += 1;
                    if element.name().as_ref() != "domain" {
                        return Err(format!("it is a <{}> and no <domain>", element.name().as_ref()));
                    }
                }
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(format!("its elements are nested more than {DEPTH_MAX} deep"));
                }
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Eof if roots == 1 => return Ok(()),
            Event::Eof => return Err(format!("it has {roots} domains")),
            _ => {}
        }
    }
}

/// Deeper than any domain's elements are.
const DEPTH_MAX: usize = 64;

fn has_password(element: &quick_xml::events::BytesStart<'_>) -> bool {
    element.attributes().flatten().any(|attribute| attribute.key.as_ref() == "passwd")
}

/// Whether it is an argument or a variable of QEMU's, whatever its prefix, with a secret in it: `secret,id=..,data=..`, in QEMU's words or
/// in JSON, or a password. `password-secret=ID` and `password=on` name none.
fn hands_qemu_a_secret(element: &quick_xml::events::BytesStart<'_>) -> bool {
    if !matches!(element.local_name().as_ref(), "arg" | "env") {
        return false;
    }
    let attributes: Vec<String> =
        element.attributes().flatten().map(|attribute| attribute.value.to_ascii_lowercase()).collect();
    // Blanks and quotes aside, JSON says it with a colon.
    let plain = |text: &String| text.replace("&quot;", "").replace(['"', '\'', ' '], "").replace(':', "=");
    attributes.iter().map(plain).any(|text| {
        let of_secret = text.contains("secret") && text.split([',', '{']).any(|part| part.starts_with("data="));
        let password = text
            .split([',', '{'])
            .filter_map(|part| part.rsplit_once("password="))
            .any(|(_, value)| !matches!(value.trim_end_matches('}'), "" | "on" | "off" | "true" | "false"));
        of_secret || password
    }) || (attributes.len() > 1 && attributes.iter().any(|text| text.contains("password")))
}

/// Defines the guest, after libvirt's schema. One that has the mark is there already.
pub(super) async fn define(connection: &Arc<Connection>, new: &NewGuest) -> Result<Outcome, LibvirtError> {
    let operation = format!("define guest {}", new.name);
    let call = Call::new(operation.clone(), Some(new.guest), connection.config.attach_timeout_s);
    let new = new.clone();
    let work = move |connect: &Connect| {
        if let Some(domain) = guest::by_uuid(connect, new.guest)? {
            // libvirt would put the one in the place of the other.
            return match is_marked(&domain, new.mark)? {
                true => Ok(Outcome::Unchanged),
                false => Err(LibvirtError::Defined { guest: new.guest.to_string() }),
            };
        }
        match connect.define_domain_xml_flags(&new.xml, sys::VIR_DOMAIN_DEFINE_VALIDATE) {
            Ok(_) => Ok(Outcome::Changed),
            // Another guest has the name.
            Err(error) if error.code().is(ErrorNumber::OperationFailed) && guest::find(connect, &new.name).is_ok() => {
                Err(LibvirtError::Defined { guest: new.name.clone() })
            }
            Err(error) => Err(failed(operation.clone())(error)),
        }
    };
    connection.read(call, work).await
}

/// Takes the guest with the mark away, at once if it runs. One that is gone, or that somebody has defined without the mark, is fine.
pub(super) async fn undefine(connection: &Arc<Connection>, uuid: GuestUuid, mark: Uuid) -> Result<Outcome, LibvirtError> {
    let operation = format!("undefine guest {uuid}");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let work = move |connect: &Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        if !is_marked(&domain, mark)? {
            return Ok(Outcome::Unchanged);
        }
        if domain.is_active().map_err(failed(operation.clone()))? {
            match domain.destroy() {
                Err(error) if !error.code().is(ErrorNumber::OperationInvalid) => return Err(failed(operation.clone())(error)),
                _ => {}
            }
        }
        let name = domain.name().map_err(failed("read the guest's name"))?;
        let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE).map_err(failed("read the guest's definition"))?;
        // The file that libvirt made for this very guest (virQEMUDriverConfig's nvramDir). Another may be another guest's.
        let is_own = xml.contains(&format!("/nvram/{name}_VARS."));
        let nvram = if is_own { sys::VIR_DOMAIN_UNDEFINE_NVRAM } else { sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM };
        match domain.undefine_flags(WITH_ALL | nvram) {
            Ok(()) => Ok(Outcome::Changed),
            Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(Outcome::Unchanged),
            Err(error) => Err(failed(operation.clone())(error)),
        }
    };
    connection.read(call, work).await
}

fn is_marked(domain: &Domain, mark: Uuid) -> Result<bool, LibvirtError> {
    // One that is only running has no definition that could be taken away.
    if !domain.is_persistent().map_err(failed("read the guest's persistence"))? {
        return Ok(false);
    }
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE).map_err(failed("read the guest's definition"))?;
    Ok(DomainXml::parse(&xml)?.mark == Some(mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn what_is_handed_over_is_judged_before_libvirt_sees_it() {
        let deep = format!("<domain><name>g</name>{}", "<a>".repeat(100));
        for (text, word) in [
            ("", "0 domains"),
            ("<domain><name>g</name>", "ends early"),
            ("<network><name>g</name></network>", "<network>"),
            ("<domain><name>other</name></domain>", "\"other\""),
            ("<domain><name>g</name><uuid>x</uuid></domain>", "<uuid>"),
            ("<!DOCTYPE d [<!ENTITY a 'aa'>]><domain><name>g</name></domain>", "document type"),
            ("<domain><name>g</name><devices><graphics type='vnc' passwd='x'/></devices></domain>", "password"),
            ("<domain><name>g</name><q:commandline><q:arg value='secret,id=s,data=abcd'/></q:commandline></domain>", "secret"),
            (
                "<domain><name>g</name><q:arg value='{&quot;qom-type&quot;: &quot;secret&quot;, &quot;data&quot;: &quot;x&quot;}'/></domain>",
                "secret",
            ),
            ("<domain><name>g</name><q:arg value='rbd:p/i:password=x'/></domain>", "secret"),
            ("<domain><name>g</name><q:arg value='file.password=x,file.driver=https'/></domain>", "secret"),
            ("<domain><name>g</name><q:env name='DB_PASSWORD' value='x'/></domain>", "secret"),
            (deep.as_str(), "nested"),
            ("<domain><name>g</name></domain><domain><name>h</name></domain>", "2 domains"),
        ] {
            let error = new_guest("g", text).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(word), "{text}: {error}");
        }
        let harmless = "<domain><name>g</name><q:arg value='secret,id=s,file=/etc/s'/><q:arg value='vnc=:1,password=on,password-secret=s'/>\
                        <q:arg value='virtio-blk,data=x'/><q:env name='LANG' value='C'/></domain>";
        assert_eq!(check_content(harmless), Ok(()));
        let uuid = "0d1f2e3c-4b5a-4678-9abc-def012345678";
        let text =
            format!("<domain><name>g</name><uuid>{uuid}</uuid><devices><disk><target dev='vdz'/></disk></devices></domain>");
        for name in ["g", uuid] {
            let new = new_guest(name, &text).unwrap();
            assert_eq!((new.guest.to_string().as_str(), new.name.as_str(), new.targets), (uuid, "g", vec!["vdz".to_owned()]));
            assert_eq!(DomainXml::parse(&new.xml).unwrap().mark, Some(new.mark));
        }
    }

    #[test]
    fn the_host_tells_what_it_makes_guests_of() {
        let told = "<domainCapabilities><path>/q</path><domain>kvm</domain><machine>pc-i440fx-7.2</machine><arch>x86_64</arch>\
                    <os><loader><value>x</value></loader></os></domainCapabilities>";
        let machine = Machine::read(told).unwrap();
        assert_eq!((machine.domain_type.as_str(), machine.arch.as_str()), ("kvm", "x86_64"));
        let template = GuestTemplate {
            memory_mib: 512,
            vcpus: 2,
            networks: vec!["a&b".into()],
            virt_type: None,
            arch: None,
            machine: None,
        };
        let new = new_guest("g", &template::guest("g", &template, &machine).unwrap()).unwrap();
        assert!(
            new.xml.contains("<source network=\"a&amp;b\"/>") || new.xml.contains("<source network=\"a&amp;b\"></source>"),
            "{}",
            new.xml
        );
    }
}
