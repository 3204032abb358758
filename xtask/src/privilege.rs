//! What this process may do, as the kernel sees it.

use std::fs;

/// Capabilities by number (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Whether this process acts as root.
pub(crate) fn is_root() -> bool {
    // `Uid:` real, effective, saved, file system (proc(5)).
    status("Uid").and_then(|uids| uids.split_whitespace().nth(1)?.parse::<u32>().ok()) == Some(0)
}

/// Whether this process may load an XDP program and attach it.
pub(crate) fn may_attach() -> bool {
    let effective = status("CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0);
    attaches(effective)
}

fn attaches(effective: u64) -> bool {
    let has = |capability: u32| effective & (1 << capability) != 0;
    has(CAP_NET_ADMIN) && (has(CAP_BPF) || has(CAP_SYS_ADMIN))
}

fn status(field: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attaching_needs_both_net_admin_and_bpf() {
        assert!(attaches(u64::MAX));
        assert!(attaches(1 << CAP_NET_ADMIN | 1 << CAP_BPF));
        assert!(attaches(1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN));
        assert!(!attaches(1 << CAP_NET_ADMIN));
        assert!(!attaches(1 << CAP_BPF | 1 << CAP_SYS_ADMIN));
        assert!(!attaches(0));
    }

    #[test]
    fn the_kernel_tells_this_process_who_it_is() {
        assert!(status("Uid").is_some());
        assert!(status("CapEff").is_some());
        assert_eq!(status("NoSuchField"), None);
    }
}
