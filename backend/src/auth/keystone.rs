//! Tokens of a Keystone: each is shown to it with a token of this service's own. What it says is kept for a while and no longer than
//! the token lives; a refusal too, apart from the rest, so that who makes tokens up takes no room from those who have one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::service_user::{failed, unexpected};
use super::{AuthError, Identity, Roles, ServiceUser, TokenDigest, Validator};
use crate::secret::Secret;

/// How long a refusal is kept: a token may become valid no sooner than it is issued, so this only has to be short enough for an
/// operator's patience.
const REFUSAL_KEPT: Duration = Duration::from_secs(10);

/// So many answers are kept, and so many refusals.
const MOST_KEPT: usize = 4096;

/// So many questions at once: who makes tokens up is not to flood Keystone by way of this service.
const ASKED_AT_ONCE: usize = 16;

/// Asks a Keystone whom tokens speak for. The operator's own token is valid beside them.
pub struct KeystoneTokens {
    user: ServiceUser,
    operator: (TokenDigest, Identity),
    asking: Semaphore,
    kept: Mutex<Kept>,
}

/// What Keystone said, each until a time.
#[derive(Default)]
struct Kept {
    known: HashMap<TokenDigest, (Instant, Identity)>,
    refused: HashMap<TokenDigest, Instant>,
}

impl KeystoneTokens {
    /// As this user; `operator` is the token of the state directory and whom it speaks for.
    pub fn new(user: ServiceUser, operator: (&Secret, Identity)) -> Self {
        let operator = (TokenDigest::of(operator.0.reveal().as_bytes()), operator.1);
        Self { user, operator, asking: Semaphore::new(ASKED_AT_ONCE), kept: Mutex::default() }
    }

    async fn show(&self, own: &HeaderValue, token: &HeaderValue) -> Result<Response, AuthError> {
        let request = self.user.client.get(self.user.url()).query(&[("nocatalog", "")]);
        let request = request.header("x-auth-token", own).header("x-subject-token", token);
        request.send().await.map_err(failed("show a token"))
    }

    /// Whom Keystone says that a token speaks for, and for how long that may be believed.
    async fn ask(&self, token: &[u8]) -> Result<Option<(Duration, Identity)>, AuthError> {
        // What is no header is no token.
        let Ok(mut token) = HeaderValue::from_bytes(token) else { return Ok(None) };
        token.set_sensitive(true);
        // Never closed.
        let _turn = self.asking.acquire().await;
        let mut own = self.user.token().await?;
        let mut answer = self.show(&own, &token).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // The own token has expired or was revoked.
            self.user.forget(&own).await;
            own = self.user.token().await?;
            answer = self.show(&own, &token).await?;
        }
        match answer.status() {
            StatusCode::OK => {
                let said: Value = answer.json().await.map_err(failed("read what it says of a token"))?;
                Ok(identity(&said, Duration::from_secs(self.user.settings.cache_s)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(unexpected("show a token", other)),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a token speaks for, and for how long that may be believed.
fn identity(said: &Value, longest: Duration) -> Option<(Duration, Identity)> {
    let text = |path: &str| said.pointer(path).and_then(Value::as_str);
    let expires: Timestamp = text("/token/expires_at")?.parse().ok()?;
    let left = Duration::try_from(expires.duration_since(Timestamp::now())).ok().filter(|left| !left.is_zero())?;
    let roles = said.pointer("/token/roles").and_then(Value::as_array);
    let names = roles.into_iter().flatten().filter_map(|role| role.get("name").and_then(Value::as_str));
    // A token for no project may do nothing here.
    let (user, project) = text("/token/user/id").zip(text("/token/project/id"))?;
    let identity = Identity { user_id: user.to_owned(), project_id: project.to_owned(), roles: Roles::of(names) };
    Some((longest.min(left), identity))
}

impl Kept {
    /// What is known of a token, where it is not too old.
    fn of(&self, digest: &TokenDigest, now: Instant) -> Option<Option<Identity>> {
        let known = self.known.get(digest).filter(|(until, _)| *until > now).map(|(_, identity)| Some(identity.clone()));
        known.or_else(|| self.refused.get(digest).filter(|until| **until > now).map(|_| None))
    }

    fn keep(&mut self, digest: TokenDigest, said: Option<(Duration, Identity)>, now: Instant) {
        match said {
            Some((keep, identity)) => {
                if self.known.len() >= MOST_KEPT {
                    self.known.retain(|_, (until, _)| *until > now);
                }
                if self.known.len() < MOST_KEPT {
                    self.known.insert(digest, (now + keep, identity));
                }
            }
            None => {
                // What it said before is worth nothing now.
                self.known.remove(&digest);
                if self.refused.len() >= MOST_KEPT {
                    self.refused.retain(|_, until| *until > now);
                }
                if self.refused.len() < MOST_KEPT {
                    self.refused.insert(digest, now + REFUSAL_KEPT);
                }
            }
        }
    }
}

impl Validator for KeystoneTokens {
    fn validate<'a>(&'a self, token: &'a [u8]) -> BoxFuture<'a, Result<Option<Identity>, AuthError>> {
        Box::pin(async move {
            let digest = TokenDigest::of(token);
            if digest == self.operator.0 {
                return Ok(Some(self.operator.1.clone()));
            }
            if let Some(kept) = self.kept().of(&digest, Instant::now()) {
                return Ok(kept);
            }
            // Kept from before it was asked: an answer is no fresher than its question.
            let asked = Instant::now();
            let said = self.ask(token).await?;
            let identity = said.as_ref().map(|(_, identity)| identity.clone());
            self.kept().keep(digest, said, asked);
            Ok(identity)
        })
    }

    fn forget(&self) {
        *self.kept() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(expires_in_ms: i64) -> Value {
        let expires = Timestamp::now() + Duration::from_millis(expires_in_ms.unsigned_abs()) * u32::from(expires_in_ms > 0);
        json!({ "token": {
            "expires_at": expires.to_string(), "user": { "id": "u" }, "project": { "id": "p" }, "roles": [{ "name": "member" }],
        } })
    }

    #[test]
    fn an_answer_is_believed_no_longer_than_its_token_lives() {
        let longest = Duration::from_secs(60);
        let (kept, identity) = identity(&said(1_500), longest).unwrap();
        assert!(kept <= Duration::from_millis(1_500) && identity.project_id == "p", "{kept:?}");
        assert_eq!(super::identity(&said(3_600_000), longest).unwrap().0, longest);
        assert_eq!(super::identity(&said(0), longest), None, "it has expired");
        let mut endless = said(1_500);
        endless["token"]["expires_at"] = Value::Null;
        assert_eq!(super::identity(&endless, longest), None);
    }

    #[test]
    fn tokens_that_somebody_makes_up_take_no_room_from_those_of_others() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for number in 0..2 * MOST_KEPT {
            kept.keep(TokenDigest::of(&number.to_le_bytes()), None, now);
        }
        assert_eq!(kept.refused.len(), MOST_KEPT);
        let good = TokenDigest::of(b"good");
        kept.keep(good, identity(&said(60_000), Duration::from_secs(60)), now);
        assert_eq!(kept.of(&good, now).flatten().map(|identity| identity.user_id), Some("u".into()));
        // Revoked since: what was known of it is forgotten.
        kept.keep(good, None, now);
        assert_eq!(kept.of(&good, now).flatten(), None);
    }
}
