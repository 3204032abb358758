//! Clients that the gateway rejects: the answer and the log name the layer and the reason, and
//! agree.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use gatehouse_tests::answer::Rejection;
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::host::OTHER_CLIENT_V4;
use gatehouse_tests::plan::{Plan, good_token, issuer};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::{Expected, Scene};
use gatehouse_tests::token::{Key, tampered};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_missing_token_is_rejected_as_missing_credentials,
        a_garbage_token_is_rejected_as_malformed_credentials,
        a_token_with_a_bad_signature_is_rejected_as_such,
        a_token_changed_after_signing_is_rejected_as_a_bad_signature,
        a_token_without_a_signature_is_rejected_for_its_algorithm,
        a_public_key_never_verifies_as_an_hmac_secret,
        a_token_of_a_stranger_is_rejected_as_unknown_issuer,
        a_token_for_another_service_is_rejected_as_wrong_audience,
        an_expired_token_is_rejected_as_expiry_and_told_to_renew,
        a_token_from_the_future_is_rejected_as_not_yet_valid,
        a_token_without_the_scope_is_rejected_and_told_which_scope,
        an_unknown_route_is_rejected_as_a_handshake_fault,
        an_issuer_without_keys_is_not_the_clients_fault,
        one_session_too_many_from_an_address_is_rejected_as_a_limit_until_another_ends,
        an_upstream_that_is_down_is_not_the_clients_fault,
        a_rejected_client_never_reaches_the_upstream,
    ])
}

/// Makes `attempt` with every kind of client; each must be told `expected`.
fn all_rejected(scene: &Scene, attempt: &Attempt, expected: Expected<'_>) -> Result<Rejection> {
    for client in [Client::Python, Client::Node] {
        scene.rejects(client, attempt, expected)?;
    }
    Ok(scene.rejects(Client::Raw, attempt, expected)?.0)
}

/// The challenge (RFC 6750 §3) of a rejection.
fn challenge(rejection: &Rejection) -> Result<&str> {
    let challenge = rejection.answer.header("WWW-Authenticate")?;
    ensure!(challenge.starts_with("Bearer"), "{challenge}");
    Ok(challenge)
}

fn a_missing_token_is_rejected_as_missing_credentials() -> Result<()> {
    let scene = Scene::usual()?;
    let rejection = all_rejected(&scene, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
    // RFC 6750 §3.1: a request without credentials is not told an error.
    ensure!(!challenge(&rejection)?.contains("error"), "{rejection:#?}");
    scene.end()
}

fn a_garbage_token_is_rejected_as_malformed_credentials() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token("garbage-that-is-no-token");
    let rejection = all_rejected(&scene, &attempt, (401, "credentials", "malformed"))?;
    ensure!(challenge(&rejection)?.contains("error=\"invalid_token\""), "{rejection:#?}");
    for garbage in ["a.b.c", "..", "eyJ.eyJ.eyJ", "e30.e30.AAAA"] {
        let attempt = Attempt::on("/chat").token(garbage);
        scene.rejects(Client::Raw, &attempt, (401, "credentials", "malformed"))?;
    }
    scene.end()
}

fn a_token_with_a_bad_signature_is_rejected_as_such() -> Result<()> {
    let scene = Scene::usual()?;
    // The name of the issuer's key, but another key.
    let forged = good_token()?.sign(&Key::generate("ES256", "key-1")?)?;
    let attempt = Attempt::on("/chat").token(&forged);
    let rejection = all_rejected(&scene, &attempt, (401, "credentials", "bad_signature"))?;
    ensure!(challenge(&rejection)?.contains("error=\"invalid_token\""), "{rejection:#?}");
    scene.end()
}

fn a_token_changed_after_signing_is_rejected_as_a_bad_signature() -> Result<()> {
    let scene = Scene::usual()?;
    let changed = tampered(&scene.token()?, "sub", "root")?;
    scene.rejects(
        Client::Raw,
        &Attempt::on("/chat").token(&changed),
        (401, "credentials", "bad_signature"),
    )?;
    scene.end()
}

fn a_token_without_a_signature_is_rejected_for_its_algorithm() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&good_token()?.unsigned("none"));
    all_rejected(&scene, &attempt, (401, "credentials", "algorithm"))?;
    for spelling in ["None", "NONE", "nOnE"] {
        let attempt = Attempt::on("/chat").token(&good_token()?.unsigned(spelling));
        scene.rejects(Client::Raw, &attempt, (401, "credentials", "algorithm"))?;
    }
    scene.end()
}

fn a_public_key_never_verifies_as_an_hmac_secret() -> Result<()> {
    let key = Key::generate("RS256", "key-1")?;
    let public = key.public_pem()?;
    let modulus = key.jwk()["n"].to_string();
    let scene = Scene::with(key, |_, plan| {
        let issuers = issuer("main", "keys = \"key.pem\"", &["RS256"]);
        Ok(Plan { issuers, ..plan }.file("key.pem", public.as_str()))
    })?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    // Whatever form of the public key the gate might take for a secret.
    for secret in [&public, public.trim_end(), modulus.trim_matches('"')] {
        let forged = good_token()?.sign(&Key::hmac(secret.as_bytes(), "key-1"))?;
        let attempt = Attempt::on("/chat").token(&forged);
        all_rejected(&scene, &attempt, (401, "credentials", "algorithm"))?;
    }
    scene.end()
}

fn a_token_of_a_stranger_is_rejected_as_unknown_issuer() -> Result<()> {
    let scene = Scene::usual()?;
    let token = scene.sign(good_token()?.claim("iss", "https://stranger.test"))?;
    let attempt = Attempt::on("/chat").token(&token);
    let rejection = all_rejected(&scene, &attempt, (401, "credentials", "unknown_issuer"))?;
    ensure!(!rejection.answer.body.contains("idp.test"), "trusted issuers are not for everyone to know");
    scene.end()
}

