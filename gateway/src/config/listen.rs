//! `[[listen]]` tables.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::form;
use super::model::{CertificateFiles, ClientAddress, Listen, ListenTls};
use super::validate::Checker;

pub(super) fn check(checker: &mut Checker<'_>, forms: Vec<form::Listen>) -> Vec<Listen> {
    let mut seen = HashSet::new();
    let mut listen = Vec::new();
    for form in forms {
        checker.unique(&mut seen, &form.address, "the address");
        let address = checker.address(&form.address);
        let client_address = client_address(checker, form.client_address.as_ref());
        let trusted_proxies = proxies(checker, &form, client_address);
        let tls = form.tls.map(|form| tls(checker, form));
        listen.extend(address.map(|address| Listen { address, client_address, trusted_proxies, tls }));
    }
    listen
}

fn client_address(checker: &mut Checker<'_>, form: Option<&Spanned<String>>) -> ClientAddress {
    let Some(form) = form else { return ClientAddress::Connection };
    match form.get_ref().as_str() {
        "connection" => ClientAddress::Connection,
        "proxy_protocol" => ClientAddress::ProxyProtocol,
        "forwarded" => ClientAddress::Forwarded,
        "x-forwarded-for" => ClientAddress::XForwardedFor,
        other => {
            let message = format!(
                "`{other}` does not tell the address of a client: choose \"connection\", \"proxy_protocol\", \
                 \"forwarded\" or \"x-forwarded-for\""
            );
            checker.fault(&form.span(), message);
            ClientAddress::Connection
        }
    }
}

/// Whoever is believed can say anything: it has to be a choice, and of named hosts.
fn proxies(checker: &mut Checker<'_>, form: &form::Listen, source: ClientAddress) -> Vec<IpNet> {
    let named = form.trusted_proxies.as_ref().filter(|named| !named.get_ref().is_empty());
    match (named, &form.client_address) {
        (None, Some(asked)) if source != ClientAddress::Connection => checker.fault(
            &asked.span(),
            "nobody is trusted to tell the address of clients: name the proxies in trusted_proxies, such as [\"10.0.0.7\"]",
        ),
        (Some(named), _) if source == ClientAddress::Connection => checker.fault(
            &named.span(),
            "trusted_proxies without client_address believes nobody: say how they tell the address of a client, \
             such as client_address = \"proxy_protocol\"",
        ),
        _ => {}
    }
    let mut proxies = Vec::new();
    for form in named.iter().flat_map(|named| named.get_ref()) {
        let Some(prefix) = checker.prefix(form) else { continue };
        if prefix.prefix_len() == 0 {
            checker.fault(
                &form.span(),
                "everybody could say to be anybody: name the addresses of the proxies alone",
            );
        }
        proxies.push(canonical(prefix));
    }
    proxies
}

/// Clients that are mapped into IPv6 are judged by their IPv4 address; so are proxies.
fn canonical(prefix: IpNet) -> IpNet {
    match prefix {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).unwrap_or(prefix),
            None => prefix,
        },
        _ => prefix,
    }
}

