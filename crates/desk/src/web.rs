//! The desk's pages over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use flow::EventId;
use publish::wire::Role;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::inbox::Shared;
use crate::page;
use crate::store::{Found, Store, StoreError};

/// Cases on one page.
const PAGE: usize = 50;

#[derive(Clone)]
struct Desk {
    store: Arc<Store>,
    inbox: Arc<Shared>,
}

/// Which cases.
#[derive(serde::Deserialize)]
struct Which {
    /// Those with a lower number.
    before: Option<u64>,
}

/// Serves until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    inbox: Arc<Shared>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/", get(cases_page))
        .route("/cases.json", get(cases_json))
        .route("/evidence/{event}/{file}", get(picture))
        .route("/style.css", get(style))
        .route("/healthz", get(healthz))
        .with_state(Desk { store, inbox });
    // Connections of idle browsers do not hold up the end.
    tokio::select! {
        result = axum::serve(listener, router) => {
            if let Err(error) = result {
                tracing::error!(%error, "the desk's page is no longer served");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn cases_page(State(desk): State<Desk>, Query(which): Query<Which>) -> Result<Response, Failed> {
    let link = desk.inbox.link();
    let (cases, total) = blocking(move || {
        let cases = desk.store.cases(which.before, PAGE)?;
        Ok((cases, desk.store.total()?))
    })
    .await?;
    let html = page::render(&cases, total, which.before, PAGE, &link);
    Ok((headers("text/html; charset=utf-8"), html).into_response())
}

async fn cases_json(State(desk): State<Desk>, Query(which): Query<Which>) -> Result<Response, Failed> {
    let cases = blocking(move || desk.store.cases(which.before, PAGE)).await?;
    Ok((headers("application/json"), Json(cases)).into_response())
}

async fn picture(
    State(desk): State<Desk>,
    Path((event, file)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let role = file.strip_suffix(".jpg").and_then(|role| role.parse::<Role>().ok());
    let (Ok(event), Some(role)) = (EventId::parse(&event), role) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let store = desk.store.clone();
    let bytes = match blocking(move || store.find_picture(event, role)).await? {
        Some(Found::Here(bytes)) => Some(bytes),
        Some(Found::Remote { file, sha256 }) => match desk.store.fetch(event, &file, &sha256).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%event, file, %error, "a picture cannot be shown");
                let text = "the evidence store does not give this picture; see the log";
                return Ok((StatusCode::BAD_GATEWAY, text).into_response());
            }
        },
        None => None,
    };
    Ok(match bytes {
        Some(bytes) => (headers("image/jpeg"), bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn style() -> Response {
    (headers("text/css; charset=utf-8"), page::STYLE).into_response()
}

async fn healthz(State(desk): State<Desk>) -> Result<Response, Failed> {
    let (link, counts) = (desk.inbox.link(), desk.inbox.counts());
    let total = blocking(move || desk.store.total()).await?;
    let body = serde_json::json!({
        "status": if link.is_ok() { "ok" } else { "no broker" },
        "broker": match &link {
            Ok(since) => serde_json::json!({ "connected_since": since }),
            Err(error) => serde_json::json!({ "error": error }),
        },
        "received": counts,
        "cases": { "open": total.open, "ended": total.ended },
    });
    let status = if link.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(body)).into_response())
}

/// Nothing from elsewhere, no script at all: whatever a message smuggled in, a browser will not run it.
fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; img-src 'self'; style-src 'self'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

/// Database work, on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failed(error.to_string())),
        Err(error) => Err(Failed(error.to_string())),
    }
}

/// An answer that could not be given; the details go to the log, not to the browser.
struct Failed(String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::error!(error = self.0, "the desk could not answer a request");
        (StatusCode::INTERNAL_SERVER_ERROR, "database error; see the log").into_response()
    }
}
