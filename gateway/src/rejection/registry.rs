//! THE registry: every layer and every reason for which a client can be rejected.
//!
//! This table is the single source of the HTTP status, the close code, the
//! `Gatehouse-Rejection` header, the problem document, the journal fields and the words of
//! `gatehouse explain`. A [`super::Rejection`] can only be made from a [`Reason`], and adding a
//! reason is adding a row.

use std::fmt;

/// A layer of the system that can reject a client, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The client's address is blocked.
    Firewall,
    /// The request is not a valid WebSocket opening handshake for any route.
    Handshake,
    /// The client did not prove who it is.
    Credentials,
    /// The token was good once.
    Expiry,
    /// The token is good, but not for this route.
    Scope,
    /// Our side cannot decide; never the client's fault.
    AuthSystem,
    /// Too much at once.
    Limit,
    /// The service behind the gate.
    Upstream,
}

impl Layer {
    /// All layers, in the order of the checks.
    pub const ALL: [Self; 8] = [
        Self::Firewall,
        Self::Handshake,
        Self::Credentials,
        Self::Expiry,
        Self::Scope,
        Self::AuthSystem,
        Self::Limit,
        Self::Upstream,
    ];

    /// The name on the wire, in the journal and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Handshake => "handshake",
            Self::Credentials => "credentials",
            Self::Expiry => "expiry",
            Self::Scope => "scope",
            Self::AuthSystem => "auth_system",
            Self::Limit => "limit",
            Self::Upstream => "upstream",
        }
    }

    /// What a rejection by this layer means to the client.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Firewall => {
                "Your network address is blocked. At the network card there is no answer at all: the connection times out."
            }
            Self::Handshake => {
                "The request is not a WebSocket opening handshake for anything that is served here."
            }
            Self::Credentials => "You did not prove who you are.",
            Self::Expiry => "Your token was good once. Renew it.",
            Self::Scope => "Your token is good, but it does not allow this.",
            Self::AuthSystem => "Your token could not be judged. It is not your fault; wait and try again.",
            Self::Limit => "There is too much at once, of yours or in all.",
            Self::Upstream => "You were admitted, but the service behind the gate failed.",
        }
    }

    /// The WebSocket close code, from the range for private use (RFC 6455 §7.4.2).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Firewall => 4451,
            Self::Handshake => 4400,
            Self::Credentials => 4401,
            Self::Expiry => 4419,
            Self::Scope => 4403,
            Self::AuthSystem => 4503,
            Self::Limit => 4429,
            Self::Upstream => 4502,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! registry {
    ($($variant:ident = $layer:ident / $name:literal, $status:literal, $retryable:literal, $title:literal,
        client: $client:literal, operator: $operator:literal;)+) => {
        /// Why a client was rejected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $title] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The layer that rejects for this reason.
            pub const fn layer(self) -> Layer {
                match self { $(Self::$variant => Layer::$layer,)+ }
            }

            /// The name within its layer, on the wire, in the journal and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The HTTP status of the answer to a refused handshake.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Whether the same request can succeed later without the client changing anything.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)+ }
            }

            /// One line that says what happened.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// The remedy, addressed to the developer of the client. Goes over the wire, so it
            /// holds nothing that would help an attacker.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $client,)+ }
            }

            /// The remedy, addressed to the operator of the gate.
            pub const fn operator_fix(self) -> &'static str {
                match self { $(Self::$variant => $operator,)+ }
            }
        }
    };
}

