//! What can be asked, and the answers.

use std::future::Future;

use http::header::{self, HeaderValue};
use http::{Method, Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use serde_json::{Value, json};

use super::access::Access;
use super::pages::PAGES;
use crate::admin::control::Request;
use crate::admin::explain::Query;
use crate::admin::exposition;
use crate::admin::overview::Overview;
use crate::admin::readiness::Readiness;
use crate::admin::sessions::SessionFilter;

/// Bytes of the body of a request; a token of the largest accepted size fits.
const MAX_BODY: usize = 64 * 1024;

/// Sessions that the page shows.
const SHOWN: usize = 50;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers questions: the same as over the control socket.
pub trait Ask: Send + Sync + 'static {
    /// The answer to `request`, or why there is none.
    fn ask(&self, request: Request) -> impl Future<Output = Result<Value, String>> + Send;
}

impl<A, F> Ask for A
where
    A: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, String>> + Send,
{
    fn ask(&self, request: Request) -> impl Future<Output = Result<Value, String>> + Send {
        self(request)
    }
}

type Answer = Response<Full<Bytes>>;

/// The answer to `request`.
pub(super) async fn answer<B>(request: HttpRequest<B>, access: &Access, ask: &impl Ask) -> Answer
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let page = PAGES.iter().find(|page| page.path == path);
    let open = page.is_some() || matches!(path, "/healthz" | "/readyz");
    if let Err((status, words)) = access.check(&head.method, &head.headers, open) {
        return refuse(status, words);
    }
    match (&head.method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => respond(StatusCode::OK, TEXT, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => ready(ask).await,
        (&Method::GET | &Method::HEAD, "/metrics") => metrics(ask).await,
        (&Method::GET, "/api/overview") => told(ask.ask(Request::Overview).await),
        (&Method::GET, "/api/sessions") => told(
            ask.ask(Request::Sessions(SessionFilter { limit: Some(SHOWN), ..SessionFilter::default() }))
                .await,
        ),
        (&Method::POST, "/api/explain") => match read::<Query, _>(body).await {
            Ok(query) => told(ask.ask(Request::Explain(query)).await),
            Err(answer) => answer,
        },
        (&Method::POST, path) if closed(path).is_some() => {
            let id = closed(path).unwrap_or_default().to_owned();
            told(ask.ask(Request::CloseSession { id }).await)
        }
        (&Method::GET | &Method::HEAD, _) => match page {
            Some(page) => respond(StatusCode::OK, page.kind, page.body),
            None => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        },
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here"),
    }
}

/// The session that is to be closed.
fn closed(path: &str) -> Option<&str> {
    path.strip_prefix("/api/sessions/")?.strip_suffix("/close")
}

async fn ready(ask: &impl Ask) -> Answer {
    let readiness = ask
        .ask(Request::Ready)
        .await
        .and_then(|value| serde_json::from_value::<Readiness>(value).map_err(|error| error.to_string()));
    let readiness = readiness.unwrap_or_else(|error| Readiness { ready: false, reasons: vec![error] });
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, JSON, serde_json::to_string(&readiness).unwrap_or_default())
}

async fn metrics(ask: &impl Ask) -> Answer {
    let text = ask.ask(Request::Overview).await.and_then(|value| {
        let overview = serde_json::from_value::<Overview>(value).map_err(|error| error.to_string())?;
        exposition::text(overview).map_err(|error| error.to_string())
    });
    match text {
        Ok(text) => respond(StatusCode::OK, METRICS, text),
        Err(error) => told(Err(error)),
    }
}

/// The body, read within the limit.
async fn read<T, B>(body: B) -> Result<T, Answer>
where
    T: serde::de::DeserializeOwned,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, MAX_BODY).collect();
    let Ok(body) = std::pin::pin!(body).await else {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or was cut off"));
    };
    // The error is not told: it could quote the body, and with it a token.
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| refuse(StatusCode::BAD_REQUEST, "the body is not the JSON that is expected here"))
}

fn told(answer: Result<Value, String>) -> Answer {
    match answer {
        Ok(value) => respond(StatusCode::OK, JSON, value.to_string()),
        Err(error) => respond(StatusCode::CONFLICT, JSON, json!({ "error": error }).to_string()),
    }
}

fn refuse(status: StatusCode, words: &str) -> Answer {
    let mut answer = respond(status, TEXT, format!("{words}\n"));
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// An answer that no browser keeps, guesses about, frames, or lets load anything from elsewhere.
fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
