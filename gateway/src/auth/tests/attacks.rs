//! Forgeries that have worked against others.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::forge::raw;
use super::*;

const EVERYTHING: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Accepts every algorithm, so that only the binding of keys to algorithms protects it.
fn careless(entries: &[String]) -> Requirement {
    let mut rules = rules();
    rules.algorithms = EVERYTHING.to_vec();
    requirement(vec![Issuer::new(rules, keys(entries))], &[])
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling_of_none() {
    for name in ["none", "None", "nOnE", "NONE"] {
        for token in [Forge::good().header("alg", name).unsigned(), Forge::good().header("alg", name).token()]
        {
            let rejection = rejected(&gate(), &token, Reason::CredentialsAlgorithm);
            assert!(rejection.detail.unwrap().contains("not signed"));
        }
    }
    // The signature removed, the algorithm kept.
    rejected(&gate(), &Forge::good().unsigned(), Reason::CredentialsBadSignature);
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let gates = [gate(), careless(&Signer::ALL.map(Signer::jwk))];
    for signer in Signer::ALL {
        let pem = signer.public_pem();
        let texts = [pem.clone(), pem.trim_end().to_owned(), Signer::rsa_pkcs1_pem(), signer.jwk()];
        for secret in texts.iter().map(String::as_bytes).chain([pem::parse(&pem).unwrap().contents()]) {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let forge = Forge::new(algorithm);
                rejected(&gates[0], &forge.hmac(secret), Reason::CredentialsAlgorithm);
                for forge in [forge.clone(), forge.header("kid", signer.id())] {
                    rejected(&gates[1], &forge.hmac(secret), Reason::CredentialsUnknownKey);
                }
            }
        }
    }
}

#[test]
fn a_key_id_of_another_kind_of_key_does_not_lead_to_that_key() {
    let gate = careless(&Signer::ALL.map(Signer::jwk));
    for algorithm in EVERYTHING {
        for signer in Signer::ALL
            .into_iter()
            .filter(|signer| Signer::of(algorithm).map(Signer::id) != Some(signer.id()))
        {
            let token = Forge::new(algorithm).header("kid", signer.id()).token();
            rejected(&gate, &token, Reason::CredentialsUnknownKey);
        }
    }
}

#[test]
fn a_key_that_names_its_algorithm_verifies_no_other() {
    let mut jwk = Signer::Rsa.members();
    jwk["alg"] = "RS256".into();
    let gate = careless(&[jwk.to_string()]);
    assert!(judge(&gate, &Forge::new(Algorithm::RS256).token()).is_ok());
    for algorithm in [Algorithm::RS384, Algorithm::PS256] {
        rejected(&gate, &Forge::new(algorithm).token(), Reason::CredentialsUnknownKey);
    }
}

#[test]
fn a_signature_of_another_algorithm_of_the_same_key_is_wrong() {
    let gate = careless(&[Signer::Rsa.jwk()]);
    let token = Forge::new(Algorithm::RS256).header("alg", "PS256").signed_by(Signer::Rsa);
    rejected(&gate, &token, Reason::CredentialsBadSignature);
}

#[test]
fn a_key_that_the_token_brings_along_is_not_used() {
    let members = Signer::P384.members();
    let forge = Forge::new(Algorithm::ES384)
        .header("kid", Signer::P256.id())
        .header("jwk", members)
        .header("jku", "https://evil.example/jwks.json")
        .header("x5u", "https://evil.example/cert.pem")
        .header("x5c", json!(["AAAA"]));
    let gate = careless(&[Signer::P256.jwk()]);
    rejected(&gate, &forge.token(), Reason::CredentialsUnknownKey);
    // They do no harm to a token that is good without them.
    let good = Forge::new(Algorithm::ES256).header("jku", "https://evil.example/jwks.json");
    assert!(judge(&gate, &good.token()).is_ok());
}

#[test]
fn extensions_that_must_be_understood_are_refused_even_when_the_list_is_empty() {
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("b64")] {
        rejected(&gate(), &Forge::good().header("crit", crit).token(), Reason::CredentialsMalformed);
    }
}

#[test]
fn a_member_that_is_there_twice_is_malformed() {
    let good = Forge::good();
    let twice = |json: String, member: &str| format!("{},{member}}}", json.strip_suffix('}').unwrap());
    let (header, claims) = (good.header_json(), good.claims_json());
    assert!(judge(&gate(), &raw(&header, &claims)).is_ok());
    for member in [r#""sub":"admin""#, r#""exp":99999999999"#, r#""s\u0075b":"admin""#, r#""jti":"id-1""#] {
        rejected(&gate(), &raw(&header, &twice(claims.clone(), member)), Reason::CredentialsMalformed);
    }
    for member in [r#""alg":"none""#, r#""kid":"rsa""#, r#""typ":"at+jwt""#] {
        rejected(&gate(), &raw(&twice(header.clone(), member), &claims), Reason::CredentialsMalformed);
    }
}

