//! The text of `/metrics`: OpenMetrics 1.0. Labels take their values from the registry and from the
//! configuration, never from a client.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::overview::Overview;
use super::status::{ListStatus, NOT_ATTACHED, PolicyStatus};
use crate::metrics::Latency;

/// The text.
///
/// # Errors
///
/// Never, but the encoder says so.
pub fn text(overview: Overview) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("gatehouse");
    registry.register_collector(Box::new(Metrics(overview)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Metrics(Overview);

/// A row of a metric: its labels and its value.
type Row<'a, V> = (Vec<(&'static str, &'a str)>, V);

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn metric<'a, V>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        rows: impl IntoIterator<Item = Row<'a, V>>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                return write(metric, value);
            }
            write(metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    /// A number that only grows; `_total` is added to its name.
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, u64>>,
    ) -> fmt::Result {
        self.metric((name, help, MetricType::Counter), rows, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, f64>>,
    ) -> fmt::Result {
        self.metric((name, help, MetricType::Gauge), rows, |mut metric, value| metric.encode_gauge(&value))
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, &'a Latency>>,
    ) -> fmt::Result {
        self.metric((name, help, MetricType::Histogram), rows, |mut metric, latency| {
            let bounds = latency.bounds_s.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(latency.counts.iter().copied()).collect();
            metric.encode_histogram::<NoLabelSet>(latency.sum_s, latency.count(), &buckets, None)
        })
    }
}

fn one<V>(value: V) -> [Row<'static, V>; 1] {
    [(Vec::new(), value)]
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let Overview { rejections, sessions, handshakes, routes, configuration, status, started, .. } =
            &self.0;
        out.gauge("build_info", "The running daemon", [(vec![("version", status.version.as_str())], 1.0)])?;
        out.gauge("start_time_seconds", "When the daemon started, since 1970", one(*started as f64))?;
        out.gauge(
            "configuration_read_timestamp_seconds",
            "When the configuration in force was read, since 1970",
            one(configuration.read as f64),
        )?;
        out.counter(
            "configuration_refused",
            "Newer configurations that were refused as faulty",
            one(configuration.refused),
        )?;
        out.counter(
            "rejections",
            "Clients turned away: handshakes at the gateway, packets at the card (point nic)",
            rejections.iter().map(|row| {
                (
                    vec![("layer", row.layer.as_str()), ("reason", &row.reason), ("point", &row.point)],
                    row.count,
                )
            }),
        )?;
        out.counter(
            "admissions",
            "Sessions admitted",
            routes.iter().map(|row| (vec![("route", row.route.as_str())], row.admitted)),
        )?;
        out.gauge(
            "sessions",
            "Open sessions",
            routes.iter().map(|row| (vec![("route", row.route.as_str())], row.open as f64)),
        )?;
        out.gauge("sessions_limit", "Sessions that may be open at once", one(sessions.most as f64))?;
        out.counter(
            "sessions_ended",
            "Sessions that ended; layer and reason are empty where one of their ends closed them, or the gate stopped",
            sessions.ended.iter().map(|row| {
                (vec![("layer", row.layer.as_deref().unwrap_or("")), ("reason", row.reason.as_deref().unwrap_or(""))], row.count)
            }),
        )?;
        out.counter("sessions_renewed", "Sessions that went on with a fresh token", one(sessions.renewed))?;
        let ways = |up, down| [(vec![("direction", "up")], up), (vec![("direction", "down")], down)];
        out.counter(
            "relayed_bytes",
            "Bytes of ended sessions, from clients (up) and to them (down)",
            ways(sessions.bytes_up, sessions.bytes_down),
        )?;
        out.counter(
            "relayed_messages",
            "Messages of ended sessions, from clients (up) and to them (down)",
            ways(sessions.messages_up, sessions.messages_down),
        )?;
        out.histogram(
            "handshake_duration_seconds",
            "From the connection to the decision about it",
            [
                (vec![("outcome", "admitted")], &handshakes.admitted),
                (vec![("outcome", "rejected")], &handshakes.rejected),
            ],
        )?;
        out.histogram(
            "upstream_dial_duration_seconds",
            "What upstreams took to accept a session",
            one(&handshakes.dialled),
        )?;
        out.counter("audit_lost", "Entries of the audit trail that were lost", one(status.audit_lost_total))?;
        self.card(&mut out)?;
        if let Some(policy) = &status.policy {
            policy_metrics(&mut out, policy)?;
        }
        self.gateway(&mut out)
    }
}

impl Metrics {
    /// What the card counts.
    fn card(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.0.status;
        out.gauge(
            "interface_guarded",
            "Whether the XDP program runs on the interface",
            status
                .interfaces
                .iter()
                .map(|one| (vec![("interface", one.interface.as_str())], flag(one.mode != NOT_ATTACHED))),
        )?;
        let verdicts = status.interfaces.iter().flat_map(|one| {
            let labels = |verdict| vec![("interface", one.interface.as_str()), ("verdict", verdict)];
            [(labels("pass"), one.passed), (labels("drop"), one.dropped)]
        });
        out.counter("interface_packets", "Packets judged at the card", verdicts)?;
        let Some(packets) = &status.packets else { return Ok(()) };
        let labels = |verdict| vec![("verdict", verdict)];
        out.counter(
            "packets",
            "Packets judged at the card",
            [
                (labels("pass"), packets.passed),
                (labels("drop"), packets.dropped),
                (labels("malformed"), packets.malformed),
            ],
        )?;
        out.gauge(
            "card_counters_stale",
            "Whether the card cannot be read, so that its counters are those from before",
            one(flag(packets.stale)),
        )
    }

