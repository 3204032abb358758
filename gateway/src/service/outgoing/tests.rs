//! Requests to a server that says what it was told to.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

fn terms() -> Terms {
    let patience = Duration::from_secs(10);
    Terms { connect: patience, idle: patience, whole: patience, size: 10, ca: None, redirects: true, kept: 0 }
}

/// A server on this host that gives each of `answers` to one connection, and then the requests.
async fn server(answers: &[&'static str]) -> (Url, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/secret?hush", listener.local_addr().expect("an address"));
    let answers = answers.to_vec();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = String::new();
            // The requests of these tests end with their head, or with this form.
            while !(request.ends_with("\r\n\r\n") && request.starts_with("GET ") || request.ends_with("a=b"))
            {
                let mut piece = [0; 1024];
                let length = stream.read(&mut piece).await.expect("a request");
                assert!(length > 0, "the request broke off: {request}");
                request.push_str(std::str::from_utf8(&piece[..length]).expect("text"));
            }
            requests.push(request.to_ascii_lowercase());
            stream.write_all(answer.as_bytes()).await.expect("taken");
        }
        requests
    });
    (Url::parse(&url).expect("a URL"), serving)
}

async fn body(answers: &[&'static str], terms: &Terms) -> Result<Vec<u8>, OutgoingError> {
    let (url, _) = server(answers).await;
    Client::new(terms)?.get(&url, HeaderMap::new()).await?.body().await
}

#[tokio::test]
async fn a_form_is_sent_as_it_is_and_nothing_packed_is_asked_for() {
    let (url, serving) = server(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    let client = Client::new(&terms()).expect("a client");
    let answer = client.post(&url, HeaderMap::new(), "a=b".to_owned()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.body().await.as_deref(), Ok(b"ok".as_slice()));
    let request = &serving.await.expect("served")[0];
    for part in
        ["post /secret?hush ", "content-type: application/x-www-form-urlencoded", "accept-encoding: identity"]
    {
        assert!(request.contains(part), "{part}: {request}");
    }
    assert!(request.ends_with("\r\n\r\na=b"), "{request}");
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit_whatever_it_says_about_its_length() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n67890\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n01234567890",
    ] {
        assert_eq!(body(&[answer], &terms()).await, Err(OutgoingError::TooLarge(10)), "{answer}");
    }
    assert_eq!(
        body(&["HTTP/1.1 200 OK\r\n\r\n0123456789"], &terms()).await.as_deref(),
        Ok(b"0123456789".as_slice())
    );
}

#[tokio::test]
async fn what_is_packed_unasked_is_refused() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(body(&[answer], &terms()).await, Err(OutgoingError::Packed("br".to_owned())));
}

#[tokio::test]
async fn a_redirect_is_an_answer_where_it_is_not_to_be_followed() {
    const MOVED: &str = "HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let (url, _) = server(&[MOVED]).await;
    let client = Client::new(&Terms { redirects: false, ..terms() }).expect("a client");
    let answer = client.get(&url, HeaderMap::new()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn no_error_repeats_what_may_be_a_secret() {
    for answer in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://keys.test/?hush\r\nContent-Length: 0\r\n\r\n",
    ] {
        let error = body(&[answer], &terms()).await.expect_err("a failure").to_string();
        assert!(!error.contains("hush") && !error.contains("secret") && !error.contains('\n'), "{error}");
    }
}
