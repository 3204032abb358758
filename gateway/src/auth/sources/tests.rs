//! Promises of finding and taking out a token.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::config::SUBPROTOCOL_PREFIX;

/// Part of every token here.
const MARK: &str = "SECRET";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Request {
    headers: Headers,
    protocols: Vec<String>,
    query: Option<String>,
    has_origin: bool,
}

impl Request {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    fn protocols(mut self, value: &str) -> Self {
        self.protocols.extend(value.split(',').map(|one| one.trim().to_owned()));
        self.header("sec-websocket-protocol", value)
    }

    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    fn of_a_page(mut self) -> Self {
        self.has_origin = true;
        self.header("origin", "https://app.test")
    }

    fn take(&mut self, sources: &TokenSources) -> Judged<Option<(Source, Presented)>> {
        let Self { headers, protocols, query, has_origin } = self;
        take(Carriers { headers, protocols, query, has_origin: *has_origin }, sources)
    }

    fn holds(&self, text: &str) -> bool {
        let values = self.headers.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        values.chain(self.protocols.iter().cloned()).chain(self.query.clone()).any(|part| part.contains(text))
    }
}

fn all() -> TokenSources {
    TokenSources { cookie: Some("token".to_owned()), tickets: true, query: true, ..TokenSources::default() }
}

