//! Questions to the running daemon: the control socket, the pages of the admin listener, and the answers
//! to `status`, `explain`, `apply` and their like.

pub mod apply;
pub mod bans;
pub mod control;
pub mod explain;
pub mod exposition;
pub mod introspection;
pub mod lists;
pub mod overview;
pub mod readiness;
pub mod revocations;
pub mod sessions;
pub mod status;
pub mod web;
