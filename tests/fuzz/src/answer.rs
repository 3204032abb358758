//! The upstream's answer: what is accepted satisfies RFC 6455 §4.1, and what the gate makes of it
//! does so, too.

use gateway::audit::HandshakeId;
use gateway::edge::head::Head;
use gateway::session::answer::{Answer, Offer};
use gateway::session::headers::crossing;

use crate::naive::Naive;

/// The key of RFC 6455 §1.3, and what it makes the server answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) fn run(input: &[u8]) {
    let Some(head) = Head::parse(input.to_vec()) else {
        return;
    };
    let Ok(answer) = Answer::parse(head.bytes()) else {
        return;
    };
    let (protocols, extensions) =
        (["chat", "superchat"].map(str::to_owned), ["permessage-deflate".to_owned()]);
    let offer = Offer { key: KEY, protocols: &protocols, extensions: &extensions };
    match answer.check(offer) {
        Ok(()) => {
            is_an_acceptance(&Naive::read(head.bytes()));
            let accepted = answer.accept(HandshakeId::new([7; 10]));
            let passed_on = Naive::read(&accepted);
            is_an_acceptance(&passed_on);
            assert_eq!(passed_on.all("gatehouse-id"), ["07070707070707070707"]);
            // All of it is the head: nothing an upstream says can end it early.
            assert!(Head::parse(accepted.clone()).is_some_and(|head| head.bytes() == accepted));
            let read_again = Answer::parse(&accepted);
            assert!(read_again.is_ok_and(|answer| answer.check(offer).is_ok()));
        }
        Err(error) => assert!(crate::is_one_plain_line(&error.to_string()), "{error:?}"),
    }
    for (name, _) in crossing(answer.headers()) {
        assert!(!["connection", "upgrade", "content-length", "transfer-encoding"].contains(&name), "{name}");
        assert!(!name.starts_with("gatehouse-"), "{name}: only the gate says that");
    }
}

/// RFC 6455 §4.1, the six items about the server's answer.
fn is_an_acceptance(answer: &Naive) {
    assert!(answer.start.starts_with("HTTP/1.1 101"), "{:?}", answer.start);
    assert!(answer.lists("upgrade", "websocket") && answer.lists("connection", "upgrade"));
    assert_eq!(answer.all("sec-websocket-accept"), [ACCEPT]);
    for extension in answer.all("sec-websocket-extensions").join(",").split(',') {
        let name = extension.split(';').next().unwrap_or("").trim();
        assert!(name.is_empty() || name.eq_ignore_ascii_case("permessage-deflate"), "{name}");
    }
    let protocols = answer.all("sec-websocket-protocol");
    assert!(matches!(protocols[..], [] | ["chat" | "superchat"]), "{protocols:?}");
}
