//! The admin listener: health, metrics, and what the page asks for. HTTP/1.1 by hyper; what may be asked
//! by whom is decided in [`access`], before anything is answered.

mod access;
mod listener;
mod pages;
mod routes;

pub use access::{Access, TokenFile};
pub use listener::{AdminError, AdminListener};
pub use routes::Ask;
