//! Questions to an endpoint that the test plays itself, well and badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::{Asked, ClientAuth};

struct Endpoint {
    introspector: Introspector,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

/// An endpoint that gives every question this answer; none when it is empty.
async fn endpoint(answer: &str, auth: ClientAuth, cache: Duration) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/introspect", listener.local_addr().expect("an address"));
    let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let (counter, seen, answer) = (Arc::clone(&asked), Arc::clone(&last), answer.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (counter, seen, answer) = (Arc::clone(&counter), Arc::clone(&seen), answer.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                counter.fetch_add(1, Ordering::SeqCst);
                *seen.lock().expect("sane") = String::from_utf8_lossy(&request).into_owned();
                if answer.is_empty() {
                    // Until the one who asks has had enough.
                    let _ = stream.read_buf(&mut request).await;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s:e c%\n").expect("written");
    let rules = Introspection {
        endpoint: Some(url.parse::<url::Url>().expect("a URL").into()),
        client_id: "the gate".to_owned(),
        secret,
        auth,
        asked: Asked::Opaque,
        cache,
        inactive_cache: cache.min(Duration::from_secs(10)),
        failures: 5,
        rest: Duration::from_secs(5),
        retry: Duration::from_secs(7),
        ca: None,
    };
    let limits = Limits {
        introspection_timeout: Duration::from_millis(500),
        issuer_answer: 4096,
        ..Limits::default()
    };
    let introspector = Introspector::new(&rules, &limits).expect("valid");
    Endpoint { introspector, asked, last, folder }
}

/// Whether the head and all of the body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().expect("a number"))
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn token(text: &str) -> Token {
    Token::parse(text.as_bytes()).expect("a token")
}

impl Endpoint {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn note(&self, text: &str) -> String {
        self.introspector.introspect(&token(text)).await.expect_err("an outage").note
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_is_asked_about_once_by_however_many_and_the_next_one_again() {
    let endpoint = endpoint(&json("{\"active\":true,\"sub\":\"a\"}"), ClientAuth::Basic, LONG).await;
    let (one, two) = (token("one"), token("two"));
    let ask = |token| endpoint.introspector.introspect(token);
    let all = tokio::join!(ask(&one), ask(&one), ask(&one), ask(&one));
    assert!([all.0, all.1, all.2, all.3].iter().all(|said| matches!(said, Ok(Introspected::Active(_)))));
    assert_eq!(endpoint.asked(), 1);
    ask(&two).await.expect("an answer");
    ask(&one).await.expect("remembered");
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn an_answer_counts_for_its_time_and_not_beyond_the_token() {
    let body = format!("{{\"active\":true,\"exp\":{}}}", seconds(SystemTime::now()));
    for (body, cache) in
        [(body.as_str(), LONG), ("{\"active\":true}", Duration::ZERO), ("{\"active\":false}", Duration::ZERO)]
    {
        let endpoint = endpoint(&json(body), ClientAuth::Basic, cache).await;
        for _ in 0..2 {
            endpoint.introspector.introspect(&token("one")).await.expect("an answer");
        }
        assert_eq!(endpoint.asked(), 2, "{body}");
    }
}

#[tokio::test]
async fn the_gate_shows_who_it_is_in_the_header_or_in_the_form() {
    let good = json("{\"active\":false}");
    let basic = endpoint(&good, ClientAuth::Basic, LONG).await;
    basic.introspector.introspect(&token("a~b")).await.expect("an answer");
    let request = basic.last.lock().expect("sane").to_lowercase();
    // "the+gate:s%3Ae+c%25", as RFC 6749 §2.3.1 has it.
    assert!(
        request.contains(
            &format!("authorization: basic {}", STANDARD.encode("the+gate:s%3Ae+c%25")).to_lowercase()
        ),
        "{request}"
    );
    assert!(
        request.contains("token=a%7eb&token_type_hint=access_token") && !request.contains("client_secret")
    );
    let post = endpoint(&good, ClientAuth::Post, LONG).await;
    post.introspector.introspect(&token("a")).await.expect("an answer");
    let request = post.last.lock().expect("sane").clone();
    assert!(request.contains("&client_id=the+gate&client_secret=s%3Ae+c%25"), "{request}");
    assert!(!format!("{:?}", post.introspector).contains("c%"));
}

#[tokio::test]
async fn an_endpoint_that_fails_in_any_way_is_an_outage_of_ours() {
    let page = "<html>Sign in</html>";
    let html =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let big = json(&format!("{{\"active\":true,\"a\":\"{}\"}}", "a".repeat(5000)));
    let packed = json("xx").replace("Connection: close", "Content-Encoding: gzip\r\nConnection: close");
    for (answer, words) in [
        (html.as_str(), "application/json"),
        (&big, "larger than 4096"),
        (&packed, "gzip"),
        (&json("{\"active\":1}"), "active"),
        (&json("{\"active\":true"), "JSON"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500"),
        ("HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n", "302"),
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "client_secret"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"active\":true}",
            "broke off",
        ),
        ("garbage\r\n\r\n", "reached"),
        ("", "too long"),
    ] {
        let note = endpoint(answer, ClientAuth::Basic, LONG).await.note("secret.token").await;
        assert!(note.contains(words), "{answer:?}: {note}");
        assert!(!note.contains("secret.token"), "{note}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_again_and_again_is_left_alone_for_a_while() {
    let endpoint = endpoint(
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ClientAuth::Basic,
        LONG,
    )
    .await;
    for number in 0..20 {
        endpoint.note(&format!("token-{number}")).await;
    }
    assert_eq!(endpoint.asked(), 5);
    // What may be about one token alone is no reason.
    let picky = self::endpoint(
        "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ClientAuth::Basic,
        LONG,
    )
    .await;
    for number in 0..20 {
        picky.note(&format!("token-{number}")).await;
    }
    assert_eq!(picky.asked(), 20);
    assert!(endpoint.note("another").await.contains("left alone"));
}

#[tokio::test]
async fn an_endpoint_that_stalls_again_and_again_is_left_alone_too() {
    let endpoint = endpoint("", ClientAuth::Basic, LONG).await;
    for number in 0..5 {
        assert!(endpoint.note(&format!("token-{number}")).await.contains("too long"));
    }
    assert!(endpoint.note("another").await.contains("left alone"));
    assert_eq!(endpoint.asked(), 5);
}

#[tokio::test]
async fn the_status_tells_failures_rest_and_answers_and_no_secret() {
    let down = endpoint("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", ClientAuth::Basic, LONG).await;
    let status = |endpoint: &Endpoint| endpoint.introspector.status(SystemTime::now());
    assert_eq!((status(&down).failures, status(&down).error), (0, None));
    for number in 0..5 {
        assert!(!status(&down).resting);
        down.note(&format!("secret.token-{number}")).await;
    }
    let told = status(&down);
    assert!(told.resting && told.failures == 5 && told.rest_s <= Some(5), "{told:?}");
    assert!(told.last_failure.is_some() && told.last_success.is_none(), "{told:?}");
    assert!(told.error.as_ref().is_some_and(|error| error.contains("500")), "{told:?}");
    assert!(!format!("{told:?}").contains("secret"), "{told:?}");
    let up = endpoint(&json("{\"active\":false}"), ClientAuth::Basic, LONG).await;
    up.introspector.introspect(&token("one")).await.expect("an answer");
    let told = status(&up);
    assert!(told.last_success.is_some() && told.error.is_none() && !told.resting, "{told:?}");
    assert!(told.endpoint.is_some_and(|url| url.ends_with("/introspect")));
}

#[tokio::test]
async fn a_client_is_told_to_come_back_when_the_configuration_says() {
    let down = endpoint("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", ClientAuth::Basic, LONG).await;
    let outage = down.introspector.introspect(&token("one")).await.expect_err("an outage");
    assert_eq!(outage.retry_after, Duration::from_secs(7));
}

#[tokio::test]
async fn a_secret_that_changes_is_shown_at_the_next_question_and_a_broken_one_leaves_the_last_good_one() {
    let endpoint = endpoint(&json("{\"active\":false}"), ClientAuth::Post, Duration::ZERO).await;
    let secret = endpoint.folder.path().join("secret");
    let shown = async || {
        endpoint.introspector.introspect(&token("one")).await.expect("an answer");
        let request = endpoint.last.lock().expect("sane").clone();
        request.rsplit_once("client_secret=").expect("a secret").1.to_owned()
    };
    std::fs::write(&secret, "another\n").expect("written");
    endpoint.introspector.refresh().expect("valid");
    assert_eq!(shown().await, "another");
    for broken in ["", "hush\nhush\n", "hush\u{7}"] {
        std::fs::write(&secret, broken).expect("written");
        let fault = endpoint.introspector.refresh().expect_err("broken").to_string();
        assert!(
            fault.contains("/secret: ") && fault.contains("one line") && !fault.contains("hush"),
            "{fault}"
        );
        endpoint.introspector.refresh().expect("said once");
        let told = endpoint.introspector.status(SystemTime::now());
        assert_eq!((told.file_error, shown().await.as_str()), (Some(fault), "another"));
    }
    std::fs::write(&secret, "third\n").expect("written");
    endpoint.introspector.refresh().expect("valid");
    assert_eq!(shown().await, "third");
    assert_eq!(endpoint.introspector.status(SystemTime::now()).file_error, None);
}

#[tokio::test]
async fn a_repaired_secret_ends_the_rest_of_its_endpoint() {
    let endpoint = endpoint("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", ClientAuth::Basic, LONG).await;
    for number in 0..5 {
        endpoint.note(&format!("token-{number}")).await;
    }
    assert!(endpoint.introspector.status(SystemTime::now()).resting);
    std::fs::write(endpoint.folder.path().join("secret"), "right\n").expect("written");
    endpoint.introspector.refresh().expect("valid");
    assert!(!endpoint.introspector.status(SystemTime::now()).resting);
}

#[tokio::test]
async fn certificates_that_are_none_are_a_fault_of_their_file_and_not_of_the_secret() {
    let endpoint = endpoint("", ClientAuth::Basic, LONG).await;
    let ca = endpoint.folder.path().join("ca.pem");
    let rules = Introspection { ca: Some(ca.clone()), ..endpoint.introspector.rules.clone() };
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&ca, content).expect("written");
        }
        let fault = Introspector::new(&rules, &Limits::default()).expect_err("faulty").to_string();
        assert!(fault.contains("ca.pem: ") && !fault.contains("secret"), "{fault}");
    }
}

#[tokio::test]
async fn an_endpoint_that_the_metadata_has_to_name_is_an_outage_until_it_does() {
    let known = endpoint(&json("{\"active\":false}"), ClientAuth::Basic, LONG).await;
    let rules = Introspection { endpoint: None, ..known.introspector.rules.clone() };
    let introspector = Introspector::new(&rules, &Limits::default()).expect("valid");
    let outage = introspector.introspect(&token("one")).await.expect_err("an outage");
    assert!(outage.note.contains("has not arrived"), "{}", outage.note);
    assert_eq!(introspector.status(SystemTime::now()).endpoint, None);
    let place = introspector.place().expect("it is found");
    place.put(Ok(known.introspector.rules.endpoint.clone().expect("an endpoint")), "main");
    assert!(matches!(introspector.introspect(&token("one")).await, Ok(Introspected::Inactive)));
    assert!(known.introspector.place().is_none());
}
