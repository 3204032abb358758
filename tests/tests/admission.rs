//! Sessions that are admitted, and what reaches the service behind the gate.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use gatehouse_tests::client::{Attempt, Client, answer_of};
use gatehouse_tests::host::{CLIENT_V4, CLIENT_V6};
use gatehouse_tests::plan::{AUDIENCE, ISSUER, Plan, good_token, issuer};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, Token, jwk_set};
use gatehouse_tests::upstream::{Conversation, Frame};
use gatehouse_tests::{promises, tools};
use serde_json::json;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        each_kind_of_client_is_admitted,
        both_families_are_admitted,
        an_admission_and_its_end_are_logged_with_the_same_id,
        rs256_is_admitted,
        ps256_is_admitted,
        es256_is_admitted,
        es384_is_admitted,
        eddsa_is_admitted,
        hs256_is_admitted,
        a_pem_key_is_as_good_as_a_jwk_set,
        a_key_added_to_the_key_file_is_in_force_without_a_restart,
        scopes_may_stand_in_scp_as_text_or_as_an_array,
        any_of_several_scopes_is_enough_where_the_route_says_so,
        the_upstream_gets_the_identity_but_not_the_token,
        frames_arrive_unchanged,
        compressed_messages_arrive_unchanged,
        close_codes_arrive_unchanged,
    ])
}

fn each_kind_of_client_is_admitted() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for client in Client::ALL {
        scene.admits(client, &attempt)?;
    }
    // Each session has its own connection to it.
    scene.upstream.was_asked(3)?;
    scene.end()
}

fn both_families_are_admitted() -> Result<()> {
    let scene = Scene::usual()?;
    for source in [CLIENT_V4, CLIENT_V6] {
        scene.admits(Client::Raw, &Attempt::on("/chat").from(source).token(&scene.token()?))?;
    }
    scene.end()
}

fn an_admission_and_its_end_are_logged_with_the_same_id() -> Result<()> {
    let scene = Scene::usual()?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    let admitted = scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
    ensure!(admitted.client() == Some(CLIENT_V4), "{}", admitted.line);
    ensure!(admitted.field("ROUTE") == Some("/chat"), "{}", admitted.line);
    ensure!(admitted.field("SUBJECT") == Some("alice"), "{}", admitted.line);
    ensure!(admitted.field("ISSUER") == Some("main"), "{}", admitted.line);
    let id = admitted.field("ID").unwrap_or_default();
    let ended = scene
        .daemon
        .wait_for("the end", PATIENCE, |entry| entry.says("ended") && entry.field("ID") == Some(id))?;
    // One frame of 15 bytes each way: masked by the client, unmasked by the server.
    ensure!(ended.number("BYTES_UP") == Some(21), "{}", ended.line);
    ensure!(ended.number("BYTES_DOWN") >= Some(17), "{}", ended.line);
    scene.end()
}

/// One session with a token of each algorithm.
fn admits_algorithm(algorithm: &'static str) -> Result<()> {
    let scene = Scene::with(Key::generate(algorithm, "key-1")?, |key, plan| {
        if key.secret().is_empty() {
            return Ok(plan);
        }
        let issuers = issuer("main", "secret = \"secret\"", &[algorithm]);
        Ok(Plan { issuers, ..plan }.file("secret", key.secret()))
    })?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    scene.end()
}

fn rs256_is_admitted() -> Result<()> {
    admits_algorithm("RS256")
}

fn ps256_is_admitted() -> Result<()> {
    admits_algorithm("PS256")
}

fn es256_is_admitted() -> Result<()> {
    admits_algorithm("ES256")
}

fn es384_is_admitted() -> Result<()> {
    admits_algorithm("ES384")
}

fn eddsa_is_admitted() -> Result<()> {
    admits_algorithm("EdDSA")
}

fn hs256_is_admitted() -> Result<()> {
    admits_algorithm("HS256")
}

fn a_key_added_to_the_key_file_is_in_force_without_a_restart() -> Result<()> {
    let scene = Scene::usual()?;
    let next = Key::generate("ES256", "key-2")?;
    let token = good_token()?.sign(&next)?;
    let attempt = Attempt::on("/chat").token(&token);
    scene.rejects(Client::Raw, &attempt, (401, "credentials", "unknown_key"))?;
    let mark = scene.daemon.mark();
    scene.edit("keys.json", &jwk_set(&[&scene.key, &next]))?;
    scene.daemon.wait_after(mark, "the new keys", PATIENCE, |entry| entry.says("anew"))?;
    scene.admits(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    scene.end()
}

fn a_pem_key_is_as_good_as_a_jwk_set() -> Result<()> {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let scene = Scene::with(Key::generate(algorithm, "key-1")?, |key, plan| {
            let issuers = issuer("main", "keys = \"key.pem\"", &[algorithm]);
            Ok(Plan { issuers, ..plan }.file("key.pem", key.public_pem()?))
        })?;
        scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
        scene.end()?;
    }
    Ok(())
}

fn scopes_may_stand_in_scp_as_text_or_as_an_array() -> Result<()> {
    let scene = Scene::usual()?;
    for scp in [json!("other chat:read"), json!(["other", "chat:read"])] {
        let token = scene.sign(Token::new(ISSUER, AUDIENCE)?.claim("scp", scp))?;
        scene.admits(Client::Raw, &Attempt::on("/chat").token(&token))?;
    }
    scene.end()
}

