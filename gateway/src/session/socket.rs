//! What every connection of a session needs from the kernel.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A silent connection is probed after a minute, and taken for dead after another.
const IDLE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// What was sent and is not acknowledged for so long was sent to nobody.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Sends small frames at once, and notices peers that vanished without a word: an idle session
/// would otherwise hold its place for ever.
pub fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(PROBES);
    // These fail on a connection that has ended already, which the next read will tell.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}
