//! What `gatehouse status` and `gatehouse lists` tell about a list.

use std::time::SystemTime;

use super::{Held, ListFile, Lists, Origin};
use crate::admin::status::{HeldBack, LAST_GOOD_COPY, ListStatus};
use crate::policy::ListSummary;

impl Lists {
    /// The list of a generation, with what is known about its file. Its packets are counted elsewhere.
    pub(in super::super) fn status(&self, summary: &ListSummary) -> ListStatus {
        let file = self.iter().find(|file| file.is(summary.tier(), &summary.name));
        let (source, changed) = match file.map(|file| file.origin) {
            None => ("built in", None),
            Some(Some(Origin::File(changed))) => ("file", Some(changed)),
            Some(Some(Origin::Copy(changed))) => (LAST_GOOD_COPY, Some(changed)),
            Some(None) => ("nothing", None),
        };
        ListStatus {
            tier: summary.tier().name().to_owned(),
            list: summary.name.to_string(),
            prefixes: summary.entries,
            packets: 0,
            dropped: 0,
            source: source.to_owned(),
            changed: changed.map(seconds),
            held_back: file.and_then(|file| file.held.as_ref()).map(HeldBack::from),
            remote: None,
            error: file.and_then(|file: &ListFile| file.error.clone()),
        }
    }
}

impl From<&Held> for HeldBack {
    fn from(held: &Held) -> Self {
        Self { entries: held.entries, in_force: held.in_force }
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
