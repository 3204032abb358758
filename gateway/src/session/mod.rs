//! Sessions: the upstream behind them, the relay, their limits; and both ends of a WebSocket of
//! our own, the echo upstream and the client of `gatehouse connect`.

pub mod answer;
pub mod client;
pub mod control;
mod direction;
pub mod echo;
pub mod farewell;
pub mod frames;
pub mod headers;
pub mod http2;
pub mod life;
pub mod limits;
pub mod messages;
pub mod pool;
pub mod rates;
pub mod relay;
pub mod request;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod traffic;
pub mod upstream;
mod watched;

#[cfg(test)]
mod tests;
