//! The few SCSI commands that identify a LUN (SPC-4, SBC-3).

use super::{
    ProbeError,
    pdu::{Connection, MAX_DATA_BYTES, Pdu, opcode},
};
use crate::{
    connectors::iscsi::identity::{PAGE_IDENTIFICATION, PAGE_SERIAL, identity},
    model::ObservedIdentity,
};

/// How often a command is sent again after a unit attention. A LUN has a few to tell a new initiator (power on,
/// capacity or parameters changed), each once.
const MAX_ATTENTIONS: u32 = 8;

/// Bytes asked for of each VPD page.
const PAGE_BYTES: u16 = 4096;

const STATUS_GOOD: u8 = 0x00;
const SENSE_ILLEGAL_REQUEST: u8 = 5;
const SENSE_UNIT_ATTENTION: u8 = 6;
const ASC_NO_SUCH_LUN: u8 = 0x25;

/// A command the target did not carry out.
struct Refusal {
    status: u8,
    key: u8,
    asc: u8,
    ascq: u8,
}

/// Asks the LUN for type, identity and size.
pub(super) async fn identify(connection: &mut Connection, lun: u64) -> Result<ObservedIdentity, ProbeError> {
    let mut unit = Unit { connection, lun };
    let inquiry = unit.inquiry(None).await?.ok_or(ProbeError::NoSuchLun { lun })?;
    let first = inquiry.first().copied().ok_or(ProbeError::Malformed { what: "its INQUIRY data is empty" })?;
    // Qualifier 3, or type 31: nothing can ever be at this LUN.
    let (qualifier, device_type) = (first >> 5, first & 0x1f);
    if qualifier == 3 || device_type == 0x1f {
        return Err(ProbeError::NoSuchLun { lun });
    }
    if device_type != 0 {
        return Err(ProbeError::NotADisk { lun, device_type });
    }
    let serial = unit.inquiry(Some(PAGE_SERIAL)).await?;
    let identification = unit.inquiry(Some(PAGE_IDENTIFICATION)).await?;
    let size_bytes = unit.size_bytes().await?;
    Ok(ObservedIdentity { identity: identity(serial.as_deref(), identification.as_deref()), size_bytes })
}

struct Unit<'a> {
    connection: &'a mut Connection,
    lun: u64,
}

impl Unit<'_> {
    /// INQUIRY; `None` when the unit has no such page.
    async fn inquiry(&mut self, page: Option<u8>) -> Result<Option<Vec<u8>>, ProbeError> {
        let [high, low] = PAGE_BYTES.to_be_bytes();
        let command = [0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0];
        match self.command(&command, PAGE_BYTES.into()).await? {
            Ok(data) => Ok(Some(data)),
            Err(refusal) if refusal.key == SENSE_ILLEGAL_REQUEST => Ok(None),
            Err(refusal) => Err(self.failed("INQUIRY", &refusal)),
        }
    }

    async fn size_bytes(&mut self) -> Result<u64, ProbeError> {
        // READ CAPACITY(16): SERVICE ACTION IN(16) with action 0x10.
        let long = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        match self.command(&long, 32).await? {
            Ok(data) => capacity_16(&data),
            Err(refusal) if refusal.key == SENSE_ILLEGAL_REQUEST && refusal.asc != ASC_NO_SUCH_LUN => {
                match self.command(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8).await? {
                    Ok(data) => capacity_10(&data),
                    Err(refusal) => Err(self.failed("READ CAPACITY(10)", &refusal)),
                }
            }
            Err(refusal) => Err(self.failed("READ CAPACITY(16)", &refusal)),
        }
    }

    fn failed(&self, command: &'static str, refusal: &Refusal) -> ProbeError {
        let Refusal { status, key, asc, ascq } = *refusal;
        if key == SENSE_ILLEGAL_REQUEST && asc == ASC_NO_SUCH_LUN {
            return ProbeError::NoSuchLun { lun: self.lun };
        }
        ProbeError::Command { command, status, key, asc, ascq }
    }

    /// Sends a command that reads at most `length` bytes, again after each unit attention.
    async fn command(&mut self, cdb: &[u8], length: u32) -> Result<Result<Vec<u8>, Refusal>, ProbeError> {
        let mut attentions = 0;
        loop {
            match self.command_once(cdb, length).await? {
                Err(refusal) if refusal.key == SENSE_UNIT_ATTENTION && attentions < MAX_ATTENTIONS => attentions += 1,
                ended => return Ok(ended),
            }
        }
    }

    async fn command_once(&mut self, cdb: &[u8], length: u32) -> Result<Result<Vec<u8>, Refusal>, ProbeError> {
        // Final, read, simple task.
        let pdu = Pdu::new(opcode::SCSI_COMMAND, 0x80 | 0x40 | 0x01)
            .with(8, &wire_lun(self.lun))
            .with(20, &length.to_be_bytes())
            .with(32, cdb);
        let tag = self.connection.request(pdu).await?;
        let mut received = Vec::new();
        loop {
            let answer = self.connection.answer(tag).await?;
            match answer.opcode() {
                opcode::DATA_IN => {
                    if answer.word(40) as usize != received.len() || received.len() + answer.data.len() > MAX_DATA_BYTES {
                        return Err(ProbeError::Malformed { what: "its data comes out of order or without end" });
                    }
                    received.extend(&answer.data);
                    received.truncate(length as usize);
                    // The status may come with the last data.
                    if answer.byte(1) & 0x01 != 0 {
                        return Ok(ended(answer.byte(3), &[], received));
                    }
                }
                opcode::SCSI_RESPONSE if answer.byte(2) == 0 => return Ok(ended(answer.byte(3), &answer.data, received)),
                opcode::SCSI_RESPONSE => return Err(ProbeError::Malformed { what: "the target failed inside" }),
                _ => return Err(ProbeError::Malformed { what: "a command was answered by something else" }),
            }
        }
    }
}

