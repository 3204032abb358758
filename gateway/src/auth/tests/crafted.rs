//! Tokens that were crafted to be taken for good ones: each is refused, for exactly this reason.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::auth::bearer;

use Reason::{
    CredentialsAlgorithm as ALGORITHM, CredentialsBadSignature as SIGNATURE, CredentialsBound as BOUND,
    CredentialsMalformed as MALFORMED, CredentialsMissingClaim as MISSING, CredentialsMultiple as MULTIPLE,
    CredentialsNotYetValid as NOT_YET, CredentialsUnknownIssuer as ISSUER, CredentialsUnknownKey as KEY,
    CredentialsWrongAudience as AUDIENCE, CredentialsWrongType as TYPE, ExpiryExpired as EXPIRED,
    ScopeInsufficient as SCOPE,
};

/// A crafted token, by its name.
struct Crafted {
    name: String,
    token: Vec<u8>,
    reason: Reason,
}

#[derive(Default)]
struct Collection(Vec<Crafted>);

impl Collection {
    fn add(&mut self, name: impl Into<String>, token: impl Into<Vec<u8>>, reason: Reason) {
        self.0.push(Crafted { name: name.into(), token: token.into(), reason });
    }

    fn all() -> Self {
        let mut all = Self::default();
        all.unsigned();
        all.signatures();
        all.confused_keys();
        all.keys_of_their_own();
        all.key_ids();
        all.headers();
        all.shapes();
        all.encodings();
        all.json();
        all.dates();
        all.claims();
        all
    }