fn any_of_several_scopes_is_enough_where_the_route_says_so() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let routes = plan.routes.replace("[\"chat:read\"]", "{ any = [\"chat:admin\", \"chat:read\"] }");
        Ok(Plan { routes, ..plan })
    })?;
    let attempt = Attempt::on("/chat");
    scene.admits(Client::Raw, &attempt.clone().token(&scene.token()?))?;
    let neither = scene.sign(good_token()?.claim("scope", "chat chat:write"))?;
    scene.rejects(Client::Raw, &attempt.token(&neither), (403, "scope", "insufficient_scope"))?;
    scene.end()
}

fn the_upstream_gets_the_identity_but_not_the_token() -> Result<()> {
    let scene = Scene::usual()?;
    let token = scene.token()?;
    let mut attempt = Attempt::on("/chat?room=1").token(&token).header("X-Kept", "yes");
    for name in IDENTITY {
        // A client must not be able to say who it is; `_` is `-` to many services.
        attempt = attempt.header(name, "mallory").header(&name.replace('-', "_"), "mallory");
    }
    scene.admits(Client::Raw, &attempt)?;
    let seen = scene.upstream.request()?;
    ensure!(seen.path == "/chat?room=1", "{seen:#?}");
    ensure!(seen.header("X-Kept") == ["yes"], "{seen:#?}");
    ensure!(seen.header("Authorization").is_empty(), "{seen:#?}");
    let text = format!("{seen:?}");
    ensure!(!text.contains(&token) && !text.contains("mallory"), "{seen:#?}");
    ensure!(seen.header("Gatehouse-Subject") == ["alice"], "{seen:#?}");
    ensure!(seen.header("Gatehouse-Issuer") == ["main"], "{seen:#?}");
    scene.end()
}

/// Headers that tell the upstream who the client is.
const IDENTITY: [&str; 4] = ["Gatehouse-Subject", "Gatehouse-Issuer", "Gatehouse-Scopes", "Gatehouse-Id"];

/// Sends frames of every kind through the gate; what the client and the upstream received.
fn converse(scene: &Scene, compression: Option<&str>, code: u16, reason: &str) -> Result<[Conversation; 2]> {
    let mut arguments = Attempt::on("/chat").token(&scene.token()?).arguments();
    arguments["compression"] = compression.into();
    arguments["code"] = code.into();
    arguments["reason"] = reason.into();
    let printed = answer_of(&scene.host, tools::python("conversation.py")?, &arguments)?;
    Ok([serde_json::from_str(&printed)?, scene.upstream.conversation()?])
}

fn frame(opcode: &str, fin: bool, data: &[u8]) -> Frame {
    Frame { opcode: opcode.to_owned(), fin, data: data.iter().map(|byte| format!("{byte:02x}")).collect() }
}

fn frames_arrive_unchanged() -> Result<()> {
    let scene = Scene::usual()?;
    let [client, upstream] = converse(&scene, None, 1000, "done")?;
    let big: Vec<u8> = (0..1024).flat_map(|_| 0..=255).collect();
    let messages = [
        frame("TEXT", true, "text: äöü \u{1f3f0}".as_bytes()),
        frame("BINARY", true, b"\x00\x01\xfe\xff"),
        frame("TEXT", true, b""),
        frame("TEXT", false, b"three"),
        frame("CONT", false, b"text"),
        frame("CONT", false, b"fragments"),
        frame("CONT", true, b""),
        frame("BINARY", false, b"\x01"),
        frame("CONT", false, b"\x02"),
        frame("CONT", true, b""),
        frame("BINARY", true, &big),
    ];
    let close = frame("CLOSE", true, b"\x03\xe8done");
    let expected = |control: Frame| [&messages[..], &[control, close.clone()]].concat();
    same(&upstream.frames, &expected(frame("PING", true, b"ping payload")))?;
    same(&client.frames, &expected(frame("PONG", true, b"ping payload")))?;
    scene.end()
}

fn same(found: &[Frame], expected: &[Frame]) -> Result<()> {
    for (number, pair) in found.iter().zip(expected).enumerate() {
        ensure!(pair.0 == pair.1, "frame {number} differs: {pair:.200?}");
    }
    ensure!(found.len() == expected.len(), "{} frames instead of {}", found.len(), expected.len());
    Ok(())
}

fn compressed_messages_arrive_unchanged() -> Result<()> {
    let scene = Scene::usual()?;
    let [client, upstream] = converse(&scene, Some("deflate"), 1000, "done")?;
    let agreed = scene.upstream.request()?;
    ensure!(agreed.header("Sec-WebSocket-Extensions").concat().contains("permessage-deflate"), "{agreed:#?}");
    for side in [client, upstream] {
        ensure!(side.code == Some(1000), "{:?}", side.code);
        let big = side.frames.iter().find(|frame| frame.data.len() == 2 * 256 * 1024);
        ensure!(big.is_some_and(|frame| frame.data.starts_with("000102")), "the large message is missing");
    }
    scene.end()
}

fn close_codes_arrive_unchanged() -> Result<()> {
    for (code, reason) in [(1001, ""), (3000, "registered"), (4999, "private: äöü")] {
        let scene = Scene::usual()?;
        for side in converse(&scene, None, code, reason)? {
            ensure!(side.code == Some(code) && side.reason.as_deref() == Some(reason), "{side:.200?}");
        }
        scene.end()?;
    }
    Ok(())
}
