//! A pretended polkit that gives one verdict and remembers what it was asked.

use super::Bus;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use zbus::{Connection, OwnedVariant, interface};

/// What it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Authorized,
    Challenge,
    Refused,
}

/// What it was asked: the subject's bus name, the action, the flags.
pub type Asked = (String, String, u32);

/// A running one.
pub struct FakePolkit {
    pub asked: Arc<Mutex<Vec<Asked>>>,
    connection: Connection,
}

impl FakePolkit {
    /// Puts it on the bus.
    pub async fn start(bus: &Bus, verdict: Verdict) -> Self {
        let asked = Arc::default();
        let connection = bus.connect().await;
        let object = Authority { verdict, asked: Arc::clone(&asked) };
        connection.object_server().at("/org/freedesktop/PolicyKit1/Authority", object).await.unwrap();
        connection.request_name("org.freedesktop.PolicyKit1").await.unwrap();
        Self { asked, connection }
    }

    /// Takes it off the bus, and returns once it is.
    pub async fn leave(self) {
        self.connection.release_name("org.freedesktop.PolicyKit1").await.unwrap();
    }
}

struct Authority {
    verdict: Verdict,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Answer = ((bool, bool, HashMap<String, String>),);

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        _details: HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> zbus::fdo::Result<Answer> {
        assert_eq!(subject.0, "system-bus-name");
        let name = String::try_from(subject.1["name"].clone()).unwrap();
        self.asked.lock().unwrap().push((name, action, flags));
        Ok(((self.verdict == Verdict::Authorized, self.verdict == Verdict::Challenge, HashMap::new()),))
    }
}