#[test]
fn what_is_not_a_json_object_is_malformed() {
    let good = Forge::good();
    let (header, claims) = (good.header_json(), good.claims_json());
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for broken in
        ["", "[]", "1", "null", "\"a\"", "{", "{}x", "{\"a\":1,}", "{\"exp\":1e999}", "\u{feff}{}", &deep]
    {
        rejected(&gate(), &raw(broken, &claims), Reason::CredentialsMalformed);
        rejected(&gate(), &raw(&header, broken), Reason::CredentialsMalformed);
    }
    rejected(&gate(), &raw(&header, &format!("{claims}{claims}")), Reason::CredentialsMalformed);
    rejected(&gate(), &raw("{}", &claims), Reason::CredentialsMalformed);
    rejected(&gate(), &raw(r#"{"alg":1}"#, &claims), Reason::CredentialsMalformed);
    rejected(&gate(), &raw(r#"{"alg":"EdDSA","kid":1}"#, &claims), Reason::CredentialsMalformed);
}

#[test]
fn only_one_spelling_of_a_token_is_accepted() {
    let token = Forge::good().token();
    assert!(judge(&gate(), &token).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    let padded = format!("{}=", parts[2]);
    rejected(&gate(), &format!("{}.{}.{padded}", parts[0], parts[1]), Reason::CredentialsMalformed);
    rejected(&gate(), &format!("{}=.{}.{}", parts[0], parts[1], parts[2]), Reason::CredentialsMalformed);
    rejected(&gate(), &format!("{token}."), Reason::CredentialsMalformed);
    rejected(&gate(), &format!(".{token}"), Reason::CredentialsMalformed);
    rejected(&gate(), &format!("{}.{}.{}/", parts[0], parts[1], parts[2]), Reason::CredentialsMalformed);
    for token in
        [format!("{token} "), format!("{token}\n"), format!("{}. {}.{}", parts[0], parts[1], parts[2])]
    {
        assert_eq!(Token::parse(token.as_bytes()).unwrap_err().reason, Reason::CredentialsMalformed);
    }
    // 64 bytes of signature end in a character of which four bits count for nothing.
    let last = parts[2].chars().last().unwrap();
    let twin = char::from_u32(u32::from(last) + 1).unwrap();
    let twin = format!("{}.{}.{}{twin}", parts[0], parts[1], &parts[2][..parts[2].len() - 1]);
    assert_eq!(judge(&gate(), &twin).unwrap_err().reason, Reason::CredentialsMalformed);
}

#[test]
fn an_unknown_algorithm_is_refused_and_its_name_is_not_sent_back() {
    for name in ["ES512", "eddsa", "EdDSA ", "HS1", "", "RSA-OAEP", "<script>"] {
        let rejection =
            rejected(&gate(), &Forge::good().header("alg", name).token(), Reason::CredentialsAlgorithm);
        assert!(rejection.detail.is_none());
    }
}

#[test]
fn ecdsa_signatures_of_zero_or_of_another_form_are_wrong() {
    // All zero (CVE-2022-21449), DER instead of two numbers, and too short.
    let token = Forge::new(Algorithm::ES256).token();
    let (message, _) = token.rsplit_once('.').unwrap();
    for signature in ["A".repeat(86), "MEUCIQAA".to_owned(), "A".repeat(4), String::new()] {
        rejected(&gate(), &format!("{message}.{signature}"), Reason::CredentialsBadSignature);
    }
}

#[test]
fn a_token_without_a_key_id_costs_a_bounded_number_of_signature_checks() {
    // Each entry is the same key without a name: the set is legal, and a token with a wrong
    // signature would be checked against all of them.
    let entries = vec![Signer::P256.members().to_string(); 100];
    let gate = careless(&entries);
    assert!(judge(&gate, &Forge::new(Algorithm::ES256).token()).is_ok());
    let token = Forge::new(Algorithm::ES256).token();
    let (message, _) = token.rsplit_once('.').unwrap();
    let rejection =
        rejected(&gate, &format!("{message}.{}", "A".repeat(86)), Reason::CredentialsBadSignature);
    assert!(rejection.note.unwrap().contains("16 of the issuer's 100 keys"));
}

#[test]
fn nothing_secret_of_a_token_is_in_its_rejection() {
    let token = Forge::good().claim("password", "hunter2hunter2").claim("exp", 1).token();
    let signature = token.rsplit_once('.').unwrap().1.to_owned();
    let rejection = format!("{:?}", judge(&gate(), &token).unwrap_err());
    assert!(!rejection.contains("hunter2") && !rejection.contains(&signature) && !rejection.contains(&token));
}

#[test]
fn text_of_a_stranger_is_short_and_escaped_in_a_note() {
    let long = format!("a\nMESSAGE=forged {}", "x".repeat(4000));
    for forge in [Forge::good().claim("iss", long.clone()), Forge::good().header("kid", long.clone())] {
        let rejection = judge(&gate(), &forge.token()).unwrap_err();
        let note = rejection.note.unwrap();
        assert!(!note.contains('\n') && note.len() < 300, "{note}");
    }
}
