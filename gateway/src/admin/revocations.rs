//! The orders and the answer of `gatehouse revoke`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What to do about revocations.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Show them.
    List,
    /// Revoke what this line of a revocation list says.
    Add {
        /// The line.
        line: String,
    },
    /// Take one back.
    Undo {
        /// Its name.
        id: String,
    },
}

/// The revocations, once the order is carried out. The JSON form of `gatehouse revoke --json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// All of them.
    pub revocations: Vec<Kept>,
}

/// One revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kept {
    /// Its name.
    pub id: String,
    /// It as a line of a revocation list.
    pub line: String,
    /// Whether `gatehouse revoke` made it; else it stands in the operator's file.
    pub kept: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.revocations.is_empty() {
            return write!(f, "nothing is revoked");
        }
        for (number, Kept { id, line, kept }) in self.revocations.iter().enumerate() {
            let file = if *kept { "" } else { "  (in the file of [revocation] file)" };
            write!(f, "{}{id}  {line}{file}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
