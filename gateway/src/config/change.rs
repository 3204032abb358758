//! What of a configuration that was read anew can be put in force while the daemon runs.

use super::model::{Config, Firewall, Limits};

impl Config {
    /// This configuration with the address policy of `fresh`: everything in `[firewall]` but what
    /// the XDP program is bound to. Beside it, what else differs in `fresh` and needs a restart.
    #[must_use]
    pub fn with_policy_of(&self, fresh: &Self) -> (Self, Vec<&'static str>) {
        let mut config = self.clone();
        let mut restart = Vec::new();
        for (what, differs) in [
            ("[[listen]]", self.listen != fresh.listen),
            ("[[issuer]]", self.issuers != fresh.issuers),
            ("[[route]]", self.routes != fresh.routes),
            ("[limits]", self.limits != fresh.limits),
            ("[echo]", self.echo != fresh.echo),
            ("[control]", self.control != fresh.control),
            ("[admin]", self.admin != fresh.admin),
            ("[state]", self.state != fresh.state),
        ] {
            restart.extend(differs.then_some(what));
        }
        match (&self.firewall, &fresh.firewall) {
            (Some(own), Some(new)) => {
                config.firewall = Some(Firewall {
                    interfaces: own.interfaces.clone(),
                    mode: own.mode,
                    ports: own.ports.clone(),
                    reports_per_second: own.reports_per_second,
                    pins: own.pins.clone(),
                    ..new.clone()
                });
                for (what, differs) in [
                    ("[firewall] interfaces", own.interfaces != new.interfaces),
                    ("[firewall] mode", own.mode != new.mode),
                    ("[firewall] ports", own.ports != new.ports),
                    ("[firewall] pins", own.pins != new.pins),
                    ("[firewall] reports_per_second", own.reports_per_second != new.reports_per_second),
                ] {
                    restart.extend(differs.then_some(what));
                }
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => restart.push("[firewall]"),
        }
        (config, restart)
    }

    /// This configuration with all of `fresh` that can change while the daemon runs. Beside it, what
    /// else differs in `fresh` and needs a restart.
    #[must_use]
    pub fn reloaded_as(&self, fresh: &Self) -> (Self, Vec<&'static str>) {
        let (mut config, mut restart) = self.with_policy_of(fresh);
        restart.retain(|what| !matches!(*what, "[[listen]]" | "[[issuer]]" | "[[route]]" | "[limits]"));
        config.issuers.clone_from(&fresh.issuers);
        config.routes.clone_from(&fresh.routes);
        config.public_url.clone_from(&fresh.public_url);
        config.limits = self.limits.changed_to(&fresh.limits);
        if config.limits != fresh.limits {
            restart.push("[limits] audit_*, health_interval, introspection_*, issuer_* or remote_*");
        }
        config.listen.clone_from(&fresh.listen);
        config.revocation.clone_from(&fresh.revocation);
        (config, restart)
    }
}

impl Limits {
    /// Those of `fresh` that can change while the daemon runs, and of these what its tasks and queues
    /// were made with.
    fn changed_to(&self, fresh: &Self) -> Self {
        Self {
            audit_queue: self.audit_queue,
            audit_at_once: self.audit_at_once,
            audit_fold: self.audit_fold,
            audit_folded: self.audit_folded,
            audit_remembered: self.audit_remembered,
            health_interval: self.health_interval,
            introspection_timeout: self.introspection_timeout,
            introspection_cache: self.introspection_cache,
            introspection_requests: self.introspection_requests,
            issuer_timeout: self.issuer_timeout,
            issuer_answer: self.issuer_answer,
            issuer_waiters: self.issuer_waiters,
            remote_connect_timeout: self.remote_connect_timeout,
            remote_idle_timeout: self.remote_idle_timeout,
            remote_timeout: self.remote_timeout,
            ..fresh.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Reload, parse};
    use crate::policy::Verdict;

    fn config(text: &str) -> Config {
        parse(Path::new("/g/g.toml"), text).expect("valid").0
    }

    #[test]
    fn the_policy_is_taken_over_and_the_rest_is_named() {
        let running = config("[firewall]\ninterfaces = [\"a\"]\ndeny = [\"a.list\"]\n");
        let fresh = config(
            "[firewall]\ninterfaces = [\"b\"]\nports = [22]\ndeny = [\"b.list\"]\ndefault = \"drop\"\n\
             never_block = [\"::1\"]\nreload = \"manual\"\n[limits]\nprefixes = 7\n",
        );
        let (merged, restart) = running.with_policy_of(&fresh);
        assert_eq!(restart, ["[limits]", "[firewall] interfaces", "[firewall] ports"]);
        let (firewall, new) = (merged.firewall.expect("there"), fresh.firewall.expect("there"));
        assert_eq!((firewall.default, firewall.reload), (Verdict::Drop, Reload::Manual));
        assert_eq!((firewall.deny, firewall.never_block), (new.deny, new.never_block));
        assert_eq!(firewall.interfaces, ["a"]);
        assert_eq!(merged.limits, running.limits);
        assert_eq!(running.with_policy_of(&running).1, <[&str; 0]>::default());
    }

    #[test]
    fn a_reload_takes_over_what_can_change_and_names_the_rest() {
        let running = config("[[listen]]\naddress = \"127.0.0.1:1\"\n");
        let fresh = config(
            "[[listen]]\naddress = \"127.0.0.1:1\"\nclient_address = \"forwarded\"\ntrusted_proxies = [\"::1\"]\n\
             [gateway]\npublic_url = \"https://a.test\"\n[limits]\nsessions = 7\naudit_queue = 99\n",
        );
        let (merged, restart) = running.reloaded_as(&fresh);
        assert_eq!((merged.limits.sessions, merged.limits.audit_queue), (7, running.limits.audit_queue));
        assert_eq!((merged.listen, merged.public_url), (fresh.listen, fresh.public_url));
        assert!(restart.len() == 1 && restart[0].starts_with("[limits] audit_*"), "{restart:?}");
        let elsewhere = config("[[listen]]\naddress = \"127.0.0.1:2\"\n");
        let (merged, restart) = running.reloaded_as(&elsewhere);
        assert_eq!((merged.listen, restart), (elsewhere.listen, vec![]));
    }

    #[test]
    fn a_firewall_that_comes_or_goes_needs_a_restart() {
        let (with, without) = (config("[firewall]\nmode = \"off\"\n"), config(""));
        assert_eq!(with.with_policy_of(&without).1, ["[firewall]"]);
        let (merged, restart) = without.with_policy_of(&with);
        assert_eq!((restart, merged.firewall), (vec!["[firewall]"], None));
    }
}
