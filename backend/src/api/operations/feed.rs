//! All operations watched: a stream of server-sent events, one for each change of any operation of the project, or of all projects for
//! an administrator who asks for all. The events are those of one operation (watch.rs); the stream does not end with any of them.
//!
//! ```text
//! asked anew                what is under way, then each change
//! with `Last-Event-ID`      what changed since that event, then each change
//! ```
//!
//! An event's id is a time, and who comes again is told a little of what it knows: roles apart have clocks of their own. Of what
//! changes fast, only how it is now is told.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::watch::{ALIVE_EVERY, LOOK_EVERY, STREAM_AT_MOST};
use super::watchers::Room;
use super::{event_name, last_event_id, told};
use crate::api::AppState;
use crate::api::errors::ApiError;
use crate::api::policy::{self, Context, allow};
use crate::api::query::Pairs;
use crate::bus::SOME_MISSED;
use crate::domain::{Operation, OperationState, ServiceRow};
use crate::store::{OperationFilter, StoreError, now_us};
use crate::volume::chain;

/// The clocks of roles apart differ by no more, microseconds.
const CLOCKS_DIFFER_US: i64 = 2_000_000;

/// Of so many operations is remembered what was told.
const REMEMBERED: usize = 4096;

/// `GET /v3/operations/watch`
pub(in crate::api) async fn feed(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Response, ApiError> {
    allow(&context, policy::OPERATION_GET)?;
    let filter = pairs.operations(&context)?;
    let lasts = pairs.timeout_s()?.map_or(STREAM_AT_MOST, |timeout_s| Duration::from_secs(timeout_s.into()));
    let room = state.watchers.room_for(&context.project_id).ok_or(ApiError::TooManyWatchers)?;
    // Listened to before the first look, so that nothing is missed between.
    let changed = state.accept.changed();
    let until = Instant::now() + lasts.min(STREAM_AT_MOST);
    let last_us = last_event_id(&headers).and_then(|id| id.parse::<i64>().ok());
    let (told, ready) = (HashMap::new(), VecDeque::new());
    let mut feed = Feed { state, filter, changed, told, ready, last_us: last_us.unwrap_or_else(now_us), until, _room: room };
    if last_us.is_some() {
        feed.look_at_changes().await?;
    } else {
        feed.look_at_unended().await?;
    }
    let events = stream::unfold(feed, |mut feed| async move { Some((Ok::<_, Infallible>(feed.next().await?), feed)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

struct Feed {
    state: AppState,
    filter: OperationFilter,
    changed: broadcast::Receiver<Uuid>,
    /// What was told last of each operation, and whether that was its end.
    told: HashMap<Uuid, (String, bool)>,
    /// What is to be told next.
    ready: VecDeque<Event>,
    /// The latest change that was told, microseconds since the epoch.
    last_us: i64,
    until: Instant,
    _room: Room,
}

impl Feed {
    /// The next event; none where there is no more.
    async fn next(&mut self) -> Option<Event> {
        let mut closing = self.state.closing.subscribe();
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let heard = tokio::select! {
                heard = self.changed.recv() => Some(heard),
                // News may be lost, and that a host is silent is nobody's news.
                () = tokio::time::sleep(LOOK_EVERY) => None,
                () = tokio::time::sleep_until(self.until) => return None,
                _ = closing.wait_for(|closing| *closing) => return None,
            };
            let looked = match heard {
                Some(Ok(SOME_MISSED) | Err(RecvError::Lagged(_))) => self.look_at_changes().await,
                Some(Ok(id)) => self.look_at(id).await,
                Some(Err(RecvError::Closed)) => return None,
                None => self.look_at_unended().await,
            };
            if let Err(error) = looked {
                warn!("cannot go on telling of operations: {}", chain(&error));
                return None;
            }
        }
    }

    async fn look_at(&mut self, id: Uuid) -> Result<(), StoreError> {
        match self.state.store.operation_if_any(id).await? {
            Some(operation) if self.filter.takes(&operation) => {
                let services = self.state.store.services().await?;
                self.tell(&operation, &services);
            }
            _ => drop(self.told.remove(&id)),
        }
        Ok(())
    }

    /// Looks at what is under way, and at what was when it was told.
    async fn look_at_unended(&mut self) -> Result<(), StoreError> {
        let mut filter = self.filter.clone();
        if filter.states.is_empty() {
            filter.states = vec![OperationState::Queued, OperationState::Running];
        }
        filter.states.retain(|state| !state.is_end());
        let unended = if filter.states.is_empty() { Vec::new() } else { self.state.store.operations(&filter).await? };
        let services = self.state.store.services().await?;
        for operation in unended.iter().rev() {
            self.tell(operation, &services);
        }
        let missing: Vec<Uuid> = self.told.iter().filter(|(_, (_, ended))| !ended).map(|(id, _)| *id).collect();
        for id in missing.into_iter().filter(|id| unended.iter().all(|operation| operation.id != *id)) {
            self.look_at(id).await?;
        }
        Ok(())
    }

    /// Looks at what changed since the last that was told.
    async fn look_at_changes(&mut self) -> Result<(), StoreError> {
        let changed_from_us = Some(self.last_us.saturating_sub(CLOCKS_DIFFER_US));
        let changed = self.state.store.operations(&OperationFilter { changed_from_us, ..self.filter.clone() }).await?;
        let services = self.state.store.services().await?;
        for operation in changed.iter().rev() {
            self.tell(operation, &services);
        }
        Ok(())
    }

    fn tell(&mut self, operation: &Operation, services: &[ServiceRow]) {
        let (told, digest) = told(operation, services);
        if self.told.get(&operation.id).is_some_and(|(known, _)| *known == digest) {
            return;
        }
        if self.told.len() >= REMEMBERED {
            self.told.retain(|_, (_, ended)| !*ended);
        }
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        self.told.insert(operation.id, (digest, operation.state.is_end()));
        self.last_us = self.last_us.max(operation.updated_at_us);
        let event = Event::default().event(event_name(operation)).id(self.last_us.to_string());
        self.ready.push_back(event.data(told.to_string()));
    }
}
