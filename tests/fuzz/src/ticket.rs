//! The body of a request for a ticket: an object with the one member that it may have.

use gateway::edge::endpoints::wanted::Wanted;
use serde_json::Value;

pub(crate) fn run(input: &[u8]) {
    let read: Option<Value> = serde_json::from_slice(input).ok();
    let object = read.as_ref().and_then(Value::as_object);
    match Wanted::parse(input) {
        Some(wanted) => {
            let members: Vec<_> = object.into_iter().flatten().collect();
            let [(name, route)] = members[..] else { unreachable!("{members:?}") };
            assert_eq!((name.as_str(), route.as_str()), ("route", Some(wanted.route.as_str())));
            let again = serde_json::json!({ "route": wanted.route }).to_string();
            assert!(Wanted::parse(again.as_bytes()).is_some_and(|again| again.route == wanted.route));
        }
        // A member that stands twice is not seen by who reads it plainly.
        None => {
            let plain = object
                .is_some_and(|object| object.len() == 1 && object.get("route").is_some_and(Value::is_string));
            let names = |part: &str| String::from_utf8_lossy(input).matches(part).count();
            assert!(!plain || names("\"") > 4, "a good request is refused");
        }
    }
}
