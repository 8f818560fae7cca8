//! The bytes on tgtd's control socket.
//!
//! A request is `struct tgtadm_req` in the machine's byte order, then text that ends in a NUL byte; an answer is
//! `struct tgtadm_rsp`, then text. The layout is that of tgt 1.0.85 (`usr/tgtadm.h`), checked against what its
//! `tgtadm` sends:
//!
//! ```text
//! request, 120 bytes                          answer, 8 bytes
//!   0 mode      u32    80 session     u64       0 error  u32, 0 is success
//!   4 operation u32    88 lun         u64       4 length u32, these 8 bytes included
//!   8 driver    64     96 connection  u32
//!  72 length    u32   100 host number u32
//!  76 target    i32   104 device type u32
//!                     108 direction   u32
//!                     112 pack        u32
//!                     116 force       u32
//! ```

use zeroize::Zeroizing;

use super::error::{TgtError, TgtRefusal};

/// Bytes of a request before its text.
const REQUEST_HEADER: usize = 120;
/// Bytes of an answer before its text.
pub(super) const ANSWER_HEADER: usize = 8;
/// The driver a request is for.
const DRIVER: &[u8] = b"iscsi";
/// "No LUN in particular", as `tgtadm` sends it.
const NO_LUN: u64 = u64::MAX;

/// What a request is about (`enum tgtadm_mode`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Mode {
    /// The daemon.
    System = 0,
    /// A target, or with no number all of them.
    Target = 1,
    /// A LUN.
    Device = 2,
    /// An address to listen on.
    Portal = 3,
    /// A connection of a session.
    Connection = 6,
    /// A CHAP account.
    Account = 7,
}

/// What to do with it (`enum tgtadm_op`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Operation {
    /// Make it.
    New = 0,
    /// Remove it.
    Delete = 1,
    /// Describe it.
    Show = 2,
    /// Allow somebody in.
    Bind = 3,
    /// Disallow somebody.
    Unbind = 4,
    /// Change it.
    Update = 5,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it is about.
    pub mode: Mode,
    /// What to do.
    pub operation: Operation,
    /// The target's number; `None` where none is meant.
    pub target: Option<i32>,
    /// The session's number, else 0.
    pub session: u64,
    /// The connection's number, else 0.
    pub connection: u32,
    /// The LUN; `None` where none is meant.
    pub lun: Option<u64>,
    /// Remove although it is in use.
    pub force: bool,
    /// `key=value` text, or empty.
    pub parameters: Parameters<'a>,
}

/// The text of a request. It may hold a password, so it does not show itself.
#[derive(Clone, Copy)]
pub struct Parameters<'a>(pub &'a str);

impl std::fmt::Debug for Parameters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl<'a> Request<'a> {
    /// A request about nothing in particular.
    pub fn new(mode: Mode, operation: Operation) -> Self {
        Self { mode, operation, target: None, session: 0, connection: 0, lun: None, force: false, parameters: Parameters("") }
    }

    /// About this target.
    pub fn target(self, target: i32) -> Self {
        Self { target: Some(target), ..self }
    }

    /// With this text.
    pub fn parameters(self, text: &'a str) -> Self {
        Self { parameters: Parameters(text), ..self }
    }

    /// The bytes to send.
    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TgtError> {
        let text = self.parameters.0.as_bytes();
        if text.contains(&0) {
            return Err(TgtError::Unsendable { what: "a parameter" });
        }
        let text_len = if text.is_empty() { 0 } else { text.len() + 1 };
        let total = u32::try_from(REQUEST_HEADER + text_len).map_err(|_| TgtError::Unsendable { what: "a parameter" })?;
        // Wiped after use: there may be a password in it.
        let mut bytes = Zeroizing::new(Vec::with_capacity(REQUEST_HEADER + text_len));
        bytes.extend((self.mode as u32).to_ne_bytes());
        bytes.extend((self.operation as u32).to_ne_bytes());
        let mut driver = [0u8; 64];
        driver.iter_mut().zip(DRIVER).for_each(|(to, from)| *to = *from);
        bytes.extend(driver);
        bytes.extend(total.to_ne_bytes());
        bytes.extend(self.target.unwrap_or(-1).to_ne_bytes());
        bytes.extend(self.session.to_ne_bytes());
        bytes.extend(self.lun.unwrap_or(NO_LUN).to_ne_bytes());
        bytes.extend(self.connection.to_ne_bytes());
        bytes.extend([0u8; 16]); // Host number, device type 0 (disk), direction 0 (the initiator's account), pack.
        bytes.extend(u32::from(self.force).to_ne_bytes());
        if text_len > 0 {
            bytes.extend(text);
            bytes.push(0);
        }
        Ok(bytes)
    }
}

/// Reads an answer's first 8 bytes: how many bytes of text follow, or why not.
pub(super) fn decode_header(header: [u8; ANSWER_HEADER]) -> Result<usize, Option<TgtRefusal>> {
    let [e0, e1, e2, e3, l0, l1, l2, l3] = header;
    match u32::from_ne_bytes([e0, e1, e2, e3]) {
        0 => (u32::from_ne_bytes([l0, l1, l2, l3]) as usize).checked_sub(ANSWER_HEADER).ok_or(None),
        number => Err(Some(TgtRefusal::from_number(number))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_daemon() {
        let request = Request { lun: Some(1), ..Request::new(Mode::Device, Operation::New).target(5) };
        let bytes = request.parameters("path=/a").encode().unwrap();
        assert_eq!(bytes.len(), 128);
        assert_eq!(bytes[0..8], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[8..14], b"iscsi\0");
        assert_eq!(bytes[72..80], [128, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes[88..96], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[120..], b"path=/a\0");
        let forced = Request { force: true, ..Request::new(Mode::Target, Operation::Delete).target(5) }.encode().unwrap();
        assert_eq!((forced.len(), forced[116]), (120, 1));
        assert_eq!(forced[88..96], [255; 8], "no LUN");
    }

    #[test]
    fn text_with_a_nul_byte_is_not_sent() {
        assert!(Request::new(Mode::Account, Operation::New).parameters("user=a\0b").encode().is_err());
    }

    #[test]
    fn answers_are_lengths_or_reasons() {
        let header = |error: u32, len: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&error.to_ne_bytes());
            bytes[4..].copy_from_slice(&len.to_ne_bytes());
            decode_header(bytes)
        };
        assert_eq!(header(0, 8), Ok(0));
        assert_eq!(header(0, 100), Ok(92));
        assert_eq!(header(0, 3), Err(None));
        assert_eq!(header(4, 8), Err(Some(TgtRefusal::NoTarget)));
        assert_eq!(header(99, 8), Err(Some(TgtRefusal::Other(99))));
    }
}
