//! Promises of the edge and of sessions, over real sockets on the loopback.

mod admission;
mod answers;
mod endpoints;
mod faults;
mod first_message;
mod handshake;
mod limits;
mod listeners;
mod pool;
mod relay;
mod renewal;
mod scene;
mod sources;
mod tenure;
mod upstreams;
