//! Reads a SCSI device's identity from its vital product data, wherever the bytes came from.
//!
//! Page 0x80 (unit serial number) and page 0x83 (device identification) are laid out in SPC-4, 7.8.15 and 7.8.6. The kernel
//! gives them as files in sysfs, the probe as answers of the target; both are bytes a stranger wrote, so nothing here trusts
//! a length.

use crate::model::DeviceIdentity;

/// Page code of the unit serial number.
pub(super) const PAGE_SERIAL: u8 = 0x80;
/// Page code of the device identification.
pub(super) const PAGE_IDENTIFICATION: u8 = 0x83;

/// Puts the two pages together; a page the device does not have is `None`.
pub(super) fn identity(serial_page: Option<&[u8]>, identification_page: Option<&[u8]>) -> DeviceIdentity {
    DeviceIdentity {
        serial: serial_page.and_then(serial_number),
        wwids: identification_page.map(designators).unwrap_or_default(),
    }
}

/// The payload of a page, if the bytes are that page: code in byte 1, big-endian length in bytes 2 and 3.
fn payload(page: &[u8], code: u8) -> Option<&[u8]> {
    let (header, rest) = page.split_first_chunk::<4>()?;
    let [_, found, high, low] = *header;
    if found != code {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    Some(rest.get(..length).unwrap_or(rest))
}

/// The serial number in page 0x80; blank is none.
fn serial_number(page: &[u8]) -> Option<String> {
    let text = printable(payload(page, PAGE_SERIAL)?);
    (!text.is_empty()).then_some(text)
}

/// The designators of page 0x83 that name the logical unit (not its port, not its target), in the page's order.
fn designators(page: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = payload(page, PAGE_IDENTIFICATION).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
        let [code_set, kind, _, length] = *header;
        let Some((value, next)) = after.split_at_checked(usize::from(length)) else { break };
        rest = next;
        let association = (kind >> 4) & 0b11;
        if association == 0
            && !value.is_empty()
            && let Some(text) = designator(kind & 0x0f, code_set & 0x0f, value)
        {
            found.push(text);
        }
    }
    found
}

/// One designator as text. Types without worldwide meaning (vendor specific, port groups, MD5) are no identity.
fn designator(kind: u8, code_set: u8, value: &[u8]) -> Option<String> {
    const BINARY: u8 = 1;
    let text = if code_set == BINARY { hex(value) } else { printable(value) };
    let prefix = match kind {
        1 => "t10",
        2 => "eui",
        3 => "naa",
        8 => "name",
        _ => return None,
    };
    (!text.is_empty()).then(|| format!("{prefix}.{text}"))
}

/// Two lower-case digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text of a device: padding is trimmed, what cannot be printed is dropped, so that it is safe in logs and in XML.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let kept: String = text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(code: u8, payload: &[u8]) -> Vec<u8> {
        let mut page = vec![0, code];
        page.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        page.extend(payload);
        page
    }

    #[test]
    fn the_serial_is_trimmed() {
        assert_eq!(identity(Some(&page(0x80, b"  beaf11 \0\0")), None).serial.as_deref(), Some("beaf11"));
        assert_eq!(identity(Some(&page(0x80, b"    ")), None).serial, None);
        assert_eq!(identity(Some(&page(0x83, b"beaf11")), None).serial, None, "another page is not the serial");
    }

    #[test]
    fn the_units_designators_are_read_and_its_ports_are_not() {
        let mut payload = vec![2, 1, 0, 16];
        payload.extend(b"IET     00010001");
        payload.extend([1, 3, 0, 8, 0x60, 0, 0, 0, 0, 0, 0, 0x0e]);
        payload.extend([1, 0x14, 0, 4, 0, 0, 0, 1]);
        payload.extend([3, 0x28, 0, 4, b'i', b'q', b'n', b'.']);
        payload.extend([3, 8, 0, 4, b'a', b'b', 0, 0]);
        let wwids = identity(None, Some(&page(0x83, &payload))).wwids;
        assert_eq!(wwids, ["t10.IET     00010001", "naa.600000000000000e", "name.ab"]);
    }

    #[test]
    fn a_cut_page_gives_what_is_whole() {
        let mut payload = vec![1, 3, 0, 2, 0xab, 0xcd];
        payload.extend([1, 3, 0, 200, 1]);
        assert_eq!(identity(None, Some(&page(0x83, &payload))).wwids, ["naa.abcd"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_give_unprintable_text(bytes in prop::collection::vec(any::<u8>(), 0..600), code in 0x80u8..0x84) {
            let found = identity(Some(&page(code, &bytes)), Some(&page(0x83, &bytes)));
            let raw = identity(Some(&bytes), Some(&bytes));
            for text in found.wwids.iter().chain(&found.serial).chain(&raw.wwids).chain(&raw.serial) {
                prop_assert!(!text.is_empty() && !text.contains(char::is_control));
            }
        }
    }
}
