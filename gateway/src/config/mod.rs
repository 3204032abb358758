//! Configuration: the file's form, the valid model made from it, and diagnostics with file, line
//! and column.

mod model;

pub use model::*;