fn entry(token: &str) -> String {
    format!("{SUBPROTOCOL_PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

/// Where the token was found, the token, and what is left of the request.
fn found(mut request: Request) -> (Source, String, Request) {
    let (source, presented) = request.take(&all()).expect("good").expect("a token");
    let token = match &presented {
        Presented::Token(token) => token.as_str().to_owned(),
        Presented::Ticket(ticket) => ticket.reveal().to_owned(),
    };
    assert!(!format!("{presented:?}").contains(&token), "{presented:?}");
    (source, token, request)
}

fn refused(mut request: Request) -> Rejection {
    let rejection = *request.take(&all()).expect_err("a fault");
    assert!(!format!("{rejection:?}").contains(MARK), "{rejection:?}");
    assert!(!request.holds(MARK), "it is left in {request:?}");
    rejection
}

#[test]
fn each_enabled_place_has_its_token_and_nothing_of_it_is_left() {
    let bare = Request::default;
    for (request, source, left) in [
        (bare().header("authorization", "Bearer SECRET"), Source::Authorization, bare()),
        (
            bare().protocols(&format!("v2, {}, v1", entry(MARK))),
            Source::Subprotocol,
            bare().protocols("v2, v1"),
        ),
        (
            bare().of_a_page().header("cookie", "a=\"1\"; token=SECRET;b=2"),
            Source::Cookie,
            bare().of_a_page().header("cookie", "a=\"1\";b=2"),
        ),
        (bare().query("a=1&ticket=SECRET"), Source::Ticket, bare().query("a=1")),
        (bare().query("access_token=SECRET&a=%20&&b"), Source::Query, bare().query("a=%20&&b")),
    ] {
        let (own, token, rest) = found(request);
        assert_eq!((own, token.as_str()), (source, MARK));
        assert_eq!(rest, left);
    }
}

#[test]
fn padding_of_a_token_among_the_subprotocols_is_tolerated_and_elsewhere_it_is_not() {
    let padded = format!("{SUBPROTOCOL_PREFIX}{}", URL_SAFE.encode("SECRET2"));
    assert!(padded.ends_with("=="));
    let (_, token, rest) = found(Request::default().protocols(&format!("{padded},v1")));
    assert_eq!((token.as_str(), rest.protocols), ("SECRET2", vec!["v1".to_owned()]));
    assert_eq!(refused(Request::default().protocols("v1=")).reason, Reason::HandshakeMalformed);
    let off = TokenSources { subprotocol_prefix: None, ..all() };
    let rejection = Request::default().protocols(&format!("{padded}, v1")).take(&off).expect_err("no token");
    assert_eq!(rejection.reason, Reason::HandshakeMalformed);
}

#[test]
fn a_token_among_the_subprotocols_is_base64url_of_a_bearer_token() {
    for wrong in
        ["", "U0VDUkVU!", "U0VDUkVU=A", "U0VD+kVU", "U0VDUkVUB", &URL_SAFE_NO_PAD.encode("SECRET SECRET")]
    {
        let rejection = refused(Request::default().protocols(&format!("{SUBPROTOCOL_PREFIX}{wrong}, v1")));
        assert_eq!(rejection.reason, Reason::CredentialsMalformed, "{wrong}");
        assert_eq!(rejection.source, Some(Source::Subprotocol));
    }
}

#[test]
fn a_token_needs_a_subprotocol_beside_it_that_can_be_selected() {
    let rejection = refused(Request::default().protocols(&entry(MARK)));
    assert_eq!(rejection.reason, Reason::HandshakeSubprotocol);
    // The handshake is judged before the credentials.
    let two = format!("{}, {}", entry(MARK), entry(MARK));
    assert_eq!(refused(Request::default().protocols(&two)).reason, Reason::HandshakeSubprotocol);
}

#[test]
fn two_tokens_are_refused_whatever_two_places_they_stand_in() {
    type Put = fn(Request) -> Request;
    let places: [(&str, Put); 5] = [
        ("Authorization header", |request| request.header("authorization", "Bearer SECRET")),
        ("Sec-WebSocket-Protocol", |request| request.protocols(&format!("v1, {}", entry(MARK)))),
        ("a cookie", |request| request.header("cookie", "x=y; token=SECRET")),
        ("the query parameter ticket", |request| add(request, "ticket=SECRET")),
        ("the query parameter access_token", |request| add(request, "access_token=SECRET")),
    ];
    fn add(mut request: Request, parameter: &str) -> Request {
        let query = request.query.take().map_or(parameter.to_owned(), |query| format!("{query}&{parameter}"));
        request.query(&query)
    }
    for (one, put_one) in &places {
        for (other, put_other) in &places {
            let rejection = refused(put_other(put_one(Request::default().of_a_page())));
            assert_eq!(rejection.reason, Reason::CredentialsMultiple, "{one} and {other}");
            let detail = rejection.detail.unwrap_or_default();
            assert!(detail.contains(one) && detail.contains(other), "{one} and {other}: {detail}");
        }
    }
}

#[test]
fn a_second_token_that_is_none_is_still_a_second_one() {
    let request = Request::default().header("authorization", "Bearer SECRET").query("access_token=");
    assert_eq!(refused(request).reason, Reason::CredentialsMultiple);
    let cookies = "token=SECRET; token=".to_owned();
    let request = Request::default().of_a_page().header("cookie", &cookies);
    assert_eq!(refused(request).reason, Reason::CredentialsMultiple);
}

#[test]
fn a_cookie_does_not_count_in_a_request_that_names_no_page() {
    let rejection = refused(Request::default().header("cookie", "token=SECRET"));
    assert_eq!((rejection.reason, rejection.source), (Reason::CredentialsMissing, Some(Source::Cookie)));
    assert!(rejection.detail.unwrap_or_default().contains("Origin"));
}

#[test]
fn cookies_are_found_however_they_are_written_and_only_by_their_whole_name() {
    for written in ["token=SECRET", "token = SECRET ", "a=1;token=\"SECRET\"", "a;;token=SECRET;"] {
        let (source, token, rest) = found(Request::default().of_a_page().header("cookie", written));
        assert_eq!((source, token.as_str()), (Source::Cookie, MARK), "{written}");
        assert!(!rest.holds(MARK));
    }
    for other in ["Token=SECRET", "xtoken=SECRET", "token2=SECRET", "a=token=SECRET", "a=\"token\""] {
        let mut request = Request::default().of_a_page().header("cookie", other);
        let before = request.clone();
        assert!(request.take(&all()).expect("no fault").is_none(), "{other}");
        assert_eq!(request, before);
    }
}

#[test]
fn a_parameter_is_found_however_its_name_is_encoded() {
    for query in
        ["access_token=SECRET", "access%5ftoken=S%45CRET", "%61ccess_token=SECRET&", "&access_token=SECRET"]
    {
        let (source, token, rest) = found(Request::default().query(query));
        assert_eq!((source, token.as_str()), (Source::Query, MARK), "{query}");
        assert!(rest.query.is_none(), "{rest:?}");
    }
    assert_eq!(found(Request::default().query("access_token=a+b/c%2B==")).1, "a+b/c+==");
    for other in ["Access_token=x", "access-token=x", "xaccess_token=x", "a=access_token=x", "", "tickets=x"]
    {
        let mut request = Request::default().query(other);
        let before = request.clone();
        assert!(request.take(&all()).expect("no fault").is_none(), "{other}");
        assert_eq!(request, before);
    }
}

#[test]
fn what_is_not_enabled_is_neither_read_nor_touched() {
    let mut request = Request::default()
        .of_a_page()
        .header("cookie", "token=SECRET; token=SECRET")
        .protocols(&entry(MARK))
        .query("ticket=SECRET&access_token=SECRET");
    let before = request.clone();
    let none = TokenSources { subprotocol_prefix: None, ..TokenSources::default() };
    assert!(request.take(&none).expect("nothing to refuse").is_none());
    assert_eq!(request, before);
}

#[test]
fn another_scheme_is_no_token_and_says_so_unless_the_token_stands_elsewhere() {
    let basic = || Request::default().header("authorization", "Basic SECRET");
    let rejection = refused(basic());
    assert_eq!(rejection.reason, Reason::CredentialsMissing);
    assert!(rejection.detail.is_some());
    assert_eq!(found(basic().query("access_token=a.b")).0, Source::Query);
    let waiting = TokenSources { first_message: true, ..all() };
    assert!(basic().take(&waiting).expect("no fault").is_none(), "the first message may have one");
}

#[test]
fn a_missing_token_is_told_where_it_could_be() {
    let detail = |sources| missing(sources).detail.unwrap_or_default();
    let only = TokenSources { subprotocol_prefix: None, ..TokenSources::default() };
    assert_eq!(detail(&only), "The request has no token. This route takes one in the Authorization header.");
    let more = detail(&TokenSources { first_message: true, ..all() });
    assert!(more.ends_with("the query parameter access_token or the first message."), "{more}");
    assert!(!more.contains(" token;"), "the name of the cookie is nobody's business: {more}");
}

/// Something in a request that holds no token.
fn harmless() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._~-]{1,8}".prop_filter("it would be taken for a token", |text| {
        !["token", "ticket", "access_token"].contains(&text.as_str())
    })
}

