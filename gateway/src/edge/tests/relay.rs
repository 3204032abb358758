//! The life and the end of a session.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::scene::{PATIENCE, Peer, Scene, request, soon};
use crate::audit::Entry;
use crate::config::Limits;
use crate::edge::serve;
use crate::rejection::Reason;

type Socket = WebSocketStream<TcpStream>;

/// The end of the session: in words, and the bytes up and down.
async fn ended(scene: &mut Scene) -> (String, u64, u64) {
    match scene.entry().await {
        Entry::Ended { why, bytes_up, bytes_down, .. } => (why, bytes_up, bytes_down),
        other => panic!("{other:?}"),
    }
}

async fn session(scene: &mut Scene) -> (Peer, Peer) {
    let (client, upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    (client, upstream)
}

/// Whether the other side receives exactly this message.
async fn crosses(from: &mut Socket, to: &mut Socket, message: &Message) -> bool {
    let (sent, received) = tokio::join!(from.send(message.clone()), next(to));
    sent.unwrap();
    received == *message
}

/// The next message but the pongs, by which the library answers pings.
async fn next(socket: &mut Socket) -> Message {
    loop {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Pong(_) => {}
            message => return message,
        }
    }
}

#[tokio::test]
async fn frames_of_every_kind_arrive_unchanged() {
    let mut scene = Scene::new().await;
    let (client, upstream) = session(&mut scene).await;
    let mut client = WebSocketStream::from_raw_socket(client.stream, Role::Client, None).await;
    let mut upstream = WebSocketStream::from_raw_socket(upstream.stream, Role::Server, None).await;

    for message in [
        Message::text("h\u{e4}llo"),
        Message::binary(vec![0_u8, 255, 13, 10]),
        Message::Ping("are you there".into()),
        Message::text(""),
        Message::binary(vec![7_u8; 300_000]),
    ] {
        assert!(crosses(&mut client, &mut upstream, &message).await, "up: {message:.40?}");
        assert!(crosses(&mut upstream, &mut client, &message).await, "down: {message:.40?}");
    }

    let part =
        |text: &'static str, code, last| Message::Frame(Frame::message(text, OpCode::Data(code), last));
    client.feed(part("one ", Data::Text, false)).await.unwrap();
    client.feed(part("two ", Data::Continue, false)).await.unwrap();
    client.feed(part("three", Data::Continue, true)).await.unwrap();
    soon(client.flush()).await.unwrap();
    assert_eq!(next(&mut upstream).await, Message::text("one two three"));

    let close = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    soon(client.close(Some(close.clone()))).await.unwrap();
    assert_eq!(next(&mut upstream).await, Message::Close(Some(close)));
}

#[tokio::test]
async fn bytes_pass_unchanged_and_are_counted() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    // Many times what fits into the buffers of the kernel and of the relay.
    let up: Vec<u8> = (0..8_000_003_u32).map(|number| (number % 251) as u8).collect();
    let down: Vec<u8> = up.iter().rev().copied().collect();
    let (mut client_read, mut client_write) = client.stream.split();
    let (mut upstream_read, mut upstream_write) = upstream.stream.split();
    let mut arrived_up = Vec::new();
    let mut arrived_down = Vec::new();
    soon(async {
        use tokio::io::AsyncReadExt as _;
        tokio::join!(
            async {
                client_write.write_all(&up).await.unwrap();
                client_write.shutdown().await.unwrap();
            },
            async {
                upstream_write.write_all(&down).await.unwrap();
                upstream_write.shutdown().await.unwrap();
            },
            async { client_read.read_to_end(&mut arrived_down).await.unwrap() },
            async { upstream_read.read_to_end(&mut arrived_up).await.unwrap() },
        )
    })
    .await;
    assert!(arrived_up == up && arrived_down == down);
    let (_, bytes_up, bytes_down) = ended(&mut scene).await;
    assert_eq!((bytes_up, bytes_down), (up.len() as u64, down.len() as u64));
}

#[tokio::test]
async fn what_one_side_still_has_to_say_arrives_after_the_other_has_ended_its_half() {
    let mut scene = Scene::new().await;
    let (mut client, mut upstream) = session(&mut scene).await;
    client.send("last").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(upstream.read_to_end().await, b"last");
    upstream.send("answer").await;
    drop(upstream);
    assert_eq!(client.read_to_end().await, b"answer");
    assert_eq!(ended(&mut scene).await, ("the client closed".to_owned(), 4, 6));
}

#[tokio::test]
async fn a_side_that_breaks_ends_the_session_for_the_other() {
    for client_breaks in [true, false] {
        let mut scene = Scene::new().await;
        let (client, upstream) = session(&mut scene).await;
        let (broken, mut other) = if client_breaks { (client, upstream) } else { (upstream, client) };
        // Closing with a linger time of 0 resets the connection (socket(7)).
        socket2::SockRef::from(&broken.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broken);
        assert_eq!(other.read_to_end().await, b"");
        let (why, ..) = ended(&mut scene).await;
        let side = if client_breaks { "client" } else { "upstream" };
        assert!(why.contains(side) && why.contains("broke"), "{why}");
    }
}

#[tokio::test]
async fn at_the_end_new_clients_are_refused_and_open_sessions_live_on() {
    let mut scene = Scene::with(Limits { drain_timeout: PATIENCE, ..Limits::default() }).await;
    let (mut client, mut upstream) = session(&mut scene).await;
    scene.stop.cancel();
    // Whoever waits in the queue of the listener when it closes is reset.
    while TcpStream::connect(scene.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    client.send("x").await;
    assert_eq!(upstream.read(1).await, b"x");
    drop(client);
    assert_eq!(upstream.read_to_end().await, b"");
    drop(upstream);
    assert_eq!(ended(&mut scene).await.0, "the client closed");
    soon(&mut scene.served).await.unwrap();
}

#[tokio::test]
async fn at_the_end_sessions_that_stay_are_cut_after_the_drain_timeout() {
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let (mut client, _upstream) = session(&mut scene).await;
    scene.stop.cancel();
    // A Close frame, which this client does not answer.
    assert_eq!(client.read_to_end().await[..4], [0x88, 37, 0x03, 0xe9]);
    assert_eq!(ended(&mut scene).await.0, "the gate stopped");
    soon(&mut scene.served).await.unwrap();
}

#[tokio::test]
async fn at_the_end_a_handshake_that_is_cut_off_is_answered_and_recorded() {
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    let mut slow = scene.connect().await;
    slow.send("GET /chat HTTP/1.1\r\n").await;
    // Connections are accepted in their order: with the next one, this one is in.
    let (_client, _upstream) = session(&mut scene).await;
    scene.stop.cancel();
    slow.rejection().await.is(503, "limit/capacity");
    let (rejection, _) = scene.rejected().await;
    assert_eq!(rejection.reason, Reason::LimitCapacity);
    soon(&mut scene.served).await.unwrap();
}

#[tokio::test]
async fn a_client_of_a_listener_for_both_families_is_named_by_its_ipv4_address() {
    let mut scene = Scene::new().await;
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, address, Arc::clone(&scene.gate), scene.stop.clone(), scene.stop.clone()));
    let mut client = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
    client.write_all(request("/none", &[]).as_bytes()).await.unwrap();
    let Entry::Rejected { client, .. } = scene.entry().await else { panic!("a rejection") };
    assert_eq!(client.ip(), std::net::IpAddr::from([127, 0, 0, 1]));
}
