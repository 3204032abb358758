//! Promises of the edge and of sessions, over real sockets on the loopback.

mod admission;
mod answers;
mod handshake;
mod limits;
mod relay;
mod scene;
mod tenure;
mod upstreams;
