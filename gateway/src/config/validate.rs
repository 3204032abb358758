//! From the form to the model: every value is checked, and every fault is found in one go.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::{Spanned, Value};
use url::Url;

use super::diagnostic::{Diagnostic, position};
use super::form::{self, Form, Strings};
use super::model::{
    Bounds, Config, Firewall, Limits, Listen, Mode, PINS, Ports, Protect, Reload, RevocationFile,
    TrafficLimits,
};
use super::remote::SecretUrl;
use super::{admin, bounds, issuer, list, listen, route};
use crate::policy::Verdict;

/// The file being checked, and what was found so far.
pub(super) struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    folder: PathBuf,
    state: Option<PathBuf>,
    /// The files of remote lists, and what the lists are called.
    remotes: HashMap<PathBuf, String>,
    found: Vec<Diagnostic>,
    warned: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        // Absolute, so that the journal names a list in the same way wherever the daemon started.
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        Self {
            file,
            text,
            folder,
            state: None,
            remotes: HashMap::new(),
            found: Vec::new(),
            warned: Vec::new(),
        }
    }

    /// The model of `form`, or everything that is wrong with it.
    pub(super) fn config(mut self, form: Form) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        let nowhere = form.listen.is_empty();
        self.state = form.state.map(|state| self.path(state.folder.get_ref()));
        let listen = listen::check(&mut self, form.listen);
        let limits = self.limits(&form.limits);
        let firewall = form.firewall.map(|firewall| self.firewall(firewall, &listen));
        let issuers = issuer::check(&mut self, form.issuer);
        let revocation = self.revocation(form.revocation);
        let public_url = self.public_url(form.gateway.and_then(|gateway| gateway.public_url).as_ref());
        let routes = route::check(&mut self, form.route, &issuers);
        let echo = form.echo.and_then(|echo| self.address(&echo.listen));
        let control = form.control.map(|control| self.path(control.socket.get_ref()));
        let admin = form.admin.and_then(|admin| admin::check(&mut self, admin));
        if nowhere && !routes.is_empty() {
            self.found.push(Diagnostic::of_file(
                self.file,
                "there are routes but nowhere to connect to: add a [[listen]] table with an address",
            ));
        }
        if self.found.is_empty() {
            let config = Config {
                file: self.file.to_owned(),
                listen,
                firewall,
                issuers,
                routes,
                public_url,
                revocation,
                limits,
                echo,
                control,
                admin,
                state: self.state,
            };
            let mut warnings = inert(&config);
            warnings.append(&mut self.warned);
            Ok((config, warnings))
        } else {
            Err(self.found)
        }
    }

    fn revocation(&mut self, form: Option<form::Revocation>) -> RevocationFile {
        let default = RevocationFile::default();
        let Some(form) = form else { return default };
        let keep = form.keep.as_ref().and_then(|keep| self.duration(keep));
        RevocationFile {
            file: form.file.map(|file| self.path(file.get_ref())),
            keep: keep.unwrap_or(default.keep),
        }
    }

    /// Scheme and authority, without a slash at the end.
    fn public_url(&mut self, form: Option<&Spanned<String>>) -> Option<String> {
        let form = form?;
        let url = Url::parse(form.get_ref()).ok().filter(|url| {
            let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            let local = match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            };
            let safe = url.scheme() == "https" || url.scheme() == "http" && local;
            bare && safe && url.username().is_empty() && url.password().is_none()
        });
        if url.is_none() {
            let message = format!(
                "`{}` is not how clients can know the gate: write \"https://HOST\" without a path (http only for this host)",
                form.get_ref()
            );
            self.fault(&form.span(), message);
        }
        url.map(|url| url.origin().ascii_serialization())
    }

    /// Records a fault at `span`.
    pub(super) fn fault(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.found.push(Diagnostic::at(self.file, self.text, span, message));
    }

    /// Records something at `span` that somebody should look at.
    pub(super) fn warn(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.warned.push(Diagnostic::at(self.file, self.text, span, message).warning());
    }

    /// Line and column of `span`, counted from 1.
    pub(super) fn position(&self, span: &Range<usize>) -> (u32, u32) {
        position(self.text, span.start)
    }

    /// A path of the configuration, relative to the folder of its file.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The folder for what has to outlive the daemon.
    pub(super) fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// A name of its own for the list at `url`, which is kept in `file`; `None` when the list is
    /// there already.
    pub(super) fn remote_name(&mut self, url: &SecretUrl, file: &Path) -> Option<String> {
        if self.remotes.contains_key(file) {
            return None;
        }
        let shown = url.shown();
        let same = self.remotes.values().filter(|name| name.split(' ').next() == Some(&*shown)).count();
        let name = if same == 0 { shown } else { format!("{shown} ({})", same + 1) };
        self.remotes.insert(file.to_owned(), name.clone());
        Some(name)
    }

    /// Records a fault unless `name` is new in `seen`.
    pub(super) fn unique(&mut self, seen: &mut HashSet<String>, name: &Spanned<String>, what: &str) {
        if !seen.insert(name.get_ref().clone()) {
            let message = format!("{what} `{}` is there twice: remove one", name.get_ref());
            self.fault(&name.span(), message);
        }
    }

    /// A duration such as `10s`, `5m` or `1m 30s`.
    pub(super) fn duration(&mut self, text: &Spanned<String>) -> Option<Duration> {
        match humantime::parse_duration(text.get_ref()) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let message = format!(
                    "`{}` is not a duration ({error}): write a number and a unit, such as \"10s\" or \"5m\"",
                    text.get_ref()
                );
                self.fault(&text.span(), message);
                None
            }
        }
    }

    pub(super) fn address(&mut self, text: &Spanned<String>) -> Option<SocketAddr> {
        match text.get_ref().parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let message = format!(
                    "`{}` is not an address with a port: write \"127.0.0.1:8080\" or \"[::1]:8080\"",
                    text.get_ref()
                );
                self.fault(&text.span(), message);
                None
            }
        }
    }

    fn firewall(&mut self, form: form::Firewall, listen: &[Listen]) -> Firewall {
        let mode = match form.mode.as_ref().map(|mode| (mode.get_ref().as_str(), mode.span())) {
            None | Some(("auto", _)) => Mode::Auto,
            Some(("native", _)) => Mode::Native,
            Some(("generic", _)) => Mode::Generic,
            Some(("off", _)) => Mode::Off,
            Some((other, span)) => {
                let message = format!("`{other}` is not a mode: choose auto, native, generic or off");
                self.fault(&span, message);
                Mode::Off
            }
        };
        if form.interfaces.is_empty() && mode != Mode::Off {
            self.found.push(Diagnostic::of_file(
                self.file,
                "[firewall] names no interface: add `interfaces = [\"eth0\"]`, or set `mode = \"off\"` \
                 so that the lists decide at the gateway only",
            ));
        }
        let default = match form.default.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
            None | Some(("pass", _)) => Verdict::Pass,
            Some(("drop", _)) => Verdict::Drop,
            Some((other, span)) => {
                let message = format!("`{other}` is not a verdict: choose pass or drop");
                self.fault(&span, message);
                Verdict::Pass
            }
        };
        let ports = form.ports.map_or(Ports::All, |ports| self.ports(&ports, listen));
        if let Some(zero) = form.reports_per_second.as_ref().filter(|number| *number.get_ref() == 0) {
            self.fault(&zero.span(), "reports_per_second must be at least 1: drops must not go unseen");
        }
        let given = bounds::Given {
            max_shrink: &form.max_shrink,
            max_growth: &form.max_growth,
            change_freely_below: &form.change_freely_below,
        };
        let bounds = bounds::check(self, &given, Bounds::default());
        Firewall {
            interfaces: self.interfaces(&form.interfaces),
            mode,
            pins: self.pins(form.pins.as_ref()),
            ports,
            deny: list::check(self, &form.deny, bounds, true),
            allow: list::check(self, &form.allow, bounds, false),
            never_block: self.never_block(&form.never_block),
            protect: form.protect.map_or(Protect::ALL.to_vec(), |names| self.protect(&names)),
            default,
            reports_per_second: form.reports_per_second.map_or(10_000, Spanned::into_inner),
            reload: form.reload.map_or(Reload::Auto, |reload| self.reload(&reload)),
        }
    }

    fn reload(&mut self, form: &Spanned<String>) -> Reload {
        match form.get_ref().as_str() {
            "auto" => Reload::Auto,
            "manual" => Reload::Manual,
            other => {
                let message = format!(
                    "`{other}` is no way to reload: choose auto, or manual to wait for `gatehouse apply`"
                );
                self.fault(&form.span(), message);
                Reload::Auto
            }
        }
    }

    fn pins(&mut self, form: Option<&Spanned<String>>) -> Option<PathBuf> {
        let Some(form) = form else {
            return Some(PathBuf::from(PINS));
        };
        match form.get_ref().as_str() {
            "none" => return None,
            "" => self.fault(&form.span(), "pins is empty: name a folder, or \"none\""),
            // The BPF file system reserves dots for itself.
            path if path.rsplit('/').next().is_some_and(|name| name.contains('.')) => {
                self.fault(&form.span(), "the name of the folder for pins must not contain a dot");
            }
            _ => {}
        }
        Some(self.path(form.get_ref()))
    }

    fn interfaces(&mut self, names: &Strings) -> Vec<String> {
        let mut seen = HashSet::new();
        for name in names {
            self.unique(&mut seen, name, "the interface");
            // IFNAMSIZ: 16 bytes with the terminating NUL.
            let text = name.get_ref();
            if text.is_empty()
                || text.len() > 15
                || text.contains(['/', '\0'])
                || text.contains(char::is_whitespace)
            {
                let message = format!("`{text}` cannot be the name of an interface: see `ip link`");
                self.fault(&name.span(), message);
            }
        }
        names.iter().map(|name| name.get_ref().clone()).collect()
    }

    fn ports(&mut self, form: &Spanned<Value>, listen: &[Listen]) -> Ports {
        const HELP: &str = "choose \"all\", \"listen\" or a list of TCP ports such as [8080, 8443]";
        match form.get_ref() {
            Value::String(text) if text == "all" => Ports::All,
            Value::String(text) if text == "listen" => {
                if listen.iter().any(|listen| listen.address.port() == 0) {
                    self.fault(&form.span(), "a [[listen]] address has port 0: name the ports here instead");
                }
                let mut ports: Vec<u16> = listen.iter().map(|listen| listen.address.port()).collect();
                ports.sort_unstable();
                ports.dedup();
                // With a faulty address, the lack of ports is no news.
                if ports.is_empty() && !self.found.is_empty() {
                    return Ports::All;
                }
                self.port_count(form, ports)
            }
            Value::Array(values) => {
                let ports = values.iter().map(|value| {
                    value.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
                });
                match ports.collect() {
                    Some(ports) => self.port_count(form, ports),
                    None => {
                        self.fault(&form.span(), format!("a port is a number from 1 to 65535: {HELP}"));
                        Ports::All
                    }
                }
            }
            _ => {
                self.fault(&form.span(), format!("ports is neither a list nor a known word: {HELP}"));
                Ports::All
            }
        }
    }

    fn port_count(&mut self, form: &Spanned<Value>, ports: Vec<u16>) -> Ports {
        if ports.is_empty() {
            self.fault(
                &form.span(),
                "no port is named: the firewall would drop nothing; use \"all\" to drop everything",
            );
        }
        Ports::Only(ports)
    }

    fn never_block(&mut self, forms: &Strings) -> Vec<(IpNet, u32)> {
        let line = |form: &Spanned<String>| position(self.text, form.span().start).0;
        let lines: Vec<u32> = forms.iter().map(line).collect();
        forms.iter().zip(lines).filter_map(|(form, line)| Some((self.prefix(form)?, line))).collect()
    }

    /// An address or a prefix.
    pub(super) fn prefix(&mut self, form: &Spanned<String>) -> Option<IpNet> {
        let text = form.get_ref();
        match IpNet::from_str(text).or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()))
        {
            Ok(prefix) => Some(prefix.trunc()),
            Err(_) => {
                let message = format!(
                    "`{text}` is not an address or a prefix: write \"192.0.2.0/24\" or \"2001:db8::/32\""
                );
                self.fault(&form.span(), message);
                None
            }
        }
    }

    fn protect(&mut self, forms: &Strings) -> Vec<Protect> {
        let mut protect = Vec::new();
        for form in forms {
            match Protect::ALL.into_iter().find(|known| known.name() == form.get_ref()) {
                Some(known) => protect.push(known),
                None => {
                    let names = Protect::ALL.map(Protect::name).join(", ");
                    let message = format!(
                        "`{}` is nothing that can be protected: choose among {names}",
                        form.get_ref()
                    );
                    self.fault(&form.span(), message);
                }
            }
        }
        protect
    }

    /// A number a second; 0, which is also that of no number: any.
    pub(super) fn rate(&mut self, given: Option<&Spanned<u64>>) -> u32 {
        const MOST: u64 = 10_000_000;
        let Some(value) = given else { return 0 };
        if *value.get_ref() > MOST {
            self.fault(
                &value.span(),
                format!("a rate is a number a second up to {MOST}, or 0 for any number"),
            );
        }
        u32::try_from(*value.get_ref()).unwrap_or(0)
    }

    /// What clients may send.
    pub(super) fn traffic(
        &mut self,
        bytes: Option<&Spanned<u64>>,
        messages: Option<&Spanned<u64>>,
    ) -> TrafficLimits {
        // One read of a session counts as a whole, and a rate must have room for it.
        const LEAST: u64 = 16 * 1024;
        // The largest that is counted, 4 GiB/s.
        const MOST: u64 = u32::MAX as u64;
        if let Some(bytes) = bytes.filter(|bytes| !matches!(*bytes.get_ref(), 0 | LEAST..=MOST)) {
            let message = format!("a rate of bytes is from {LEAST} to {MOST} a second, or 0 for any number");
            self.fault(&bytes.span(), message);
        }
        TrafficLimits {
            bytes: bytes.map_or(0, |bytes| u32::try_from(*bytes.get_ref()).unwrap_or(0)),
            messages: self.rate(messages),
        }
    }

    fn limits(&mut self, form: &form::Limits) -> Limits {
        let mut limits = Limits::default();
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        // What is above could not even be reserved.
        let counts = [
            (&form.sessions, &mut limits.sessions, 1..=1 << 24),
            (&form.sessions_per_address, &mut limits.sessions_per_address, 1..=1 << 24),
            (&form.sessions_per_subject, &mut limits.sessions_per_subject, 1..=1 << 24),
            (&form.request_head, &mut limits.request_head, 512..=1 << 20),
            (&form.request_headers, &mut limits.request_headers, 8..=4096),
            (&form.request_body, &mut limits.request_body, 64..=1 << 20),
            (&form.introspection_cache, &mut limits.introspection_cache, 1..=1 << 24),
            (&form.introspection_requests, &mut limits.introspection_requests, 1..=4096),
            (&form.bans, &mut limits.bans, 1..=1 << 20),
            (&form.revocations, &mut limits.revocations, 1..=1 << 24),
            (&form.tickets, &mut limits.tickets, 1..=1 << 24),
            (&form.tickets_per_address, &mut limits.tickets_per_address, 1..=1 << 24),
            (&form.first_message_size, &mut limits.first_message_size, 64..=1 << 20),
            (&form.prefixes, &mut limits.prefixes, 1..=1 << 28),
            (&form.policy_memory, &mut limits.policy_memory, 2 << 20..=256 << 30),
            (&form.audit_queue, &mut limits.audit_queue, 16..=1 << 20),
            (&form.audit_at_once, &mut limits.audit_at_once, 1..=1 << 20),
            (&form.audit_folded, &mut limits.audit_folded, 16..=1 << 24),
            (&form.audit_remembered, &mut limits.audit_remembered, 0..=1 << 24),
            (&form.verified_tokens, &mut limits.verified_tokens, 0..=1 << 20),
            (&form.certificate_file, &mut limits.certificate_file, 1024..=1 << 30),
            (&form.http2_streams, &mut limits.http2_streams, 1..=1 << 16),
            (&form.key_file, &mut limits.key_file, 64..=1 << 30),
            (&form.issuer_waiters, &mut limits.issuer_waiters, 1..=1 << 20),
        ];
        for (given, limit, range) in counts {
            if let Some(value) = given {
                if !range.contains(value.get_ref()) {
                    let message = format!("this limit is a number from {} to {}", range.start(), range.end());
                    self.fault(&value.span(), message);
                }
                *limit = size(*value.get_ref());
            }
        }
        if let Some(value) = &form.issuer_answer {
            if !(1024..=64 << 20).contains(value.get_ref()) {
                self.fault(&value.span(), "an answer of an issuer has from 1024 to 67108864 bytes");
            }
            limits.issuer_answer = *value.get_ref();
        }
        for (given, limit) in [
            (&form.handshake_rate, &mut limits.handshake_rate),
            (&form.handshake_rate_per_address, &mut limits.handshake_rate_per_address),
            (&form.handshake_rate_per_subject, &mut limits.handshake_rate_per_subject),
        ] {
            if given.is_some() {
                *limit = self.rate(given.as_ref());
            }
        }
        limits.traffic = self.traffic(form.bytes_rate.as_ref(), form.messages_rate.as_ref());
        limits.traffic_per_address =
            self.traffic(form.bytes_rate_per_address.as_ref(), form.messages_rate_per_address.as_ref());
        limits.traffic_per_subject =
            self.traffic(form.bytes_rate_per_subject.as_ref(), form.messages_rate_per_subject.as_ref());
        if let Some(value) = &form.list_size {
            limits.list_size = *value.get_ref();
        }
        for (given, limit, least) in [
            (&form.handshake_timeout, &mut limits.handshake_timeout, Duration::from_millis(1)),
            (&form.proxy_header_timeout, &mut limits.proxy_header_timeout, Duration::from_millis(1)),
            (&form.tls_timeout, &mut limits.tls_timeout, Duration::from_millis(1)),
            (&form.introspection_timeout, &mut limits.introspection_timeout, Duration::from_millis(10)),
            (&form.ticket_ttl, &mut limits.ticket_ttl, Duration::from_secs(1)),
            (&form.first_message_timeout, &mut limits.first_message_timeout, Duration::from_millis(1)),
            (&form.upstream_timeout, &mut limits.upstream_timeout, Duration::from_millis(1)),
            (&form.health_interval, &mut limits.health_interval, Duration::from_millis(100)),
            (&form.remote_connect_timeout, &mut limits.remote_connect_timeout, Duration::from_millis(1)),
            (&form.remote_idle_timeout, &mut limits.remote_idle_timeout, Duration::from_millis(1)),
            (&form.remote_timeout, &mut limits.remote_timeout, Duration::from_millis(1)),
            (&form.issuer_timeout, &mut limits.issuer_timeout, Duration::from_millis(1)),
            (&form.close_timeout, &mut limits.close_timeout, Duration::from_millis(1)),
            (&form.drain_timeout, &mut limits.drain_timeout, Duration::ZERO),
            (&form.ban_duration, &mut limits.ban_duration, Duration::from_secs(1)),
            (&form.audit_fold, &mut limits.audit_fold, Duration::ZERO),
        ] {
            let Some(text) = given else { continue };
            if let Some(duration) = self.duration(text) {
                if duration < least {
                    self.fault(&text.span(), "nobody can be that fast: allow some seconds, such as \"10s\"");
                }
                *limit = duration;
            }
        }
        for (given, limit) in [
            (&form.idle_timeout, &mut limits.idle_timeout),
            (&form.session_lifetime, &mut limits.session_lifetime),
        ] {
            let Some(text) = given else { continue };
            *limit = self.duration(text);
            if limit.is_some_and(|limit| limit < Duration::from_secs(1)) {
                self.fault(
                    &text.span(),
                    "every session would end at once: allow a second or more, such as \"1h\"",
                );
            }
        }
        limits
    }
}

/// Observed lists that would add nothing even if they were enforced.
fn inert(config: &Config) -> Vec<Diagnostic> {
    let drops = config.firewall.iter().filter(|firewall| firewall.default == Verdict::Drop);
    let observed = drops.flat_map(|firewall| &firewall.deny).filter(|list| list.observe);
    observed
        .map(|list| {
            let message = "observe has nothing to count here: with default = \"drop\" the default drops \
                           already what this list would drop";
            let fault = Diagnostic::of_file(&config.file, message).warning();
            Diagnostic { line: list.line, column: list.column, ..fault }
        })
        .collect()
}
