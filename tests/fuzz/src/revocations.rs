//! Revocation lists: whatever is understood is understood the same when it is written again, and
//! whatever is not has a place.

use std::time::{Duration, UNIX_EPOCH};

use gateway::auth::revocation::{Marks, Revocations, Revoked, parse, print};

/// Revocations in a list.
const MOST: usize = 50;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let all = match parse(text, MOST) {
        Ok(all) => all,
        Err(fault) => {
            assert!(fault.line >= 1 && fault.column >= 1, "{fault:?}");
            assert!(crate::is_one_plain_line(&fault.message), "{fault:?}");
            return;
        }
    };
    assert!(all.len() <= MOST);
    let printed: Vec<String> = all.iter().map(print).collect();
    assert!(printed.iter().all(|line| crate::is_one_plain_line(line)), "{printed:?}");
    assert_eq!(parse(&printed.join("\n"), MOST).as_ref(), Ok(&all));
    // Each one revokes what it says, while it lasts.
    let set = Revocations::new(all.clone(), UNIX_EPOCH);
    for revocation in all.iter().filter(|revocation| revocation.until != Some(0)) {
        let marks = Marks {
            issuer: revocation.issuer.as_deref().unwrap_or("anybody"),
            subject: "",
            token_id: None,
            session_id: None,
            key_id: None,
            issued: Some(u64::MAX),
        };
        let marks = match &revocation.revoked {
            Revoked::Token(id) => Marks { token_id: Some(id), ..marks },
            Revoked::Subject(subject) => Marks { subject, ..marks },
            Revoked::Session(id) => Marks { session_id: Some(id), ..marks },
            Revoked::Key(id) => Marks { key_id: Some(id), ..marks },
            Revoked::IssuedBefore(time) => Marks { issued: time.checked_sub(1), ..marks },
        };
        let last = revocation.until.map_or(u64::MAX, |until| until - 1);
        assert!(set.of(&marks, last).is_some(), "{revocation:?} at {:?}", Duration::from_secs(last));
    }
}
