//! The login phase (RFC 7143, 6.3 and 11.12): who we are, the proof, and the terms.
//!
//! ```text
//! SecurityNegotiation --AuthMethod=CHAP--> algorithm -> challenge -> response --accepted--> OperationalNegotiation -> FullFeature
//!          +-----------------AuthMethod=None---------------------------------------------^
//! ```
//! With mutual CHAP our response carries a challenge of our own, and only a target that meets it is gone on with.

use super::{
    Login, ProbeError, chap,
    pdu::{Connection, MAX_DATA_BYTES, Pdu, opcode},
};
use crate::model::Portal;

/// Requests a whole login may take; 4 are usual.
const MAX_ROUNDS: u32 = 16;

/// The terms: one connection, no digests, no recovery, and our limit for what we receive.
const TERMS: [(&str, &str); 13] = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("MaxConnections", "1"),
    ("InitialR2T", "Yes"),
    ("ImmediateData", "No"),
    ("MaxBurstLength", "65536"),
    ("FirstBurstLength", "65536"),
    ("MaxOutstandingR2T", "1"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("DataPDUInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];

/// The terms of a discovery session: the others mean nothing there (RFC 7143, 13).
const DISCOVERY_TERMS: [(&str, &str); 6] = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("ErrorRecoveryLevel", "0"),
];

/// Flags in byte 1 of a login request or response.
mod flag {
    /// Go on to the next stage.
    pub(super) const TRANSIT: u8 = 0x80;
    /// The keys go on in the next unit.
    pub(super) const CONTINUE: u8 = 0x40;
    pub(super) const CURRENT_SECURITY: u8 = 0 << 2;
    pub(super) const CURRENT_OPERATIONAL: u8 = 1 << 2;
    pub(super) const NEXT_OPERATIONAL: u8 = 1;
    pub(super) const NEXT_FULL_FEATURE: u8 = 3;
}

/// How a login ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Commands may follow.
    LoggedIn,
    /// To be tried there.
    Redirected(Portal),
}

/// The target's answer to one request.
enum Answer {
    Keys { keys: Vec<(String, String)>, transit: bool },
    Redirected(Portal),
}

/// Logs in to `target`, or, with none, for discovery.
pub(super) async fn login(connection: &mut Connection, target: Option<&str>, login: Login<'_>) -> Result<Outcome, ProbeError> {
    // Random, type "random" (11.12.5): never the identifier of a session that somebody else of this host has.
    let [a, b, c, d, e, ..] = *uuid::Uuid::new_v4().as_bytes();
    let mut negotiation = Negotiation { connection, isid: [0x80, a, b, c, d, e], rounds: 0 };
    let redirected = match negotiation.authenticate(target, login).await? {
        None => negotiation.agree(if target.is_some() { TERMS.as_slice() } else { DISCOVERY_TERMS.as_slice() }).await?,
        redirected => redirected,
    };
    Ok(redirected.map_or(Outcome::LoggedIn, Outcome::Redirected))
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

struct Negotiation<'a> {
    connection: &'a mut Connection,
    isid: [u8; 6],
    rounds: u32,
}