    fn unsigned(&mut self) {
        for name in ["none", "None", "nOnE", "NONE", "NoNe"] {
            let forge = Forge::good().header("alg", name);
            self.add(format!("alg {name} without a signature"), forge.unsigned(), ALGORITHM);
            self.add(format!("alg {name} with a good signature"), forge.token(), ALGORITHM);
        }
        for name in ["none ", "\u{0}none", "n\u{f6}ne", "", "null"] {
            let token = Forge::good().header("alg", name).unsigned();
            self.add(format!("alg {name:?}, which is not none"), token, ALGORITHM);
        }
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let token = Forge::new(algorithm).unsigned();
            self.add(format!("{algorithm:?} with its signature removed"), token, SIGNATURE);
        }
    }

    fn signatures(&mut self) {
        for (algorithm, length) in [
            (Algorithm::RS256, 256),
            (Algorithm::PS256, 256),
            (Algorithm::ES256, 64),
            (Algorithm::ES384, 96),
            (Algorithm::EdDSA, 64),
        ] {
            let token = Forge::new(algorithm).token();
            let with = |signature: &[u8]| with_signature(&token, signature);
            let good = signature(&token);
            assert_eq!(good.len(), length);
            let mut add = |what: &str, signature: &[u8]| {
                self.add(format!("{algorithm:?} signature {what}"), with(signature), SIGNATURE);
            };
            add("of zeroes", &vec![0; length]);
            add("of ones", &vec![255; length]);
            add("without its last byte", &good[..length - 1]);
            add("without its first byte", &good[1..]);
            add("with a byte more", &[good.as_slice(), &[0]].concat());
            add("with a zero before it", &[&[0], good.as_slice()].concat());
            add("of one byte", &[1]);
            add("twice", &[good.as_slice(), &good].concat());
            let (left, right) = good.split_at(length / 2);
            add("with its halves swapped", &[right, left].concat());
            let mut flipped = good.clone();
            flipped[length / 3] ^= 1;
            add("with one bit flipped", &flipped);
            add("of another token", &signature(&Forge::new(algorithm).claim("sub", "mallory").token()));
            let (header, rest) = token.split_once('.').unwrap();
            let _ = rest;
            let other = Forge::new(algorithm).claim("sub", "root").token();
            let claims = other.split('.').nth(1).unwrap();
            let swapped = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(&good));
            self.add(format!("{algorithm:?} signature under other claims"), swapped, SIGNATURE);
        }
        for (algorithm, half, order) in [
            (Algorithm::ES256, 32, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
            (
                Algorithm::ES384,
                48,
                "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
            ),
        ] {
            let token = Forge::new(algorithm).token();
            let good = signature(&token);
            let order = hex(order);
            let zero = vec![0; half];
            let one = [&zero[1..], &[1]].concat();
            for (what, pair) in [
                ("r = 0", [zero.as_slice(), &good[half..]].concat()),
                ("s = 0", [&good[..half], zero.as_slice()].concat()),
                ("r = n", [order.as_slice(), &good[half..]].concat()),
                ("s = n", [&good[..half], order.as_slice()].concat()),
                ("r = s = n", [order.as_slice(), &order].concat()),
                ("r = s = 1", [one.as_slice(), &one].concat()),
            ] {
                self.add(format!("{algorithm:?} with {what}"), with_signature(&token, &pair), SIGNATURE);
            }
            self.add(format!("{algorithm:?} in DER"), with_signature(&token, &der(&good)), SIGNATURE);
        }
        let token = Forge::good().token();
        let mut malleable = signature(&token);
        // s + L, which is the same number to whoever does not reduce it (RFC 8032 §5.1.7).
        add_order(&mut malleable[32..]);
        self.add("EdDSA with s + L", with_signature(&token, &malleable), SIGNATURE);
        let mut small = vec![0; 64];
        small[0] = 1;
        self.add("EdDSA with R of small order and s = 0", with_signature(&token, &small), SIGNATURE);
        self.add(
            "ES256 signed by the P-384 key",
            Forge::new(Algorithm::ES256).signed_by(Signer::P384),
            SIGNATURE,
        );
        self.add(
            "ES384 signed by the P-256 key",
            Forge::new(Algorithm::ES384).signed_by(Signer::P256),
            SIGNATURE,
        );
        let pss = Forge::new(Algorithm::PS256);
        self.add(
            "PS256 with a signature by RS256",
            {
                let rs = Forge::new(Algorithm::RS256).header("alg", "PS256");
                rs.signed_by(Signer::Rsa)
            },
            SIGNATURE,
        );
        self.add(
            "RS256 with a signature by PS256",
            pss.header("alg", "RS256").signed_by(Signer::Rsa),
            SIGNATURE,
        );
    }

    fn confused_keys(&mut self) {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for signer in Signer::ALL {
                let forge = Forge::new(algorithm).header("kid", signer.id());
                let pem = signer.public_pem();
                let token = forge.hmac(pem.as_bytes());
                self.add(
                    format!("{algorithm:?} with the PEM of {} as secret", signer.id()),
                    token,
                    ALGORITHM,
                );
                let der = pem::parse(&pem).unwrap().into_contents();
                self.add(
                    format!("{algorithm:?} with the DER of {} as secret", signer.id()),
                    forge.hmac(&der),
                    ALGORITHM,
                );
            }
        }
        self.add("HS256 with an empty secret", Forge::new(Algorithm::HS256).hmac(b""), ALGORITHM);
        self.add(
            "HS256 with the JWK as secret",
            Forge::new(Algorithm::HS256).hmac(Signer::Rsa.jwk().as_bytes()),
            ALGORITHM,
        );
    }

    fn keys_of_their_own(&mut self) {
        let members = Signer::Ed25519.members();
        let spoofed = Forge::good().header("kid", "mine");
        for (name, value) in [
            ("jwk", members.clone()),
            ("jku", json!("https://evil.example/jwks.json")),
            ("jku", json!("file:///etc/passwd")),
            ("x5u", json!("https://evil.example/chain.pem")),
            ("x5c", json!(["MIIB"])),
            ("x5t#S256", json!("AAAA")),
        ] {
            let what = format!("a key of its own in {name} {value}").chars().take(60).collect::<String>();
            self.add(what, spoofed.clone().header(name, value).token(), KEY);
        }
        let foreign = Forge::new(Algorithm::ES256).header("kid", "rsa").header("jwk", Signer::P256.members());
        self.add("an embedded key under the name of another", foreign.token(), KEY);
    }

    fn key_ids(&mut self) {
        for id in [
            "../../../../dev/null",
            "/etc/passwd",
            "rsa\u{0}",
            "ed25519\u{0}.pem",
            "' UNION SELECT 'secret' --",
            "\"; DROP TABLE keys; --",
            "$(id)",
            "%2e%2e%2f",
            "ED25519",
            " ed25519",
            "",
            "*",
            "\r\nX-Injected: 1",
        ] {
            self.add(format!("kid {id:?}"), Forge::good().header("kid", id).token(), KEY);
        }
        for (what, id) in [
            ("a number", json!(1)),
            ("null", json!(null)),
            ("a list", json!(["ed25519"])),
            ("an object", json!({})),
            ("true", json!(true)),
        ] {
            self.add(format!("kid is {what}"), Forge::good().header("kid", id).token(), MALFORMED);
        }
        self.add("kid of 8 KiB", Forge::good().header("kid", "k".repeat(8192)).token(), KEY);
    }

    fn headers(&mut self) {
        for (what, crit) in [
            ("b64", json!(["b64"])),
            ("exp", json!(["exp"])),
            ("an unknown name", json!(["urn:example"])),
            ("nothing", json!([])),
            ("null", json!(null)),
            ("a string", json!("b64")),
        ] {
            let forge = Forge::good().header("crit", crit).header("b64", false);
            self.add(format!("crit with {what}"), forge.token(), MALFORMED);
        }
        for (what, algorithm) in [
            ("a number", json!(256)),
            ("a list", json!(["EdDSA"])),
            ("null", json!(null)),
            ("an object", json!({})),
        ] {
            self.add(format!("alg is {what}"), Forge::good().header("alg", algorithm).token(), MALFORMED);
        }
        self.add("no alg", Forge::good().without_header("alg").token(), MALFORMED);
        for name in [
            "eddsa",
            "EDDSA",
            "EdDSA ",
            "Ed25519\u{0}",
            "Ed448",
            "ES256K",
            "ES512",
            "HS1",
            "RSA-OAEP",
            "dir",
            "A256GCM",
            "RS1",
            "rs256",
        ] {
            self.add(format!("alg {name:?}"), Forge::good().header("alg", name).token(), ALGORITHM);
        }
        for (what, typ) in [
            ("JWT", json!("JWT")),
            ("an ID token", json!("id+jwt")),
            ("logout", json!("logout+jwt")),
            ("dpop", json!("dpop+jwt")),
            ("empty", json!("")),
        ] {
            self.add(format!("typ {what}"), Forge::good().header("typ", typ).token(), TYPE);
        }
        self.add("no typ", Forge::good().without_header("typ").token(), TYPE);
        self.add("typ is a list", Forge::good().header("typ", json!(["at+jwt"])).token(), MALFORMED);
        self.add(
            "ALG in capitals",
            Forge::good().without_header("alg").header("ALG", "EdDSA").token(),
            MALFORMED,
        );
    }

    fn shapes(&mut self) {
        let good = Forge::good().token();
        let parts: Vec<&str> = good.split('.').collect();
        let [header, claims, signature] = parts.try_into().unwrap();
        for (what, token) in [
            ("one part", header.to_owned()),
            ("two parts", format!("{header}.{claims}")),
            ("four parts", format!("{good}.{signature}")),
            ("five parts, as JWE", format!("{good}.{signature}.{signature}")),
            ("two dots alone", "..".to_owned()),
            ("no header", format!(".{claims}.{signature}")),
            ("no claims", format!("{header}..{signature}")),
            ("a dot before it", format!(".{good}")),
            ("a dot behind it", format!("{good}.")),
            ("its parts in another order", format!("{claims}.{header}.{signature}")),
        ] {
            self.add(what, token, MALFORMED);
        }
        let nested = Forge::good().header("cty", "JWT");
        self.add("a JWT in a JWT", raw_bytes(nested.header_json().as_bytes(), good.as_bytes()), MALFORMED);
        for (what, token) in [
            ("white space inside", format!("{header}. {claims}.{signature}")),
            ("a tab inside", format!("{header}.\t{claims}.{signature}")),
            ("a line feed inside", format!("{header}.\r\n{claims}.{signature}")),
            ("a NUL inside", format!("{header}.\u{0}{claims}.{signature}")),
            ("quotes around it", format!("\"{good}\"")),
            ("a semicolon behind it", format!("{good};")),
            ("percent-encoding", good.replacen('.', "%2E", 1)),
            ("letters that only look like dots", good.replacen('.', "\u{2024}", 1)),
        ] {
            self.add(what, token, MALFORMED);
        }
        self.add("two tokens with a comma", format!("{good},{good}"), MULTIPLE);
        self.add("1 MiB", "a".repeat(1 << 20), MALFORMED);
        self.add("1 MiB of dots", ".".repeat(1 << 20), MALFORMED);
        self.add("bytes that are no UTF-8", [good.as_bytes(), &[0xff, 0xfe]].concat(), MALFORMED);
    }

    fn encodings(&mut self) {
        let good = Forge::good().claim("x", "\u{fb}\u{ff}\u{fe}??>>").token();
        let parts: Vec<&str> = good.split('.').collect();
        let [header, claims, signature] = parts.try_into().unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let standard = STANDARD.encode(&bytes);
        assert!(standard.contains(['+', '/']), "the alphabets differ");
        self.add("claims in the standard alphabet", format!("{header}.{standard}.{signature}"), MALFORMED);
        let padded = URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
        self.add("a padded signature", format!("{header}.{claims}.{padded}"), MALFORMED);
        self.add("a padded header", format!("{header}==.{claims}.{signature}"), MALFORMED);
        let last = signature.chars().last().unwrap();
        let twin = char::from_u32(u32::from(last) + 1).unwrap();
        let twin = format!("{header}.{claims}.{}{twin}", &signature[..signature.len() - 1]);
        self.add("a signature with bits that count for nothing", twin, MALFORMED);
        self.add("a signature of a single character", format!("{header}.{claims}.A"), MALFORMED);
    }

    fn json(&mut self) {
        let forge = Forge::good();
        let (header, claims) = (forge.header_json(), forge.claims_json());
        let within = |json: &str, member: &str| format!("{},{member}}}", json.strip_suffix('}').unwrap());
        for member in [
            r#""sub":"admin""#,
            r#""exp":99999999999"#,
            r#""s\u0075b":"admin""#,
            r#""a":{"b":1,"b":2}"#,
            r#""a":[{"b":{"c":1,"\u0063":1}}]"#,
        ] {
            let text = within(&claims, member);
            self.add(
                format!("claims with {member} twice"),
                raw_bytes(header.as_bytes(), text.as_bytes()),
                MALFORMED,
            );
        }
        for member in [r#""alg":"none""#, r#""kid":"rsa""#, r#""typ":"at+jwt""#] {
            let text = within(&header, member);
            self.add(
                format!("a header with {member} twice"),
                raw_bytes(text.as_bytes(), claims.as_bytes()),
                MALFORMED,
            );
        }
        let deep = |count: usize| format!("{{\"a\":{}1{}}}", "[".repeat(count), "]".repeat(count));
        let objects = format!("{}1{}", "{\"a\":".repeat(2000), "}".repeat(2000));
        for (what, text) in [
            ("nothing", String::new()),
            ("a list", "[]".to_owned()),
            ("a number", "1".to_owned()),
            ("null", "null".to_owned()),
            ("half an object", "{".to_owned()),
            ("an object and more", "{}x".to_owned()),
            ("a trailing comma", "{\"a\":1,}".to_owned()),
            ("a comment", "{/**/}".to_owned()),
            ("single quotes", "{'a':1}".to_owned()),
            ("NaN", "{\"exp\":NaN}".to_owned()),
            ("a number without end", "{\"exp\":1e999}".to_owned()),
            ("a byte order mark", "\u{feff}{}".to_owned()),
            ("2000 lists in each other", deep(2000)),
            ("2000 objects in each other", objects),
            ("a lone surrogate", r#"{"a":"\ud800"}"#.to_owned()),
            ("a raw control character", "{\"a\":\"\u{1}\"}".to_owned()),
        ] {
            self.add(format!("claims of {what}"), raw_bytes(header.as_bytes(), text.as_bytes()), MALFORMED);
            self.add(format!("a header of {what}"), raw_bytes(text.as_bytes(), claims.as_bytes()), MALFORMED);
        }
        let broken = [b"{\"sub\":\"", [0xff, 0xfe].as_slice(), b"\"}"].concat();
        self.add("claims that are no UTF-8", raw_bytes(header.as_bytes(), &broken), MALFORMED);
        self.add("a header that is no UTF-8", raw_bytes(&broken, claims.as_bytes()), MALFORMED);
        self.add("claims in UTF-16", raw_bytes(header.as_bytes(), &utf16(&claims)), MALFORMED);
    }

    fn dates(&mut self) {
        for name in ["exp", "nbf", "iat"] {
            for (what, value) in [
                ("a string", json!((NOW + 600).to_string())),
                ("true", json!(true)),
                ("null", json!(null)),
                ("a list", json!([NOW + 600])),
                ("an object", json!({})),
                ("negative", json!(-1)),
                ("beyond all years", json!(u64::MAX)),
                ("1e300", json!(1e300)),
                ("in milliseconds", json!((NOW + 600) * 1000)),
            ] {
                self.add(format!("{name} is {what}"), Forge::good().claim(name, value).token(), MALFORMED);
            }
        }
        for (what, value, reason) in [
            ("exp now, less the leeway", json!(NOW - LEEWAY), EXPIRED),
            ("exp a fraction before the end of the leeway", json!((NOW - LEEWAY) as f64 + 0.9), EXPIRED),
            ("exp 0", json!(0), EXPIRED),
        ] {
            self.add(what, Forge::good().claim("exp", value).token(), reason);
        }
        self.add("nbf after the leeway", Forge::good().claim("nbf", NOW + LEEWAY + 1).token(), NOT_YET);
        self.add(
            "nbf a fraction after the leeway",
            Forge::good().claim("nbf", (NOW + LEEWAY) as f64 + 0.1).token(),
            NOT_YET,
        );
        self.add("iat after the leeway", Forge::good().claim("iat", NOW + LEEWAY + 1).token(), NOT_YET);
    }

    fn claims(&mut self) {
        for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
            self.add(format!("no {name}"), Forge::good().without(name).token(), MISSING);
        }
        self.add("an empty sub", Forge::good().claim("sub", "").token(), MISSING);
        for name in ["iss", "sub", "jti", "client_id"] {
            for (what, value) in [
                ("a number", json!(1)),
                ("a list", json!(["alice"])),
                ("an object", json!({})),
                ("null", json!(null)),
            ] {
                self.add(format!("{name} is {what}"), Forge::good().claim(name, value).token(), MALFORMED);
            }
        }
        for (what, value) in [
            ("an object", json!({"a": 1})),
            ("a number", json!(1)),
            ("a list with a number", json!(["gate", 1])),
            ("null", json!(null)),
        ] {
            self.add(format!("aud is {what}"), Forge::good().claim("aud", value).token(), MALFORMED);
        }
        for (what, value) in [
            ("another", json!("https://other.example")),
            ("one with a slash more", json!("https://gw.example/")),
            ("one in capitals", json!("https://GW.example")),
            ("none at all", json!([])),
            ("several others", json!(["a", "b"])),
            ("a part of it", json!("https://gw")),
            ("both in one string", json!("https://gw.example gate")),
        ] {
            self.add(format!("aud is {what}"), Forge::good().claim("aud", value).token(), AUDIENCE);
        }
        for issuer in [
            "https://idp.example/",
            "https://IDP.example",
            "https://idp.example\u{0}",
            "https://evil.example",
            "",
            "https://idp.example@evil.example",
        ] {
            self.add(format!("iss {issuer:?}"), Forge::good().claim("iss", issuer).token(), ISSUER);
        }
        self.add("sub with a control character", Forge::good().claim("sub", "a\r\nb").token(), MALFORMED);
        self.add("sub of 2 KiB", Forge::good().claim("sub", "a".repeat(2048)).token(), MALFORMED);
        for (what, value) in [
            ("jkt", json!({"jkt": "x"})),
            ("x5t#S256", json!({"x5t#S256": "x"})),
            ("nothing", json!({})),
            ("null", json!(null)),
        ] {
            self.add(format!("cnf with {what}"), Forge::good().claim("cnf", value).token(), BOUND);
        }
        for (what, value) in [
            ("none", json!("")),
            ("another", json!("chat:write")),
            ("a longer one", json!("chat:reader")),
            ("one with a comma", json!("chat:read,chat:write")),
            ("one in capitals", json!("CHAT:READ")),
            ("one with a tab", json!("chat:read\tx")),
        ] {
            self.add(format!("scope is {what}"), Forge::good().claim("scope", value).token(), SCOPE);
        }
        for (what, value) in [
            ("a number", json!(1)),
            ("null", json!(null)),
            ("an object", json!({"chat:read": true})),
            ("a list with a number", json!(["chat:read", 1])),
        ] {
            self.add(format!("scope is {what}"), Forge::good().claim("scope", value).token(), MALFORMED);
        }
    }
}

