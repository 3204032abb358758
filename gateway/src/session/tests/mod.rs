//! Promises of both ends of a WebSocket of our own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ConnectError, Header, Rejected, connect};
use super::echo::echo;

/// Enough for a busy machine; reaching it fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

struct Echo {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/anything", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        Self { url, stop: stop.clone(), task: tokio::spawn(echo(listener, stop)) }
    }

    async fn connect(&self) -> Client {
        connect(&self.url, None, None, None, PATIENCE).await.unwrap()
    }
}

async fn exchange(client: &mut Client, message: Message) -> Message {
    soon(client.send(message)).await.unwrap();
    soon(client.next()).await.unwrap().unwrap()
}

/// Answers one connection with `answer` once its request is there; what it was asked, and by whom.
async fn server(answer: String) -> (String, JoinHandle<(String, SocketAddr)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, client) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        // In two parts, as a busy network delivers.
        let (head, body) = answer.split_at(answer.find("\r\n\r\n").map_or(answer.len(), |end| end + 4));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(body.as_bytes()).await.unwrap();
        (String::from_utf8(request).unwrap(), client)
    });
    (url, task)
}

async fn refusal(answer: &str) -> Rejected {
    let (url, _) = server(answer.to_owned()).await;
    match connect(&url, None, None, None, PATIENCE).await.unwrap_err() {
        ConnectError::Rejected(rejected) => *rejected,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn echo_returns_text_and_binary_answers_pings_and_closes_with_the_same_code() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    for message in [Message::text("h\u{e4}llo"), Message::binary(vec![0_u8; 500_000]), Message::text("")] {
        assert!(exchange(&mut client, message.clone()).await == message, "{message:.40?}");
    }
    assert_eq!(exchange(&mut client, Message::Ping("1".into())).await, Message::Pong("1".into()));
    let close = CloseFrame { code: CloseCode::Library(4000), reason: "".into() };
    soon(client.close(Some(close.clone()))).await.unwrap();
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::Close(Some(close)));
}

#[tokio::test]
async fn echo_refuses_a_message_that_is_too_long_and_serves_others_on() {
    let echo = Echo::start().await;
    let mut long = echo.connect().await;
    // The server may end the session before it has taken all of it.
    let _ = soon(long.send(Message::binary(vec![0_u8; 2 * 1024 * 1024]))).await;
    let end = soon(long.next()).await;
    assert!(!matches!(end, Some(Ok(Message::Binary(_)))), "it was echoed");
    let mut other = echo.connect().await;
    assert_eq!(exchange(&mut other, Message::text("on")).await, Message::text("on"));
}

#[tokio::test]
async fn echo_says_that_it_goes_away_when_told_to_end() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    exchange(&mut client, Message::text("x")).await;
    echo.stop.cancel();
    match soon(client.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    soon(echo.task).await.unwrap();
}

#[tokio::test]
async fn a_client_sends_its_token_from_the_address_it_was_told() {
    let (url, task) = server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let source = Ipv4Addr::new(127, 0, 0, 7);
    let error = connect(&format!("{url}/a?b=c"), Some("x.y.z"), Some(source.into()), None, PATIENCE).await;
    assert!(matches!(error, Err(ConnectError::Rejected(_))), "{error:?}");
    let (request, client) = soon(task).await.unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nAuthorization: Bearer x.y.z\r\n"), "{request}");
    assert_eq!(client.ip(), IpAddr::from(source));
}

#[tokio::test]
async fn a_client_tells_the_whole_rejection_however_its_answer_is_cut() {
    let body = "{\"type\":\"t\",\"title\":\"t\",\"status\":401,\"detail\":\"The token expired \\u001b[2J2 min ago.\",\
                \"layer\":\"expiry\",\"reason\":\"expired\",\"retryable\":false,\"fix\":\"Renew it.\",\"id\":\"00ff\"}";
    let rejected = refusal(&format!(
        "HTTP/1.1 401 Unauthorized\r\nRetry-After: 7\r\nContent-Length: {}\r\n\
         Gatehouse-Rejection: layer=expiry, reason=expired, id=\"00ff\", new=?1\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let header = Header { layer: "expiry".to_owned(), reason: "expired".to_owned(), id: "00ff".to_owned() };
    assert_eq!((rejected.status, rejected.header.as_ref()), (401, Some(&header)));
    let said = rejected.to_string();
    for part in ["layer expiry, reason expired (HTTP 401)", "Renew it.", "00ff", "in 7 s", "2 min ago"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains('\u{1b}'), "who answers moves the cursor: {said:?}");
}

#[tokio::test]
async fn a_client_says_when_it_was_not_a_gate_that_answered() {
    let rejected = refusal("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    assert!(rejected.header.is_none() && rejected.to_string().contains("not by a gate"), "{rejected}");
    for broken in ["layer=expiry", "layer=\"expiry\", reason=expired, id=\"0\"", "(", ""] {
        assert_eq!(Header::parse(broken.as_bytes()), None, "{broken}");
    }
}

#[tokio::test]
async fn a_client_accepts_no_answer_to_another_handshake() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let (url, _) = server(answer.to_owned()).await;
    let error = connect(&url, None, None, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_client_tells_silence_refusal_and_nonsense_apart() {
    // The kernel accepts; nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let brief = Duration::from_millis(50);
    let error = connect(&format!("ws://{address}"), None, None, None, brief).await.unwrap_err();
    assert!(matches!(error, ConnectError::Silent), "{error:?}");
    drop(listener);
    let error = connect(&format!("ws://{address}"), None, None, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Broken(_)), "{error:?}");
    for url in ["https://a.test", "http://a.test", "ws://user@a.test", "ws:///x", "nonsense"] {
        let error = connect(url, None, None, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ConnectError::Invalid(_)), "{url}: {error:?}");
    }
    let error = connect("ws://a.test", Some("a\r\nb"), None, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Invalid(_)), "{error:?}");
}
