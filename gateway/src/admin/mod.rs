//! Questions to the running daemon: the control socket, and the answers to `status`, `explain` and `apply`.

pub mod apply;
pub mod control;
pub mod explain;
pub mod introspection;
pub mod lists;
pub mod revocations;
pub mod status;