registry! {
    FirewallDeniedRange = Firewall / "denied_range", 403, false,
        "The client's address is in a denied range",
        client: "Ask the operator of this service to unblock your address, or connect from another network.",
        operator: "Remove the entry from the list named in this record, or add the address to an allow list or to never_block.";
    FirewallNotAllowed = Firewall / "not_allowed", 403, false,
        "The client's address is in no allowed range",
        client: "Ask the operator of this service to allow your address.",
        operator: "The default of the firewall is to drop: add the address to an allow list.";
    FirewallBanned = Firewall / "banned", 403, true,
        "The client's address is banned for a while",
        client: "Stop the requests that led to the ban and wait until it ends, or ask the operator to lift it.",
        operator: "Lift the ban, or wait until it expires.";

    HandshakeProxyHeader = Handshake / "proxy_header", 502, true,
        "The proxy in front does not say who the client is",
        client: "It is not your fault: a proxy in front of this service is set up wrongly. Tell the operator the id of this answer.",
        operator: "Let the proxy named in this record send what the listener's client_address says, or take it out of trusted_proxies.";
    HandshakeTls = Handshake / "tls", 400, false,
        "The TLS handshake failed",
        client: "Connect with wss:// and TLS 1.2 or 1.3, and trust the certificate of this service.",
        operator: "The note names the fault: a client without TLS, of an old version, or that does not trust the certificate of the listener.";
    HandshakeMalformed = Handshake / "malformed", 400, false,
        "The request is not valid HTTP/1.1",
        client: "Send the opening handshake with a WebSocket client library; the detail names the fault.",
        operator: "Look for a broken client, a scanner, or a proxy in front of the gate that damages requests.";
    HandshakeNotWebsocket = Handshake / "not_websocket", 426, false,
        "The request does not ask for a WebSocket",
        client: "Use a WebSocket client: the request needs Connection: Upgrade and Upgrade: websocket.",
        operator: "If a proxy stands in front of the gate, let it forward the Connection and Upgrade headers.";
    HandshakeBadVersion = Handshake / "bad_version", 426, false,
        "The WebSocket version is not supported",
        client: "Use WebSocket version 13 (RFC 6455).",
        operator: "The client speaks an outdated draft of the protocol: it needs an update.";
    HandshakeBadKey = Handshake / "bad_key", 400, false,
        "The Sec-WebSocket-Key is missing or invalid",
        client: "Send exactly one Sec-WebSocket-Key holding 16 random bytes in base64.",
        operator: "Look for a client that builds the handshake by hand.";
    HandshakeMethod = Handshake / "method", 405, false,
        "The opening handshake is not a GET request",
        client: "Open the WebSocket with GET.",
        operator: "Look for a client that builds the handshake by hand.";
    HandshakeBody = Handshake / "body", 400, false,
        "The opening handshake has a body",
        client: "Send no body, no Content-Length other than 0 and no Transfer-Encoding with the handshake.",
        operator: "Look for a broken client or an attempt at request smuggling.";
    HandshakeTooLarge = Handshake / "too_large", 431, false,
        "The request head is too large",
        client: "Send fewer or shorter headers; cookies are the usual culprit.",
        operator: "Raise [limits] request_head if the headers are legitimate.";
    HandshakeTimeout = Handshake / "timeout", 408, true,
        "The request head did not arrive in time",
        client: "Send the whole request head at once after connecting.",
        operator: "Look for slow networks or slow-request attacks; the deadline is [limits] handshake_timeout.";
    HandshakeNoRoute = Handshake / "no_route", 404, false,
        "No route has this path",
        client: "Check the path of the URL.",
        operator: "Add a [[route]] for the path if it should exist.";
    HandshakeNoSession = Handshake / "no_session", 404, false,
        "No open session has this name, or it cannot be renewed",
        client: "Renew an open session, by the Gatehouse-Id of its handshake; if it has ended, connect again.",
        operator: "The session has ended, or its route lacks renewal = true.";
    HandshakeOrigin = Handshake / "origin", 403, false,
        "The page's origin is not allowed on this route",
        client: "Connect from a page of an allowed origin, or ask the operator to allow yours.",
        operator: "Add the origin to the route if it is yours.";
    HandshakeSubprotocol = Handshake / "subprotocol", 400, false,
        "No subprotocol of those offered can be selected",
        client: "Offer at least one subprotocol that this service speaks; one that carries a token does not count.",
        operator: "Compare what the client offers with the route's subprotocols, if it has any.";

    CredentialsCertificate = Credentials / "certificate", 401, false,
        "The certificate of the client is missing or not valid",
        client: "Show a certificate in the TLS handshake that is still valid and comes from an authority that this service trusts.",
        operator: "The note names the fault: the client needs a certificate of an authority in the listener's client_ca, made for client authentication.";
    CredentialsMultiple = Credentials / "multiple", 400, false,
        "The request carries more than one token",
        client: "Send exactly one token.",
        operator: "Look for a client or a proxy that adds a second token: the detail of this record names the places.";
    CredentialsMissing = Credentials / "missing", 401, false,
        "The request carries no token",
        client: "Send a token: in the header Authorization: Bearer <token>, or in another place that the detail names.",
        operator: "The client must obtain a token from an issuer of this route.";
    CredentialsFirstMessage = Credentials / "first_message", 401, false,
        "The first message of the session does not authenticate",
        client: "Begin the session with one text message: {\"type\":\"authenticate\",\"token\":\"<token>\"}; the detail names the fault.",
        operator: "Look for a client that does not know that this route has first_message = true.";
    CredentialsTicket = Credentials / "ticket", 401, false,
        "The ticket is unknown, used up or expired",
        client: "Get a new ticket (POST /tickets), and use it once, at once, from the same address, on the same route.",
        operator: "The note says which; behind a proxy, clients may come from changing addresses. The life of tickets is [limits] ticket_ttl.";
    CredentialsMalformed = Credentials / "malformed", 401, false,
        "The token is not a valid JWT",
        client: "Send the token exactly as the issuer gave it to you.",
        operator: "Look for a client that sends another kind of token, or a damaged one.";
    CredentialsAlgorithm = Credentials / "algorithm", 401, false,
        "The token is signed with an algorithm that is not accepted",
        client: "Get a token from the issuer that this service names.",
        operator: "If the issuer has really changed its algorithm, add it to the issuer's algorithms.";
    CredentialsUnknownIssuer = Credentials / "unknown_issuer", 401, false,
        "The token comes from an issuer that this route does not accept",
        client: "Get a token from the issuer that this service names.",
        operator: "Add the issuer to the route if its tokens should be accepted.";
    CredentialsUnknownKey = Credentials / "unknown_key", 401, false,
        "The token is signed with a key that its issuer does not have",
        client: "Get a new token: the issuer has probably replaced its keys.",
        operator: "Check that the issuer's key set is current.";
    CredentialsBadSignature = Credentials / "bad_signature", 401, false,
        "The token's signature is wrong",
        client: "Get a new token, and send it unchanged.",
        operator: "The token was changed or forged, or the issuer's key file belongs to another key.";
    CredentialsWrongType = Credentials / "wrong_type", 401, false,
        "The token is not an access token",
        client: "Send the access token, not an ID token or another kind of token.",
        operator: "If the issuer does not mark access tokens as at+jwt (RFC 9068), relax the issuer's typ.";
    CredentialsMissingClaim = Credentials / "missing_claim", 401, false,
        "The token lacks a claim that is required",
        client: "Get a token that has all the claims an access token needs.",
        operator: "The issuer must put the claim named in this record into its tokens.";
    CredentialsWrongClaim = Credentials / "wrong_claim", 401, false,
        "A claim of the token is not what this service accepts",
        client: "Get a token from the issuer and for the account that this service is meant for.",
        operator: "Compare the claim named in this record with the issuer's require in the configuration.";
    CredentialsRevoked = Credentials / "revoked", 401, false,
        "The token was revoked",
        client: "Get a new token; if that one is refused too, your access was taken away: ask the operator.",
        operator: "The record names the revocation: `gatehouse revoke --list` shows it, `gatehouse revoke --undo` takes it back.";
    CredentialsInactive = Credentials / "inactive", 401, false,
        "The token is not active, says its issuer",
        client: "Get a new token: this one has expired, was revoked, or never was.",
        operator: "The issuer's introspection endpoint says so; it does not say why.";
    CredentialsBound = Credentials / "bound", 401, false,
        "The token is bound to a key that was not shown",
        client: "Connect with the certificate that the token is bound to, or get a token that is not bound to a key (no DPoP).",
        operator: "The token has cnf (RFC 8705, RFC 9449): let the client connect to a listener with client_ca, with that certificate, or let the issuer give it plain bearer tokens.";
    CredentialsLifetime = Credentials / "lifetime", 401, false,
        "The token is valid for longer than this service accepts",
        client: "Get a token with a shorter life.",
        operator: "Compare the life of the issuer's tokens with its max_lifetime in the configuration.";
    CredentialsWrongAudience = Credentials / "wrong_audience", 401, false,
        "The token was issued for another service",
        client: "Request a token for this service (audience or resource parameter).",
        operator: "Compare the token's aud with the issuer's audience in the configuration.";
    CredentialsNotYetValid = Credentials / "not_yet_valid", 401, true,
        "The token is not valid yet",
        client: "Wait until the time that the detail names, and check that your clock is right.",
        operator: "Compare the clocks of the issuer and of this host.";
    CredentialsOtherSubject = Credentials / "other_subject", 401, false,
        "The token is not one of the subject of the session",
        client: "Renew the session with a token of the same user and issuer, or connect anew as somebody else.",
        operator: "Look for a client that mixes the tokens of several users up; the note names the session's.";

    ExpiryExpired = Expiry / "expired", 401, false,
        "The token has expired",
        client: "Renew the token, then connect again.",
        operator: "Nothing to do unless the client cannot renew, or the clocks differ.";
    ExpirySignIn = Expiry / "sign_in", 401, false,
        "The user signed in too long ago",
        client: "Let the user sign in again, and get a new token.",
        operator: "The route's max_age demands it; raise it if older sign-ins are good enough.";
    ExpirySessionExpired = Expiry / "session_expired", 401, false,
        "The token expired during the session",
        client: "Renew the token before it expires, then connect again.",
        operator: "Nothing to do unless sessions should last longer: let the issuer give tokens a longer life.";

    ScopeInsufficient = Scope / "insufficient_scope", 403, false,
        "The token does not have the scope that this route needs",
        client: "Request a token with the scope named in WWW-Authenticate.",
        operator: "Grant the scope to the client at the issuer, or change the route's scopes.";
    ScopeInsufficientClaims = Scope / "insufficient_claims", 403, false,
        "The token's claims do not allow this route",
        client: "Ask the operator of this service for access, or use another account.",
        operator: "Compare the claim named in this record with the route's claims in the configuration.";

    AuthSystemKeysUnavailable = AuthSystem / "keys_unavailable", 503, true,
        "The keys of the token's issuer are not available",
        client: "Your credentials were not judged. Wait and try again; nothing needs to change on your side.",
        operator: "The issuer's key set is empty or could not be loaded: see the errors of this issuer.";
    AuthSystemKeysStale = AuthSystem / "keys_stale", 503, true,
        "The keys of the token's issuer are too old to be trusted",
        client: "Your credentials were not judged. Wait and try again; nothing needs to change on your side.",
        operator: "The issuer has not answered for longer than max_stale: `gatehouse status` says why. \
                   Repair the way to the issuer; raise max_stale if you can trust its keys for longer.";
    AuthSystemIntrospectionUnavailable = AuthSystem / "introspection_unavailable", 503, true,
        "The token's issuer could not be asked about it",
        client: "Your credentials were not judged. Wait and try again; nothing needs to change on your side.",
        operator: "The note says what failed: the introspection endpoint, the network, or the gate's own client credentials.";

    LimitAddressSessions = Limit / "address_sessions", 429, true,
        "Too many sessions from this address",
        client: "Close sessions that you no longer need, then connect again.",
        operator: "Raise [limits] sessions_per_address if the load is legitimate.";
    LimitSubjectSessions = Limit / "subject_sessions", 429, true,
        "Too many sessions of this subject",
        client: "Close sessions that you no longer need, then connect again.",
        operator: "Raise [limits] sessions_per_subject if the load is legitimate.";
    LimitRouteSessions = Limit / "route_sessions", 429, true,
        "Too many sessions on this route",
        client: "Wait and try again; nothing needs to change on your side.",
        operator: "Raise the route's sessions if it can carry more.";
    LimitTickets = Limit / "tickets", 429, true,
        "Too many unused tickets of this address",
        client: "Use the tickets that you have, or wait until they expire.",
        operator: "Raise [limits] tickets_per_address if the load is legitimate.";
    LimitAddressRate = Limit / "address_rate", 429, true,
        "Too many handshakes a second from this address",
        client: "Wait as long as Retry-After says, and connect less often, with growing and random pauses.",
        operator: "Raise [limits] handshake_rate_per_address if the load is legitimate, such as that of many clients behind one address.";
    LimitSubjectRate = Limit / "subject_rate", 429, true,
        "Too many handshakes a second of this subject",
        client: "Wait as long as Retry-After says, and connect less often, with growing and random pauses.",
        operator: "Raise [limits] handshake_rate_per_subject if the load is legitimate.";
    LimitRouteRate = Limit / "route_rate", 429, true,
        "Too many handshakes a second on this route",
        client: "Wait as long as Retry-After says, then try again; nothing needs to change on your side.",
        operator: "Raise the route's handshake_rate if it can carry more.";
    LimitRate = Limit / "rate", 503, true,
        "Too many handshakes a second in all",
        client: "Wait as long as Retry-After says, then try again; nothing needs to change on your side.",
        operator: "Raise [limits] handshake_rate if this host can carry more.";
    LimitAddressTraffic = Limit / "address_traffic", 429, true,
        "Too much was sent from this address",
        client: "Send less at once and less often, then connect again after a pause that grows and is random.",
        operator: "Raise [limits] bytes_rate_per_address or messages_rate_per_address if the load is legitimate.";
    LimitSubjectTraffic = Limit / "subject_traffic", 429, true,
        "Too much was sent by this subject",
        client: "Send less at once and less often, then connect again after a pause that grows and is random.",
        operator: "Raise [limits] bytes_rate_per_subject or messages_rate_per_subject if the load is legitimate.";
    LimitRouteTraffic = Limit / "route_traffic", 429, true,
        "Too much was sent on this route",
        client: "Send less at once and less often, then connect again after a pause that grows and is random.",
        operator: "Raise the route's bytes_rate or messages_rate if it can carry more.";
    LimitTraffic = Limit / "traffic", 503, true,
        "Too much was sent in all",
        client: "Send less at once and less often, then connect again after a pause that grows and is random.",
        operator: "Raise [limits] bytes_rate or messages_rate if this host can carry more.";
    LimitSessionIdle = Limit / "session_idle", 429, true,
        "Nothing was sent in the session for too long",
        client: "Connect again when there is something to say, or send pings.",
        operator: "Raise [limits] idle_timeout if silence is legitimate.";
    LimitSessionLifetime = Limit / "session_lifetime", 429, true,
        "The session has lasted as long as it may",
        client: "Connect again.",
        operator: "Raise [limits] session_lifetime if longer sessions are legitimate.";
    LimitCapacity = Limit / "capacity", 503, true,
        "The gate is full",
        client: "Wait and try again; nothing needs to change on your side.",
        operator: "Raise [limits] sessions if this host can carry more.";

    UpstreamUnreachable = Upstream / "unreachable", 502, true,
        "The service behind the gate is not reachable",
        client: "You were admitted, but the service is down. Wait and try again.",
        operator: "Start the upstream, or correct the route's upstream address.";
    UpstreamTimeout = Upstream / "timeout", 504, true,
        "The service behind the gate does not answer",
        client: "You were admitted, but the service is too slow. Wait and try again.",
        operator: "Look at the upstream's load; the deadline is [limits] upstream_timeout.";
    UpstreamRefused = Upstream / "refused", 502, false,
        "The service behind the gate refused the handshake",
        client: "You were admitted, but the service refused the request itself; the answer has its status.",
        operator: "The upstream's own logs say why it refused.";
    UpstreamBadHandshake = Upstream / "bad_handshake", 502, true,
        "The service behind the gate does not speak WebSocket correctly",
        client: "You were admitted, but the service is broken. Wait and try again.",
        operator: "The upstream's answer breaks RFC 6455 §4.2.2: see the note of this record.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.layer(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_own_name_and_a_remedy_for_both_readers() {
        let mut names = HashSet::new();
        for reason in Reason::ALL {
            assert!(names.insert(reason.to_string()), "{reason} is named twice");
            assert!(!reason.fix().is_empty() && !reason.operator_fix().is_empty(), "{reason}");
            assert!((400..600).contains(&reason.status()), "{reason}");
        }
    }

    #[test]
    fn an_outage_of_ours_is_never_answered_as_the_clients_fault() {
        for reason in Reason::ALL {
            if reason.layer() == Layer::AuthSystem {
                assert_eq!(reason.status(), 503, "{reason}");
                assert!(reason.retryable(), "{reason}");
            }
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_the_checks() {
        let layers: Vec<Layer> = Reason::ALL.iter().map(|reason| reason.layer()).collect();
        assert!(layers.is_sorted());
    }
}
