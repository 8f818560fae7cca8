//! `SendTargets` (RFC 7143, appendix C): what targets a portal has, and by which portals each is reached.

use super::{
    ProbeError,
    pdu::{Connection, NO_TAG, Pdu, opcode},
};
use crate::model::Portal;

/// The longest list taken, bytes: some ten thousand portals.
const MAX_LIST_BYTES: usize = 1024 * 1024;

/// Flags in byte 1 of a text request or response.
const FINAL: u8 = 0x80;

/// One way to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Advertised {
    /// The target.
    pub iqn: String,
    /// Where it can be logged in to.
    pub portal: Portal,
}

/// Asks on a discovery session.
pub(super) async fn send_targets(connection: &mut Connection, asked: &Portal) -> Result<Vec<Advertised>, ProbeError> {
    let mut request = b"SendTargets=All\0".to_vec();
    let mut transfer = NO_TAG;
    let mut list = Vec::new();
    loop {
        let pdu = Pdu::new(opcode::TEXT | opcode::IMMEDIATE, FINAL).with(20, &transfer.to_be_bytes()).with_data(request);
        let tag = connection.request(pdu).await?;
        let answer = connection.answer(tag).await?;
        if answer.opcode() != opcode::TEXT_RESPONSE {
            return Err(ProbeError::Malformed { what: "a text request was answered by something else" });
        }
        list.extend(&answer.data);
        if list.len() > MAX_LIST_BYTES {
            return Err(ProbeError::Malformed { what: "its list of targets has no end" });
        }
        if answer.byte(1) & FINAL != 0 {
            return Ok(read_list(&list, asked));
        }
        // An empty request with its tag asks for the rest.
        transfer = answer.word(20);
        if answer.data.is_empty() || transfer == NO_TAG {
            return Err(ProbeError::Malformed { what: "its list of targets stops in the middle" });
        }
        request = Vec::new();
    }
}

/// `TargetName` begins a target, each `TargetAddress` after it is one of its portals. A target without any is at the portal that was
/// asked. An address that is none is passed over: the others may do.
fn read_list(list: &[u8], asked: &Portal) -> Vec<Advertised> {
    let mut found: Vec<Advertised> = Vec::new();
    let mut target: Option<(String, bool)> = None;
    let at_asked = |target: Option<(String, bool)>| match target {
        Some((iqn, false)) => Some(Advertised { iqn, portal: asked.clone() }),
        _ => None,
    };
    for pair in list.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(pair).ok().and_then(|pair| pair.split_once('=')) else { continue };
        match (key, &mut target) {
            ("TargetName", _) => {
                found.extend(at_asked(target.take()));
                target = Some((value.to_owned(), false));
            }
            ("TargetAddress", Some((iqn, has_address))) => {
                *has_address = true;
                if let Ok(portal) = value.parse() {
                    let way = Advertised { iqn: iqn.clone(), portal };
                    if !found.contains(&way) {
                        found.push(way);
                    }
                }
            }
            _ => {}
        }
    }
    found.extend(at_asked(target));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(list: &str) -> Vec<String> {
        let asked = "10.0.0.1:3261".parse().unwrap();
        read_list(list.as_bytes(), &asked).iter().map(|way| format!("{} {}", way.iqn, way.portal)).collect()
    }

    #[test]
    fn every_portal_belongs_to_the_target_before_it() {
        let list = "TargetName=iqn.a\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=[fd00::1]:3260,2\0\
                    TargetName=iqn.b\0TargetName=iqn.c\0TargetAddress=10.0.0.1:3260,1\0";
        assert_eq!(
            read(list),
            ["iqn.a 10.0.0.1:3260", "iqn.a [fd00::1]:3260", "iqn.b 10.0.0.1:3261", "iqn.c 10.0.0.1:3260"],
            "one without an address is where it was asked for"
        );
    }

    #[test]
    fn what_is_no_address_is_passed_over_and_no_target_is_none() {
        assert_eq!(read("TargetAddress=10.0.0.1:3260\0"), Vec::<String>::new());
        let list = "TargetName=iqn.a\0TargetAddress=../x:1\0TargetAddress=a:1,1\0TargetAddress=a:1,1\0X\0Y=1\0";
        assert_eq!(read(list), ["iqn.a a:1"]);
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "(Target(Name|Address)=[a-z:\\[\\]0-9.,]{0,12}\0){0,9}") {
            let asked = "10.0.0.1:3260".parse().unwrap();
            let _ = read_list(&bytes, &asked);
            let _ = read_list(text.as_bytes(), &asked);
        }
    }
}