proptest! {
    #[test]
    fn a_token_anywhere_leaves_everything_else_and_nothing_of_itself(
        place in 0_usize..5,
        token in "SECRET[a-zA-Z0-9._~+/-]{0,40}={0,2}",
        cookies in prop::collection::vec((harmless(), harmless()), 0..4),
        parameters in prop::collection::vec((harmless(), harmless()), 0..4),
        protocols in prop::collection::vec(harmless(), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let place = [Source::Authorization, Source::Subprotocol, Source::Cookie, Source::Ticket, Source::Query][place];
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        let cookies: Vec<String> = cookies.iter().map(pair).collect();
        let parameters: Vec<String> = parameters.iter().map(pair).collect();
        let build = |with: bool| {
            let put = |items: &[String], own: Source, text: String| {
                let mut items = items.to_vec();
                if with && place == own {
                    items.insert(at.index(items.len() + 1), text);
                }
                items
            };
            let mut request = Request::default().of_a_page().header("x-other", "kept");
            if with && place == Source::Authorization {
                request = request.header("authorization", &format!("Bearer {token}"));
            }
            request = request.protocols(&put(&protocols, Source::Subprotocol, entry(&token)).join(", "));
            let cookies = put(&cookies, Source::Cookie, format!("token={token}")).join("; ");
            if !cookies.is_empty() {
                request = request.header("cookie", &cookies);
            }
            let parameters = put(&parameters, Source::Ticket, format!("ticket={token}"));
            let parameters = put(&parameters, Source::Query, format!("access_token={token}")).join("&");
            if parameters.is_empty() { request } else { request.query(&parameters) }
        };
        let (source, found, rest) = found(build(true));
        prop_assert_eq!(source, place);
        prop_assert_eq!(found, token.as_str());
        prop_assert_eq!(rest, build(false));
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_what_it_found(
        cookie in prop::collection::vec(any::<u8>(), 0..60),
        query in "[a-z_&=%+;?0-9]{0,60}",
        header in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut request = Request::default().of_a_page().query(&format!("{query}&access_token=SECRET"));
        request.headers.push(("cookie".to_owned(), [b"token=SECRET;", cookie.as_slice()].concat()));
        request.headers.push(("authorization".to_owned(), header));
        let _ = request.take(&all());
        prop_assert!(!request.headers.iter().any(|(name, _)| name == "authorization"));
        prop_assert!(!request.query.unwrap_or_default().contains("access_token=SECRET"));
        let left = request.headers.iter().any(|(name, value)| name == "cookie" && value.starts_with(b"token="));
        prop_assert!(!left);
    }
}