impl Negotiation<'_> {
    /// The security stage. Returns where it is redirected to, if it is.
    async fn authenticate(&mut self, target: Option<&str>, login: Login<'_>) -> Result<Option<Portal>, ProbeError> {
        let challenge = login.target_chap.map(|account| (account, chap::Challenge::new()));
        let method = match login {
            // Without CHAP nobody would prove anything.
            Login { target_chap: Some(_), .. } => "CHAP",
            Login { chap: Some(_), .. } => "CHAP,None",
            // A target that insists on CHAP says so; to an offer of None alone LIO answers nothing and hangs up.
            _ => "None,CHAP",
        };
        let has_nothing_to_prove = login.chap.is_none() && challenge.is_none();
        let kind = if target.is_some() { "Normal" } else { "Discovery" };
        let mut who = vec![own(("InitiatorName", login.initiator))];
        who.extend(target.map(|target| own(("TargetName", target))));
        who.extend([("SessionType", kind), ("AuthMethod", method)].map(own));
        let mut has_challenged = false;
        let to_operational = flag::CURRENT_SECURITY | flag::TRANSIT | flag::NEXT_OPERATIONAL;
        // With nothing to prove it goes on at once: LIO takes a second request of this stage without keys for a failed proof.
        let mut request = (if has_nothing_to_prove { to_operational } else { flag::CURRENT_SECURITY }, who);
        loop {
            let (keys, transit) = match self.ask(request.0, &request.1).await? {
                Answer::Keys { keys, transit } => (keys, transit),
                Answer::Redirected(to) => return Ok(Some(to)),
            };
            let value = |key: &str| keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
            request = if transit {
                return match &challenge {
                    None => Ok(None),
                    Some(_) if !has_challenged => Err(ProbeError::TargetNotProven { what: "it went on without CHAP" }),
                    Some((account, challenge)) => match (value("CHAP_N"), value("CHAP_R")) {
                        (Some(name), Some(answer)) if challenge.is_met(account, name, answer) => Ok(None),
                        (Some(_), Some(_)) => Err(ProbeError::TargetNotProven { what: "its name or its response is wrong" }),
                        _ => Err(ProbeError::TargetNotProven { what: "it gave no response" }),
                    },
                };
            } else if let (Some(identifier), Some(asked)) = (value("CHAP_I"), value("CHAP_C")) {
                let credentials = login.chap.ok_or(ProbeError::CredentialsMissing)?;
                match value("CHAP_A") {
                    Some(chap::MD5_ALGORITHM) => {}
                    other => {
                        let wanted = format!("CHAP algorithm {}", other.unwrap_or("none"));
                        return Err(ProbeError::UnsupportedAuthentication { wanted });
                    }
                }
                let response = chap::response(identifier, asked, credentials.password.expose())?;
                let mut answers = vec![own(("CHAP_N", &credentials.username)), own(("CHAP_R", &response))];
                if let Some((_, challenge)) = &challenge {
                    has_challenged = true;
                    answers.extend(challenge.keys());
                }
                (to_operational, answers)
            } else {
                match value("AuthMethod") {
                    Some("CHAP") if login.chap.is_some() => {
                        (flag::CURRENT_SECURITY, vec![own(("CHAP_A", chap::MD5_ALGORITHM))])
                    }
                    Some("CHAP") => return Err(ProbeError::CredentialsMissing),
                    Some("None") | None => (to_operational, Vec::new()),
                    Some(other) => {
                        return Err(ProbeError::UnsupportedAuthentication { wanted: other.chars().take(64).collect() });
                    }
                }
            };
        }
    }

    /// The operational stage. Returns where it is redirected to, if it is.
    async fn agree(&mut self, terms: &[(&str, &str)]) -> Result<Option<Portal>, ProbeError> {
        let mut terms: Vec<_> = terms.iter().map(|term| own(*term)).collect();
        loop {
            let flags = flag::CURRENT_OPERATIONAL | flag::TRANSIT | flag::NEXT_FULL_FEATURE;
            match self.ask(flags, &terms).await? {
                Answer::Redirected(to) => return Ok(Some(to)),
                Answer::Keys { transit: true, .. } => return Ok(None),
                // It has more to say; what was offered stands.
                Answer::Keys { .. } => terms.clear(),
            }
        }
    }

    /// One request and its answer, which may come in several units.
    async fn ask(&mut self, flags: u8, keys: &[(String, String)]) -> Result<Answer, ProbeError> {
        let text: Vec<u8> = keys.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect();
        let mut pdu = Pdu::new(opcode::LOGIN | opcode::IMMEDIATE, flags).with(8, &self.isid).with_data(text);
        let mut answered = Vec::new();
        loop {
            self.rounds += 1;
            if self.rounds > MAX_ROUNDS {
                return Err(ProbeError::Malformed { what: "the login does not come to an end" });
            }
            let tag = match self.rounds {
                1 => self.connection.request(pdu).await?,
                _ => self.connection.request_again(pdu).await?,
            };
            let answer = self.connection.answer(tag).await?;
            if answer.opcode() != opcode::LOGIN_RESPONSE {
                return Err(ProbeError::Malformed { what: "a login was answered by something else" });
            }
            answered.extend(&answer.data);
            if answered.len() > MAX_DATA_BYTES {
                return Err(ProbeError::Malformed { what: "it negotiates without end" });
            }
            let keys = parse(&answered);
            match (answer.byte(36), answer.byte(37)) {
                (0, _) => {}
                (1, _) => return redirection(&keys).map(Answer::Redirected),
                (2, 1) => return Err(ProbeError::AuthenticationRefused),
                (2, 3) => return Err(ProbeError::TargetNotFound),
                (class, detail) => return Err(ProbeError::LoginRefused { class, detail }),
            }
            if answer.byte(1) & flag::CONTINUE == 0 {
                // A target may only go on when it was asked to.
                let transit = answer.byte(1) & flags & flag::TRANSIT != 0;
                return Ok(Answer::Keys { keys, transit });
            }
            pdu = Pdu::new(opcode::LOGIN | opcode::IMMEDIATE, flags & !(flag::TRANSIT | 0x03)).with(8, &self.isid);
        }
    }
}

fn parse(text: &[u8]) -> Vec<(String, String)> {
    let pairs = text.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.map(own).collect()
}

fn redirection(keys: &[(String, String)]) -> Result<Portal, ProbeError> {
    let address = keys.iter().find(|(key, _)| key == "TargetAddress").map(|(_, value)| value.parse());
    match address {
        Some(Ok(portal)) => Ok(portal),
        _ => Err(ProbeError::Malformed { what: "it redirects the login without a usable TargetAddress" }),
    }
}