    /// Issuers, upstreams and certificates.
    fn gateway(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.0.status;
        let issuers = &status.issuers;
        let labelled = || issuers.iter().map(|issuer| (vec![("issuer", issuer.issuer.as_str())], issuer));
        out.gauge(
            "issuer_keys",
            "Keys that can verify tokens of the issuer",
            labelled().map(|(labels, issuer)| (labels, issuer.keys as f64)),
        )?;
        out.gauge(
            "issuer_keys_fault",
            "Whether newer keys of the issuer are not in force because of a fault",
            labelled().map(|(labels, issuer)| {
                let fetched = issuer.fetched.as_ref().is_some_and(|fetched| fetched.error.is_some());
                (labels, flag(issuer.error.is_some() || fetched))
            }),
        )?;
        let fetched = || labelled().filter_map(|(labels, issuer)| Some((labels, issuer.fetched.as_ref()?)));
        out.gauge(
            "issuer_keys_stale",
            "Whether the keys of the issuer are too old to judge by",
            fetched().map(|(labels, fetched)| (labels, flag(fetched.stale))),
        )?;
        out.gauge(
            "issuer_keys_age_seconds",
            "Seconds since the issuer last said what its keys are",
            fetched().filter_map(|(labels, fetched)| Some((labels, fetched.age_s? as f64))),
        )?;
        out.counter(
            "issuer_fetches",
            "Questions to the issuer about its keys, by result",
            fetched().flat_map(|(labels, fetched)| {
                let with = |result| labels.iter().copied().chain([("result", result)]).collect::<Vec<_>>();
                [(with("ok"), fetched.successes), (with("failed"), fetched.failures)]
            }),
        )?;
        let asked =
            || labelled().filter_map(|(labels, issuer)| Some((labels, issuer.introspection.as_ref()?)));
        out.gauge(
            "introspection_resting",
            "Whether the issuer is not asked about tokens for a while, because it failed",
            asked().map(|(labels, asked)| (labels, flag(asked.resting))),
        )?;
        let upstreams =
            || status.upstreams.iter().map(|one| (vec![("upstream", one.upstream.as_str())], one));
        out.gauge(
            "upstream_reachable",
            "Whether the upstream could be connected to the last time",
            upstreams().map(|(labels, one)| (labels, flag(one.reachable))),
        )?;
        out.gauge(
            "upstream_sessions",
            "Sessions that the upstream carries",
            upstreams().map(|(labels, one)| (labels, one.sessions as f64)),
        )?;
        let listeners = || status.listeners.iter().map(|one| (vec![("listener", one.address.as_str())], one));
        out.gauge(
            "certificate_until_timestamp_seconds",
            "When the certificate of the listener ceases to be valid, since 1970",
            listeners().filter_map(|(labels, one)| Some((labels, one.certificate_until? as f64))),
        )?;
        out.gauge(
            "certificate_fault",
            "Whether a newer certificate is not in force because of a fault",
            listeners().filter(|(_, one)| one.tls).map(|(labels, one)| (labels, flag(one.error.is_some()))),
        )
    }
}

fn policy_metrics(out: &mut Out<'_>, policy: &PolicyStatus) -> fmt::Result {
    out.gauge("policy_generation", "Number of the address policy in force", one(policy.generation as f64))?;
    out.gauge(
        "policy_fault",
        "Whether a newer address policy is not in force because of a fault",
        one(flag(policy.error.is_some())),
    )?;
    out.gauge(
        "policy_edits_wait",
        "Whether edits of lists wait to be applied",
        one(flag(policy.edits_wait)),
    )?;
    if let (Some(compiled), Some(seconds)) = (policy.compiled, policy.compile_s) {
        out.gauge(
            "policy_compiled_timestamp_seconds",
            "When the address policy in force was compiled, since 1970",
            one(compiled as f64),
        )?;
        out.gauge("policy_compile_seconds", "How long that took", one(seconds))?;
    }
    out.gauge(
        "policy_memory_bytes",
        "Memory of the tables of the address policy",
        one(policy.memory as f64),
    )?;
    let lists = || {
        policy.lists.iter().map(|one| (vec![("tier", one.tier.as_str()), ("list", one.list.as_str())], one))
    };
    out.gauge(
        "list_prefixes",
        "Prefixes of the list in force",
        lists().map(|(labels, one)| (labels, one.prefixes as f64)),
    )?;
    out.counter(
        "list_packets",
        "Packets that the list decided at the card",
        lists().map(|(labels, one)| (labels, one.packets)),
    )?;
    out.counter(
        "list_dropped_packets",
        "Packets that the list dropped at the card",
        lists().map(|(labels, one)| (labels, one.dropped)),
    )?;
    out.gauge(
        "list_changed_timestamp_seconds",
        "When the content of the list in force came there, since 1970",
        lists().filter_map(|(labels, one)| Some((labels, one.changed? as f64))),
    )?;
    let fault = |one: &ListStatus| {
        let remote = one.remote.as_ref().is_some_and(|remote| remote.error.is_some());
        flag(one.error.is_some() || one.held_back.is_some() || remote)
    };
    out.gauge(
        "list_fault",
        "Whether newer content of the list is not in force",
        lists().map(|(labels, one)| (labels, fault(one))),
    )
}
