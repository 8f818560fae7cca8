//! The bytes of images, in and out.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};

use super::errors::ImageError;
use super::guard;
use crate::api::AppState;
use crate::api::path::Path;
use crate::api::policy::Context;
use crate::domain::{Image, ImageStatus};
use crate::image::{Format, ImageWriter, Unfit, WriteError};

/// How long a client may pause within its data.
const PIECE_WITHIN: Duration = Duration::from_secs(60);

/// So much is read and sent at once, in bytes.
const PIECE: usize = 256 << 10;

/// `PUT /v2/images/{id}/file`
pub(super) async fn upload(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind != "application/octet-stream" {
        return Err(ImageError(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Data is sent as application/octet-stream".into()));
    }
    let format = said_format(&image)?;
    state.store.begin_image_upload(image.id, state.images.who()).await?;
    // What happens to the image must not depend on whether the client stays to hear of it.
    let (store, files) = (state.store.clone(), state.images.clone());
    tokio::spawn(async move {
        let taken = take(&state, &image, format, request).await;
        let done = match taken {
            Ok(facts) => match store.end_image_upload(image.id, &facts).await {
                Ok(true) => return Ok(StatusCode::NO_CONTENT),
                Ok(false) => Err(ImageError(StatusCode::GONE, "The image was deleted while its data came.".into())),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        };
        if store.abort_image_upload(image.id).await.is_ok() {
            files.remove(image.id)?;
        }
        done
    })
    .await
    .unwrap_or_else(|error| Err(ImageError::internal(&error)))
}

async fn take(
    state: &AppState,
    image: &Image,
    format: Format,
    request: Request,
) -> Result<crate::domain::ImageFacts, WriteError> {
    // What was made of a guest on volumes names their snapshots, and has nothing else.
    let start =
        if image.properties.contains_key("block_device_mapping") { ImageWriter::start_of_mapping } else { ImageWriter::start };
    let writer = start(state.images.clone(), image.id, format);
    let mut data = request.into_body().into_data_stream();
    loop {
        match tokio::time::timeout(PIECE_WITHIN, data.next()).await {
            Ok(Some(Ok(piece))) => {
                if !writer.write(piece).await {
                    break;
                }
            }
            Ok(None) => break,
            // Dropped without an end, the writer leaves nothing.
            Ok(Some(Err(_))) | Err(_) => return Err(WriteError::CutOff),
        }
    }
    writer.finish().await
}

/// What the bytes are said to be, where it is something that can be looked into.
pub(super) fn said_format(image: &Image) -> Result<Format, ImageError> {
    let refused = |unfit: Unfit| ImageError::bad(format!("Image data cannot be taken: {unfit}."));
    let (Some(disk), Some(container)) = (&image.disk_format, &image.container_format) else {
        return Err(refused(Unfit::FormatMissing));
    };
    if !matches!(container.as_str(), "bare" | "ami" | "ari" | "aki") {
        return Err(refused(Unfit::Container(container.clone())));
    }
    Format::parse(disk).ok_or_else(|| refused(Unfit::FormatUnknown(disk.clone())))
}

/// `GET /v2/images/{id}/file`
pub(super) async fn download(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ImageError> {
    let image = guard::seen(&state, &context, &id).await?;
    let length = match image.status {
        ImageStatus::Active => image.size_bytes.unwrap_or(0),
        ImageStatus::Deactivated if context.is_admin() => image.size_bytes.unwrap_or(0),
        ImageStatus::Deactivated => {
            return Err(ImageError::forbidden("The requested image has been deactivated. Image data download is forbidden."));
        }
        ImageStatus::Queued | ImageStatus::Saving => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let file = state.images.open_image(image.id)?;
    let range = match headers.get(header::RANGE) {
        None => None,
        Some(value) => match value.to_str().ok().and_then(|text| range(text, length)) {
            Some(range) => Some(range),
            None => {
                let mut response =
                    ImageError(StatusCode::RANGE_NOT_SATISFIABLE, "Invalid Range header.".into()).into_response();
                put(&mut response, header::CONTENT_RANGE, format!("bytes */{length}"));
                return Ok(response);
            }
        },
    };
    let (first, count) = range.map_or((0, length), |(first, last)| (first, last - first + 1));
    let pieces = stream::try_unfold((file, first, count), |(file, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        tokio::task::spawn_blocking(move || {
            let mut file = file;
            file.seek(SeekFrom::Start(at))?;
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; wanted];
            file.read_exact(&mut piece)?;
            let read = wanted as u64;
            Ok(Some((piece, (file, at + read, left - read))))
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    put(&mut response, header::CONTENT_TYPE, "application/octet-stream".into());
    put(&mut response, header::CONTENT_LENGTH, count.to_string());
    if let Some((first, last)) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        put(&mut response, header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    } else if let Some(checksum) = image.checksum {
        // In hex and of the whole, as the field's clients expect it, whatever RFC 1864 says.
        put(&mut response, header::HeaderName::from_static("content-md5"), checksum);
    }
    Ok(response)
}

fn put(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The first and the last byte of the one range that is asked for: `bytes=first-last`, `first-` or `-count`.
fn range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    let (first, last) = match (first.trim(), last.trim()) {
        ("", count) => (length.saturating_sub(count.parse().ok().filter(|count| *count > 0)?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(end)),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_within_the_image_or_refused() {
        assert_eq!(range("bytes=0-9", 100), Some((0, 9)));
        assert_eq!(range("bytes=90-", 100), Some((90, 99)));
        assert_eq!(range("bytes=-10", 100), Some((90, 99)));
        assert_eq!(range("bytes=90-1000", 100), Some((90, 99)));
        for refused in ["bytes=100-", "bytes=9-8", "bytes=-0", "bytes=a-b", "bytes=0-1,4-5", "items=0-1", "bytes=-", ""] {
            assert_eq!(range(refused, 100), None, "{refused}");
        }
        assert_eq!(range("bytes=0-", 0), None);
    }
}