fn tls(checker: &mut Checker<'_>, form: Spanned<form::ListenTls>) -> ListenTls {
    let span = form.span();
    let form = form.into_inner();
    let mut certificates = Vec::new();
    match (&form.certificate, &form.key) {
        (Some(certificate), Some(key)) => certificates.push((certificate.get_ref(), key.get_ref())),
        (None, None) => {}
        (Some(one), None) => checker.fault(&one.span(), "a certificate needs its private key: add `key`"),
        (None, Some(one)) => {
            checker.fault(&one.span(), "a private key needs its certificate: add `certificate`")
        }
    }
    certificates.extend(form.certificates.iter().map(|one| (one.certificate.get_ref(), one.key.get_ref())));
    if certificates.is_empty() && form.certificate.is_none() && form.key.is_none() {
        checker.fault(
            &span,
            "tls needs a certificate: add `certificate` and `key`, the names of PEM files, \
             or `certificates = [{ certificate, key }]` for several names",
        );
    }
    let required = match form.client_certificate.as_ref().map(|form| (form.get_ref().as_str(), form.span())) {
        None | Some(("optional", _)) => false,
        Some(("required", _)) => true,
        Some((other, span)) => {
            let message =
                format!("`{other}` does not say what clients must show: choose \"optional\" or \"required\"");
            checker.fault(&span, message);
            false
        }
    };
    if let (Some(form), None) = (&form.client_certificate, &form.client_ca) {
        checker.fault(
            &form.span(),
            "no authority is trusted with certificates of clients: name a PEM file with `client_ca`",
        );
    }
    let tls12 = match form.min_version.as_ref().map(|form| (form.get_ref().as_str(), form.span())) {
        None | Some(("1.2", _)) => true,
        Some(("1.3", _)) => false,
        Some((other, span)) => {
            checker.fault(
                &span,
                format!("`{other}` is no version of TLS that can be spoken: \"1.2\" or \"1.3\""),
            );
            true
        }
    };
    ListenTls {
        certificates: certificates
            .into_iter()
            .map(|(certificate, key)| CertificateFiles {
                certificate: checker.path(certificate),
                key: checker.path(key),
            })
            .collect(),
        client_ca: form.client_ca.map(|ca| checker.path(ca.get_ref())),
        client_certificate_required: required,
        tls12,
        http2: form.http2.unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(more: &str) -> Result<Listen, String> {
        let text = format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{more}\n");
        match super::super::parse(Path::new("/etc/g.toml"), &text) {
            Ok((mut config, _)) => Ok(config.listen.remove(0)),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn a_listener_believes_nobody_and_is_plain_unless_told_otherwise() {
        let listen = parse("").expect("valid");
        assert_eq!((listen.client_address, listen.trusted_proxies.len()), (ClientAddress::Connection, 0));
        assert_eq!(listen.tls, None);
    }

    #[test]
    fn proxies_are_believed_only_when_they_are_named_and_so_is_their_way_of_telling() {
        let listen = parse(
            "client_address = \"forwarded\"\ntrusted_proxies = [\"10.0.0.7\", \"::ffff:192.0.2.0/120\"]",
        );
        let named: Vec<String> =
            listen.expect("valid").trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["10.0.0.7/32", "192.0.2.0/24"]);
        for (more, place, expected) in [
            ("client_address = \"forwarded\"", "3:18", "nobody is trusted"),
            ("client_address = \"forwarded\"\ntrusted_proxies = []", "3:18", "nobody is trusted"),
            ("trusted_proxies = [\"10.0.0.7\"]", "3:19", "believes nobody"),
            ("client_address = \"x\"", "3:18", "proxy_protocol"),
            ("client_address = \"forwarded\"\ntrusted_proxies = [\"0.0.0.0/0\"]", "4:20", "everybody"),
            ("client_address = \"forwarded\"\ntrusted_proxies = [\"proxy\"]", "4:20", "not an address"),
        ] {
            let fault = parse(more).expect_err("faulty");
            assert!(fault.contains(&format!(":{place}: ")) && fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn tls_needs_a_certificate_with_its_key_and_an_authority_for_those_of_clients() {
        let listen = parse("[listen.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\nclient_ca = \"ca.pem\"");
        let tls = listen.expect("valid").tls.expect("TLS");
        assert_eq!(tls.certificates[0].key, Path::new("/etc/k.pem"));
        assert!(tls.tls12 && tls.http2 && !tls.client_certificate_required);
        let pair = "certificate = \"c\"\nkey = \"k\"\n";
        for (more, expected) in [
            ("", "needs a certificate"),
            ("certificate = \"c\"", "needs its private key"),
            ("key = \"k\"", "needs its certificate"),
            (&format!("{pair}client_certificate = \"required\""), "no authority"),
            (&format!("{pair}client_ca = \"a\"\nclient_certificate = \"maybe\""), "choose \"optional\""),
            (&format!("{pair}min_version = \"1.1\""), "no version of TLS"),
        ] {
            let fault = parse(&format!("[listen.tls]\n{more}")).expect_err("faulty");
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