fn signature(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}

fn with_signature(token: &str, signature: &[u8]) -> String {
    format!("{}.{}", token.rsplit_once('.').unwrap().0, URL_SAFE_NO_PAD.encode(signature))
}

/// A token of these bytes, whatever they are, with a good Ed25519 signature.
fn raw_bytes(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = Signer::Ed25519.sign(Algorithm::EdDSA, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The two numbers of a signature as ASN.1 has them (RFC 3279 §2.2.3).
fn der(signature: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let mut bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        if bytes[0] & 0x80 != 0 {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    let both = [number(r), number(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

/// Adds the order of the base point of Ed25519 to a number with its lowest byte first.
fn add_order(number: &mut [u8]) {
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for (byte, other) in number.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(other) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn each_crafted_token_is_refused_for_exactly_its_reason() {
    let all = Collection::all().0;
    assert!(all.len() >= 150, "only {} tokens", all.len());
    let names: HashSet<&str> = all.iter().map(|crafted| crafted.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two have the same name");
    assert!(judge(&gate(), &Forge::good().token()).is_ok(), "what they were made from is good");
    for Crafted { name, token, reason } in &all {
        let header = [b"Bearer ", token.as_slice()].concat();
        let outcome = bearer([header.as_slice()]).and_then(|token| {
            let outcome = gate().judge(&token, now());
            let explained = gate().explain(&token, now()).outcome;
            assert_eq!(format!("{outcome:?}"), format!("{explained:?}"), "{name}");
            outcome
        });
        let rejection = outcome.expect_err(name);
        assert_eq!(rejection.reason, *reason, "{name}: {rejection:?}");
        // What the client is told repeats nothing that could be the token.
        let detail = rejection.detail.unwrap_or_default();
        for part in token.split(|byte| *byte == b'.').filter(|part| part.len() > 8) {
            assert!(!detail.contains(&*String::from_utf8_lossy(part)), "{name}: {detail}");
        }
    }
}

#[test]
fn two_authorization_headers_are_refused_even_when_both_are_good() {
    let header = format!("Bearer {}", Forge::good().token());
    let rejection = bearer([header.as_bytes(), header.as_bytes()]).unwrap_err();
    assert_eq!(rejection.reason, MULTIPLE);
}

#[test]
fn value_types_of_json_are_kept_apart() {
    // The strict reader must give what the lenient one gives.
    let text = r#"{"a":[1,-2,3.5,true,null,"x",{"b":[]}],"c":18446744073709551615,"d":{"e":{}}}"#;
    let token = Token::parse(raw_bytes(text.as_bytes(), text.as_bytes()).as_bytes()).unwrap();
    let contents = gate().explain(&token, now()).contents.unwrap();
    assert_eq!(Value::from(contents.claims), serde_json::from_str::<Value>(text).unwrap());
}
