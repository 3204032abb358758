//! What every connection of a session needs from the kernel.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// A silent connection is probed after a minute, and taken for dead after another.
const IDLE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// What was sent and is not acknowledged for so long was sent to nobody.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Sends small frames at once, and notices peers that vanished without a word: an idle session
/// would otherwise hold its place for ever. The connections of a listener have it from the listener.
pub fn prepare(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(PROBES);
    // These fail on a connection that has ended already, which the next read will tell.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn accepted_connections_have_what_their_listener_was_prepared_with() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        prepare(&listener);
        let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("known") && socket.keepalive().expect("known"));
        assert_eq!(socket.tcp_keepalive_time().expect("known"), IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("known"), INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("known"), PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("known"), Some(UNACKNOWLEDGED));
    }
}
