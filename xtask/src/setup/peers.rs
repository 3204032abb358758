//! What the benches compare with.

use super::Gap;
use crate::tree::{ask, tool};

/// Programs of the bench: name, the argument that only asks for the version, and what to install.
const PEERS: [(&str, &str, Gap); 4] = [
    (
        "ip",
        "-V",
        Gap {
            what: "network namespaces",
            packages: &["iproute2"],
            without: "nothing can be measured; the daemon does not need it",
        },
    ),
    (
        "nft",
        "--version",
        Gap {
            what: "nftables, to compare with",
            packages: &["nftables"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
    (
        "ipset",
        "--version",
        Gap {
            what: "ipset, to compare with",
            packages: &["ipset"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
    (
        "iptables",
        "--version",
        Gap {
            what: "iptables, in which ipset is compared",
            packages: &["iptables"],
            without: "everything else is measured: start the bench itself, as `cargo xtask bench` does",
        },
    ),
];

/// What is missing.
pub(super) fn gaps() -> Vec<Gap> {
    let missing = PEERS.into_iter().filter(|(name, asks, _)| ask(tool(*name).arg(asks)).is_none());
    missing.map(|(_, _, gap)| gap).collect()
}