fn a_token_for_another_service_is_rejected_as_wrong_audience() -> Result<()> {
    let scene = Scene::usual()?;
    let token =
        scene.sign(good_token()?.claim("aud", vec!["https://other.test", "https://gate.test.evil"]))?;
    let attempt = Attempt::on("/chat").token(&token);
    let rejection = all_rejected(&scene, &attempt, (401, "credentials", "wrong_audience"))?;
    ensure!(!rejection.answer.body.contains("gate.test"), "the expected audience stays in the log");
    scene.end()
}

fn an_expired_token_is_rejected_as_expiry_and_told_to_renew() -> Result<()> {
    let scene = Scene::usual()?;
    let token = scene.sign(good_token()?.time("exp", -400)?)?;
    let attempt = Attempt::on("/chat").token(&token);
    let rejection = all_rejected(&scene, &attempt, (401, "expiry", "expired"))?;
    ensure!(challenge(&rejection)?.contains("error=\"invalid_token\""), "{rejection:#?}");
    ensure!(rejection.problem["fix"].as_str().is_some_and(|fix| fix.contains("Renew")), "{rejection:#?}");
    // An expired token that is also forged proves nothing about its owner.
    let forged = good_token()?.time("exp", -400)?.sign(&Key::generate("ES256", "key-1")?)?;
    let attempt = Attempt::on("/chat").token(&forged);
    scene.rejects(Client::Raw, &attempt, (401, "credentials", "bad_signature"))?;
    scene.end()
}

fn a_token_from_the_future_is_rejected_as_not_yet_valid() -> Result<()> {
    let scene = Scene::usual()?;
    let token = scene.sign(good_token()?.time("nbf", 400)?)?;
    let attempt = Attempt::on("/chat").token(&token);
    let rejection = all_rejected(&scene, &attempt, (401, "credentials", "not_yet_valid"))?;
    ensure!(rejection.problem["retryable"] == true, "{rejection:#?}");
    scene.end()
}

fn a_token_without_the_scope_is_rejected_and_told_which_scope() -> Result<()> {
    let scene = Scene::usual()?;
    // Neither a prefix nor an extension of the scope is the scope.
    let token = scene.sign(good_token()?.claim("scope", "chat chat:readonly chat:rea"))?;
    let attempt = Attempt::on("/chat").token(&token);
    let rejection = all_rejected(&scene, &attempt, (403, "scope", "insufficient_scope"))?;
    let challenge = challenge(&rejection)?;
    ensure!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    ensure!(challenge.contains("scope=\"chat:read\""), "{challenge}");
    scene.end()
}

fn an_unknown_route_is_rejected_as_a_handshake_fault() -> Result<()> {
    let scene = Scene::usual()?;
    let token = scene.token()?;
    let attempt = Attempt::on("/chatter").token(&token);
    all_rejected(&scene, &attempt, (404, "handshake", "no_route"))?;
    let secret = "/chat/?ticket=secret-in-a-query";
    let (_, entry) =
        scene.rejects(Client::Raw, &Attempt::on(secret).token(&token), (404, "handshake", "no_route"))?;
    ensure!(!entry.line.contains("secret-in-a-query"), "the log holds a query string: {}", entry.line);
    scene.end()
}

fn an_issuer_without_keys_is_not_the_clients_fault() -> Result<()> {
    let scene =
        Scene::with(Key::generate("ES256", "key-1")?, |_, plan| Ok(plan.file("keys.json", "{\"keys\":[]}")))?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let rejection = all_rejected(&scene, &attempt, (503, "auth_system", "keys_unavailable"))?;
    ensure!(rejection.problem["retryable"] == true, "{rejection:#?}");
    ensure!(rejection.answer.header("Retry-After")?.parse::<u32>()? > 0, "{rejection:#?}");
    ensure!(!rejection.answer.has("WWW-Authenticate"), "new credentials would not help: {rejection:#?}");
    scene.end()
}

fn one_session_too_many_from_an_address_is_rejected_as_a_limit_until_another_ends() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(Plan { more: "[limits]\nsessions_per_address = 1\n".to_owned(), ..plan })
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let session = Session::open(&scene.host, &attempt)?;
    all_rejected(&scene, &attempt, (429, "limit", "address_sessions"))?;
    scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    drop(session);
    scene.daemon.wait_for("the end", PATIENCE, |entry| {
        entry.says("ended") && entry.client() == Some(attempt.source)
    })?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn an_upstream_that_is_down_is_not_the_clients_fault() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/down").token(&scene.token()?);
    let rejection = all_rejected(&scene, &attempt, (502, "upstream", "unreachable"))?;
    ensure!(rejection.problem["retryable"] == true, "{rejection:#?}");
    ensure!(!rejection.answer.body.contains("127.0.0.1"), "the upstream's address stays in the log");
    scene.end()
}

fn a_rejected_client_never_reaches_the_upstream() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat");
    scene.rejects(Client::Raw, &attempt, (401, "credentials", "missing"))?;
    let narrow = scene.sign(good_token()?.claim("scope", "other"))?;
    scene.rejects(Client::Raw, &attempt.clone().token(&narrow), (403, "scope", "insufficient_scope"))?;
    // The admitted one comes last, so that what came before it has arrived if it was sent.
    scene.admits(Client::Raw, &attempt.token(&scene.token()?))?;
    scene.upstream.was_asked(1)?;
    scene.end()
}
