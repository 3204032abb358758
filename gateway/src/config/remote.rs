//! Lists that are fetched: where from, how often, and into which file.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use url::{Host, Url};

use super::form;
use super::model::ListFiles;
use super::validate::Checker;

/// How often a list is fetched unless it says otherwise.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The longest interval: a list that is older has no value.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The shortest interval of a server that is somebody else's.
const SHORTEST: Duration = Duration::from_secs(60);
/// The shortest interval of a server on this host.
const SHORTEST_LOCAL: Duration = Duration::from_secs(1);

/// A list on a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteList {
    /// What the list is called everywhere: its URL without the query, which may be a secret.
    pub name: String,
    /// Where it is fetched from.
    pub url: SecretUrl,
    /// The newest copy that was a list.
    pub file: PathBuf,
    /// From one good answer to the next request.
    pub interval: Duration,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

/// A URL whose query may be a secret: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// The whole URL, for the request alone.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The URL without its query.
    pub fn shown(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.into()
    }

    /// A file name that no other URL has, and that does not tell the query.
    fn file_name(&self) -> String {
        use std::fmt::Write as _;
        let hash = digest(&SHA256, self.0.as_str().as_bytes());
        let mut name = String::with_capacity(69);
        for byte in hash.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.push_str(".list");
        name
    }
}

impl From<Url> for SecretUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Whether `url` may be asked at all: by https, or by http on this host, where nobody is between.
pub fn may_be_asked(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether `url` names a loopback address. `localhost` is a name, and names can be made to lie.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
        Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
        Some(Host::Domain(_)) | None => false,
    }
}

/// The list at the URL `text`, with the settings of `table` if there is one.
pub(super) fn check(
    checker: &mut Checker<'_>,
    text: &str,
    span: &Range<usize>,
    table: Option<&form::ListTable>,
) -> Option<ListFiles> {
    let url = url(text).map_err(|fault| checker.fault(span, fault)).ok()?;
    let Some(state) = checker.state().map(|state| state.join("lists")) else {
        checker.fault(
            span,
            "a list from a URL is kept on disk, so that it is in force at once after a restart: add \
             [state] with a folder, such as folder = \"/var/lib/gatehouse\"",
        );
        return None;
    };
    let shortest = if is_loopback(&url) { SHORTEST_LOCAL } else { SHORTEST };
    let interval = match table.and_then(|table| table.interval.as_ref()) {
        None => INTERVAL,
        Some(text) => {
            let interval = checker.duration(text)?;
            if !(shortest..=LONGEST).contains(&interval) {
                let message = format!(
                    "the interval is from {} to {} here: whoever serves the list should not mind",
                    humantime::format_duration(shortest),
                    humantime::format_duration(LONGEST)
                );
                checker.fault(&text.span(), message);
            }
            interval
        }
    };
    let ca = table.and_then(|table| table.ca.as_ref()).map(|ca| checker.path(ca.get_ref()));
    let url = SecretUrl(url);
    let file = state.join(url.file_name());
    let Some(name) = checker.remote_name(&url, &file) else {
        let message = format!("`{}` is there twice: remove one", url.shown());
        checker.fault(span, message);
        return None;
    };
    Some(ListFiles::Remote(RemoteList { name, url, file, interval, ca }))
}

/// The URL in `text`, or what is wrong with it. No message repeats what may be a secret.
fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("this is not a URL ({error}): write \"https://lists.example/deny.list\""))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password in the URL of a list is not supported: fetch the list into a \
                    file with a tool that keeps the password, and name the file here"
            .to_owned());
    }
    if url.fragment().is_some() {
        return Err(
            "a URL of a list has no part after `#`, which no server gets to see: remove it".to_owned()
        );
    }
    if !may_be_asked(&url) {
        return Err(match url.scheme() {
            "http" => "a list is fetched by https; http is for loopback addresses such as 127.0.0.1 alone, \
                       because anybody on the way could rewrite the list: write https://"
                .to_owned(),
            scheme => format!("a list cannot be fetched by `{scheme}`: write https://"),
        });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, parse};
    use super::*;

    fn with(items: &str) -> Result<Config, Vec<String>> {
        let text = format!("[firewall]\nmode = \"off\"\ndeny = [{items}]\n[state]\nfolder = \"state\"\n");
        parse(Path::new("/etc/g.toml"), &text)
            .map(|(config, _)| config)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    fn remotes(config: &Config) -> Vec<RemoteList> {
        config.remote_lists().map(|(_, list)| list.clone()).collect()
    }

    fn fault(items: &str) -> String {
        with(items).expect_err("faulty").join("\n")
    }

    #[test]
    fn a_url_is_a_list_that_is_fetched_every_hour() {
        let list = &remotes(&with("\"https://lists.example/a.list\"").expect("valid"))[0];
        assert_eq!((list.interval, list.ca.as_ref()), (INTERVAL, None));
        assert!(list.file.starts_with("/etc/state/lists"), "{}", list.file.display());
    }

    #[test]
    fn a_table_says_how_often_and_whom_to_trust() {
        let item = "{ list = \"https://lists.example/a.list\", interval = \"10m\", ca = \"ca.pem\" }";
        let list = &remotes(&with(item).expect("valid"))[0];
        assert_eq!((list.interval.as_secs(), list.ca.as_deref()), (600, Some(Path::new("/etc/ca.pem"))));
    }

    #[test]
    fn a_query_is_in_no_name_and_two_queries_are_two_lists() {
        let config = with("\"https://l.example/a?key=one\", \"https://l.example/a?key=two\"").expect("valid");
        let lists = remotes(&config);
        assert_eq!([&*lists[0].name, &*lists[1].name], ["https://l.example/a", "https://l.example/a (2)"]);
        assert_ne!(lists[0].file, lists[1].file);
        assert!(!format!("{config:?}").contains("key="), "{config:?}");
    }

    #[test]
    fn a_url_that_cannot_be_fetched_safely_is_refused_without_repeating_it() {
        for (item, expected) in [
            ("http://lists.example/a?key=hush", "https://"),
            ("http://localhost/a?key=hush", "loopback addresses"),
            ("ftp://lists.example/a?key=hush", "`ftp`"),
            ("https://me:hush@lists.example/a", "into a file"),
            ("https://lists.example/a#hush", "`#`"),
            ("https://[::1?hush", "not a URL"),
        ] {
            let fault = fault(&format!("\"{item}\""));
            assert!(fault.contains(expected) && !fault.contains("hush"), "{fault}");
        }
        for item in ["http://127.0.0.1:8000/a", "http://[::1]/a"] {
            with(&format!("\"{item}\"")).expect("valid");
        }
    }

    #[test]
    fn the_same_url_twice_or_an_interval_that_hurts_is_refused() {
        assert!(fault("\"https://l.example/a\", \"https://l.example/a\"").contains("twice"));
        let often = |host: &str| format!("{{ list = \"{host}/a\", interval = \"1s\" }}");
        assert!(fault(&often("https://l.example")).contains("1m"));
        with(&often("http://127.0.0.1")).expect("this host may be asked every second");
        let file = "{ list = \"deny.list\", interval = \"1h\" }";
        assert!(fault(file).contains("file"), "{}", fault(file));
    }

    #[test]
    fn a_url_without_a_state_folder_is_refused() {
        let text = "[firewall]\nmode = \"off\"\ndeny = [\"https://l.example/a\"]\n";
        let faults = parse(Path::new("g.toml"), text).expect_err("faulty");
        assert!(faults[0].message.contains("[state]"), "{}", faults[0]);
    }
}
