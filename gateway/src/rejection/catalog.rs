//! The registry as a journal catalog (<https://systemd.io/CATALOG/>): `journalctl -x` shows its text
//! under each entry.

use std::fmt::Write as _;

use super::message_id::message_id;
use super::registry::Reason;

/// What stands in the trail besides rejections: kind, subject, and what to make of it.
const OTHERS: [(&str, &str, &str); 6] = [
    (
        "admitted",
        "A session was admitted",
        "The client @GATEHOUSE_CLIENT@ showed a good token of @GATEHOUSE_SUBJECT@, and the service behind \
         @GATEHOUSE_ROUTE@ accepted. The entry of the session's end has the same GATEHOUSE_ID.",
    ),
    (
        "renewed",
        "A session goes on with a fresh token",
        "The session @GATEHOUSE_ID@ of @GATEHOUSE_SUBJECT@ lives by a token that expires later.",
    ),
    (
        "ended",
        "A session ended",
        "The entry says why, how long the session lasted and what it carried. With GATEHOUSE_LAYER, the gate \
         ended it: the layer and GATEHOUSE_REASON have their own explanation, see gatehouse reasons.",
    ),
    (
        "observed",
        "A client passed that an observed list would drop",
        "The list @GATEHOUSE_LIST@ is only observed. If what it would drop is what should be dropped, take \
         observe = true away from it in the configuration.",
    ),
    (
        "dropped_unreported",
        "Drops at the card were left out of the trail",
        "More clients were dropped than [firewall] reports_per_second lets the trail name. The counts are exact; \
         gatehouse lists has them by list.",
    ),
    (
        "audit_lost",
        "Entries of the audit trail were lost",
        "The journal did not take entries as fast as they came. Look at systemd-journald and its disk; [limits] \
         audit_queue bounds what waits.",
    ),
];

/// Every reason, and every other kind of entry, as catalog entries. `config/gatehouse.catalog` is this
/// text.
pub fn catalog() -> String {
    let mut text = String::from("# Made by `gatehouse reasons --catalog`, for journalctl -x.\n");
    for reason in Reason::ALL {
        let again = if reason.retryable() { "can succeed later" } else { "will be rejected again" };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n-- {}\nSubject: {} ({reason})\nDefined-By: gatehouse\n\n{}\n\nClient: {}\nOperator: {}\n\n\
             The same request {again}.\n",
            message_id(&reason.to_string()),
            reason.title(),
            reason.layer().meaning(),
            reason.fix(),
            reason.operator_fix(),
        );
    }
    for (kind, subject, meaning) in OTHERS {
        let id = message_id(kind);
        let _ = write!(text, "\n-- {id}\nSubject: {subject}\nDefined-By: gatehouse\n\n{meaning}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_that_is_installed_is_the_registry() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/gatehouse.catalog");
        let text = std::fs::read_to_string(file).expect("config/gatehouse.catalog is there");
        assert_eq!(text, catalog(), "refresh it: gatehouse reasons --catalog > config/gatehouse.catalog");
    }

    #[test]
    fn every_reason_has_an_entry_of_its_own() {
        let text = catalog();
        for reason in Reason::ALL {
            let id = message_id(&reason.to_string());
            assert_eq!(text.matches(&format!("\n-- {id}\n")).count(), 1, "{reason}");
        }
    }
}
