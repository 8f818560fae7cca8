//! Whether the volume service can be used at all: for whoever examines the host.

use super::{OpenstackError, Operation, VolumeService, volume_service::Call};
use jiff::{Timestamp, fmt::rfc2822};

/// What an answer of the service tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// This host's clock minus the service's, seconds, by the `Date` of its answer; `None` where it has none.
    pub skew_s: Option<i64>,
    /// Names of the service user's roles; `None` without one, or where no Keystone tells.
    pub service_roles: Option<Vec<String>>,
    /// A service user is set up.
    pub has_service_user: bool,
    /// Tokens come from a Keystone.
    pub has_keystone: bool,
}

impl VolumeService {
    /// Gets a token, and the service user's if there is one, and asks the service for one volume.
    ///
    /// # Errors
    /// Whatever keeps a request from being answered: it would keep an attach from it as well.
    pub async fn examine(&self) -> Result<Examined, OpenstackError> {
        let query = [("limit", "1")];
        let answer = self.call(Call { query: &query, ..Call::get(Operation::ListVolumes, "volumes") }).await?;
        let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
        let service = self.service_access().await.transpose()?;
        Ok(Examined {
            skew_s: date.and_then(|date| skew_s(date, Timestamp::now())),
            service_roles: service.and_then(|access| access.roles.clone()),
            has_service_user: self.has_service_user(),
            has_keystone: self.has_keystone(),
        })
    }
}

/// `now` minus an HTTP date, which is written as in e-mail (RFC 9110, 5.6.7).
fn skew_s(date: &str, now: Timestamp) -> Option<i64> {
    let theirs = rfc2822::parse(date).ok()?.timestamp();
    Some(now.as_second() - theirs.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_answers_date() {
        let now: Timestamp = "1994-11-06T08:50:37Z".parse().unwrap();
        assert_eq!(skew_s("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(60));
        assert_eq!(skew_s("Sun, 06 Nov 1994 08:51:37 GMT", now), Some(-60));
        assert_eq!(skew_s("yesterday", now), None);
    }
}