/// Sense data comes with two bytes of length before it (RFC 7143, 11.4.7.2).
fn ended(status: u8, data: &[u8], received: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    if status == STATUS_GOOD {
        return Ok(received);
    }
    let sense = data.get(2..).unwrap_or_default();
    let at = |index: usize| sense.get(index).copied().unwrap_or(0);
    // Descriptor format is 0x72 and 0x73, fixed format 0x70 and 0x71 (SPC-4, 4.5).
    let (key, asc, ascq) = match at(0) & 0x7f {
        0x72 | 0x73 => (at(1), at(2), at(3)),
        _ => (at(2), at(12), at(13)),
    };
    Err(Refusal { status, key: key & 0x0f, asc, ascq })
}

/// The number as the kernel spells it on the wire: 16-bit levels, the lowest first.
fn wire_lun(lun: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h] = lun.to_be_bytes();
    [g, h, e, f, c, d, a, b]
}

fn capacity_16(data: &[u8]) -> Result<u64, ProbeError> {
    let (last, rest) = data.split_first_chunk::<8>().ok_or(SHORT_CAPACITY)?;
    let block = rest.first_chunk::<4>().ok_or(SHORT_CAPACITY)?;
    size(u64::from_be_bytes(*last), u32::from_be_bytes(*block))
}

fn capacity_10(data: &[u8]) -> Result<u64, ProbeError> {
    let (last, rest) = data.split_first_chunk::<4>().ok_or(SHORT_CAPACITY)?;
    let block = rest.first_chunk::<4>().ok_or(SHORT_CAPACITY)?;
    size(u32::from_be_bytes(*last).into(), u32::from_be_bytes(*block))
}

const SHORT_CAPACITY: ProbeError = ProbeError::Malformed { what: "its capacity data is too short" };

fn size(last_block: u64, block_bytes: u32) -> Result<u64, ProbeError> {
    let blocks = last_block.checked_add(1);
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(block_bytes.into()));
    bytes.filter(|bytes| *bytes > 0).ok_or(ProbeError::Malformed { what: "its capacity is impossible" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_read_and_impossible_ones_refused() {
        let mut data = 0x3f_ffffu64.to_be_bytes().to_vec();
        data.extend(512u32.to_be_bytes());
        assert_eq!(capacity_16(&data).unwrap(), 2 << 30);
        assert_eq!(capacity_10(&[0, 0, 0, 7, 0, 0, 16, 0]).unwrap(), 32768);
        assert!(capacity_16(&[0xff; 12]).is_err());
        assert!(capacity_16(&[0; 12]).is_err());
        assert!(capacity_10(&[0; 5]).is_err());
    }

    #[test]
    fn luns_are_spelt_as_the_kernel_does() {
        assert_eq!(wire_lun(1), [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wire_lun(300), [1, 44, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn sense_is_read_in_both_forms() {
        let fixed = [0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0x01];
        let descriptor = [0, 8, 0x72, 6, 0x29, 0x01];
        for data in [&fixed[..], &descriptor[..]] {
            let refusal = ended(2, data, vec![]).err().unwrap();
            assert_eq!((refusal.key, refusal.asc, refusal.ascq), (6, 0x29, 1));
        }
    }
}
