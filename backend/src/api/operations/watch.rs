//! An operation watched: a stream of server-sent events, one for each change, which ends with the operation.
//!
//! ```text
//! event: operation            event: end
//! id: 5f1c0a…                 id: 90b2d4…
//! data: {"operation": …}      data: {"operation": …}
//! ```
//!
//! Each event tells all there is to know, so one that is missed is made up for by the next. An event's id is a digest of it: a client
//! that comes again with `Last-Event-ID` is told nothing that it knows, and with that of the end it is answered 204, after which
//! browsers ask no more. A stream is cut after some minutes, and a client that takes nothing of it before; so many may watch at once.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::watchers::Room;
use super::{event_name, last_event_id, seen, told};
use crate::api::AppState;
use crate::api::errors::ApiError;
use crate::api::path::Path;
use crate::api::policy::Context;
use crate::bus::SOME_MISSED;
use crate::store::StoreError;
use crate::volume::chain;

/// How long one stream lasts at most; its client comes again where it was.
pub(super) const STREAM_AT_MOST: Duration = Duration::from_secs(600);

/// Between looks that nobody asked for: news may be lost, and that a host is silent is nobody's news.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Between signs of life on a stream that has no news; proxies cut what is silent for a minute.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// `GET /v3/operations/{id}/watch`
pub(in crate::api) async fn watch(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let room = state.watchers.room_for(&context.project_id).ok_or(ApiError::TooManyWatchers)?;
    // Listened to before the first look, so that nothing is missed between.
    let changed = state.accept.changed();
    let id = seen(&state, &context, &id).await?.id;
    let known = last_event_id(&headers).map(str::to_owned);
    let mut watch = Watch { state, id, changed, known, ended: false, until: Instant::now() + STREAM_AT_MOST, _room: room };
    let first = match watch.look().await? {
        Look::News(event) => Some(event),
        Look::Same => None,
        Look::SameEnd => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let events = stream::unfold((first, watch), |(first, mut watch)| async move {
        let event = match first {
            Some(event) => event,
            None => watch.next().await?,
        };
        Some((Ok::<_, Infallible>(event), (None, watch)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

struct Watch {
    state: AppState,
    id: Uuid,
    changed: broadcast::Receiver<Uuid>,
    /// The last event that the client has.
    known: Option<String>,
    ended: bool,
    until: Instant,
    _room: Room,
}

enum Look {
    News(Event),
    Same,
    SameEnd,
}

impl Watch {
    /// The next event; none where there is no more.
    async fn next(&mut self) -> Option<Event> {
        let mut closing = self.state.closing.subscribe();
        while !self.ended {
            tokio::select! {
                heard = heard_of(&mut self.changed, self.id) => heard?,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = tokio::time::sleep_until(self.until) => return None,
                _ = closing.wait_for(|closing| *closing) => return None,
            }
            match self.look().await {
                Ok(Look::News(event)) => return Some(event),
                Ok(Look::Same) => {}
                Ok(Look::SameEnd) => return None,
                // It was forgotten, or the database is away: the client comes again and is told.
                Err(error) => {
                    warn!(operation = %self.id, "cannot go on telling of it: {}", chain(&error));
                    return None;
                }
            }
        }
        None
    }

    /// What there is to tell.
    async fn look(&mut self) -> Result<Look, StoreError> {
        let operation = self.state.store.operation(self.id).await?;
        let services = if operation.state.is_end() { Vec::new() } else { self.state.store.services().await? };
        let (told, digest) = told(&operation, &services);
        self.ended = operation.state.is_end();
        if self.known.as_ref() == Some(&digest) {
            return Ok(if self.ended { Look::SameEnd } else { Look::Same });
        }
        let event = Event::default().event(event_name(&operation)).id(&digest);
        self.known = Some(digest);
        Ok(Look::News(event.data(told.to_string())))
    }
}

/// Waits until there may be news of an operation; none where there never will be.
async fn heard_of(changed: &mut broadcast::Receiver<Uuid>, id: Uuid) -> Option<()> {
    loop {
        match changed.recv().await {
            Ok(heard) if heard == id || heard == SOME_MISSED => return Some(()),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return Some(()),
            Err(RecvError::Closed) => return None,
        }
    }
}
