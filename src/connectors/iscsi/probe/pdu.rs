//! iSCSI's unit on the wire (RFC 7143, 11.2): a header of 48 bytes and a data segment padded to 4.

use super::ProbeError;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Header length, bytes.
const HEADER_BYTES: usize = 48;

/// What is announced as MaxRecvDataSegmentLength, bytes; a target that sends more is not obeying. Every answer asked
/// for here is shorter by far.
pub(super) const MAX_DATA_BYTES: usize = 64 * 1024;

/// The tag that means "none".
pub(super) const NO_TAG: u32 = 0xffff_ffff;

/// Opcodes (RFC 7143, 11.2.1.2).
pub(super) mod opcode {
    pub(in super::super) const NOP_OUT: u8 = 0x00;
    pub(in super::super) const SCSI_COMMAND: u8 = 0x01;
    pub(in super::super) const LOGIN: u8 = 0x03;
    pub(in super::super) const TEXT: u8 = 0x04;
    pub(in super::super) const LOGOUT: u8 = 0x06;
    pub(in super::super) const NOP_IN: u8 = 0x20;
    pub(in super::super) const SCSI_RESPONSE: u8 = 0x21;
    pub(in super::super) const LOGIN_RESPONSE: u8 = 0x23;
    pub(in super::super) const TEXT_RESPONSE: u8 = 0x24;
    pub(in super::super) const DATA_IN: u8 = 0x25;
    pub(in super::super) const LOGOUT_RESPONSE: u8 = 0x26;
    /// Set in a request that is delivered at once, outside of the command order.
    pub(in super::super) const IMMEDIATE: u8 = 0x40;
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pdu {
    header: [u8; HEADER_BYTES],
    /// The data segment without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// An empty one with its opcode and flags (byte 1).
    pub(super) fn new(opcode: u8, flags: u8) -> Self {
        Self { header: [0; HEADER_BYTES], data: Vec::new() }.with(0, &[opcode, flags])
    }

    /// Sets header bytes from `at` on.
    pub(super) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        for (place, byte) in self.header.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
        self
    }

    /// Sets the data segment.
    pub(super) fn with_data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    /// Without the bits that are not part of it.
    pub(super) fn opcode(&self) -> u8 {
        self.byte(0) & 0x3f
    }

    /// One header byte.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or(0)
    }

    /// Four header bytes, big-endian.
    pub(super) fn word(&self, at: usize) -> u32 {
        let bytes = self.header.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX).to_be_bytes();
        let with_length = self.clone().with(4, &[0, length[1], length[2], length[3]]);
        let mut bytes = with_length.header.to_vec();
        bytes.extend(&self.data);
        bytes.resize(HEADER_BYTES + padded(self.data.len()), 0);
        bytes
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A connection with its sequence numbers.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Number of the next command.
    command_number: u32,
    /// Number of the status expected next.
    status_number: u32,
    /// Tag of the last request.
    tag: u32,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, command_number: 1, status_number: 0, tag: 0 }
    }

    /// Sends a request with the next tag and returns that tag.
    pub(super) async fn request(&mut self, pdu: Pdu) -> Result<u32, ProbeError> {
        // Any value but the reserved one, so that an answer to an earlier request is never taken for this one's.
        self.tag = (self.tag + 1) % NO_TAG;
        self.request_again(pdu).await
    }

    /// Sends a request with the tag of the one before it, as all requests of one login must have (RFC 7143, 11.12.4).
    pub(super) async fn request_again(&mut self, pdu: Pdu) -> Result<u32, ProbeError> {
        let is_immediate = pdu.byte(0) & opcode::IMMEDIATE != 0;
        let pdu = pdu.with(16, &self.tag.to_be_bytes());
        self.send(pdu).await?;
        if !is_immediate {
            self.command_number = self.command_number.wrapping_add(1);
        }
        Ok(self.tag)
    }

    async fn send(&mut self, pdu: Pdu) -> Result<(), ProbeError> {
        let pdu = pdu.with(24, &self.command_number.to_be_bytes()).with(28, &self.status_number.to_be_bytes());
        self.stream.write_all(&pdu.to_bytes()).await.map_err(ProbeError::Broken)
    }

    /// The next unit that answers `tag`. The target's own pings are answered on the way.
    pub(super) async fn answer(&mut self, tag: u32) -> Result<Pdu, ProbeError> {
        loop {
            let pdu = self.receive().await?;
            match pdu.opcode() {
                opcode::NOP_IN if pdu.word(20) != NO_TAG => {
                    let pong = Pdu::new(opcode::NOP_OUT | opcode::IMMEDIATE, 0x80)
                        .with(8, &[pdu.word(8).to_be_bytes(), pdu.word(12).to_be_bytes()].concat())
                        .with(16, &NO_TAG.to_be_bytes())
                        .with(20, &pdu.word(20).to_be_bytes());
                    self.send(pong).await?;
                }
                _ if pdu.word(16) == tag => {
                    // Data without status does not use a number up.
                    if pdu.opcode() != opcode::DATA_IN || pdu.byte(1) & 0x01 != 0 {
                        self.status_number = pdu.word(24).wrapping_add(1);
                    }
                    return Ok(pdu);
                }
                opcode::NOP_IN => {}
                // Asynchronous message, Reject, or an answer nobody asked for.
                _ => return Err(ProbeError::Malformed { what: "it is no answer to what was asked" }),
            }
        }
    }

    async fn receive(&mut self) -> Result<Pdu, ProbeError> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).await.map_err(ProbeError::Broken)?;
        let mut pdu = Pdu { header, data: Vec::new() };
        let additional_header = usize::from(pdu.byte(4)) * 4;
        let length = (pdu.word(4) & 0x00ff_ffff) as usize;
        if length > MAX_DATA_BYTES {
            return Err(ProbeError::Malformed { what: "its data segment is longer than what was announced as the limit" });
        }
        let mut rest = vec![0; additional_header + padded(length)];
        self.stream.read_exact(&mut rest).await.map_err(ProbeError::Broken)?;
        pdu.data = rest.split_off(additional_header);
        pdu.data.truncate(length);
        Ok(pdu)
    }

    /// Ends the session, so that the target need not wait for a time-out.
    pub(super) async fn logout(&mut self) -> Result<(), ProbeError> {
        let tag = self.request(Pdu::new(opcode::LOGOUT | opcode::IMMEDIATE, 0x80)).await?;
        match self.answer(tag).await?.opcode() {
            opcode::LOGOUT_RESPONSE => self.stream.shutdown().await.or_else(ignore_closed).map_err(ProbeError::Broken),
            _ => Err(ProbeError::Malformed { what: "a logout was answered by something else" }),
        }
    }
}

/// The target may close first.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}
