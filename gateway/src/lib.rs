//! Gatehouse: guards a WebSocket service with an XDP program at the network card and a gateway
//! that judges every opening handshake, and names the layer that rejected each client.
//!
//! `ARCHITECTURE.md` at the top of the repository maps the rooms below.

#[forbid(unsafe_code)]
pub mod admin;
#[forbid(unsafe_code)]
pub mod audit;
#[forbid(unsafe_code)]
pub mod auth;
#[forbid(unsafe_code)]
pub mod bans;
#[forbid(unsafe_code)]
pub mod capture;
#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod edge;
#[forbid(unsafe_code)]
pub mod metrics;
pub mod nic;
#[forbid(unsafe_code)]
pub mod policy;
#[forbid(unsafe_code)]
pub mod rejection;
#[forbid(unsafe_code)]
pub mod service;
#[forbid(unsafe_code)]
pub mod session;
