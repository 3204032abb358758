//! A line of journalctl is an entry of the trail or none, and what is shown of it moves no cursor.

use gateway::audit::query::{Found, printable};

pub(crate) fn run(input: &[u8]) {
    let Some(found) = Found::parse(input) else { return };
    let shown = found.fields.values().chain(&found.ids).chain([&found.message]);
    for text in shown {
        assert!(!printable(text).chars().any(char::is_control));
    }
    let past = found.past();
    assert_eq!(past.message, found.message);
    assert!(serde_json::to_string(&found).is_ok_and(|json| !json.contains('\n')));
}
