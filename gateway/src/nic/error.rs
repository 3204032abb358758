//! What can go wrong at the card, each with its remedy.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::AttachedMode;

/// Why the card does not guard.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// No such interface in this network namespace.
    #[error(
        "there is no interface {interface:?}: correct `interfaces` in [firewall], or create it \
         first (`ip link` lists those that exist)"
    )]
    NoInterface {
        /// As configured.
        interface: String,
    },
    /// Frames of this interface have no Ethernet header.
    #[error(
        "interface {interface:?} does not carry Ethernet frames (its hardware type is {kind}), so \
         the program cannot read them: attach to the Ethernet interface beneath it"
    )]
    NotEthernet {
        /// As configured.
        interface: String,
        /// `ARPHRD_*`.
        kind: u16,
    },
    /// Another XDP program is there already, and stays.
    #[error(
        "interface {interface:?} already runs another XDP program in {mode} mode ({program}), \
         which is left alone: stop its owner, or if nobody owns it, `ip link set dev {interface} \
         {off} off` (if it is pinned by a gatehouse with another `pins`, `gatehouse detach` with that \
         one's configuration); then start again"
    )]
    Foreign {
        /// As configured.
        interface: String,
        /// The other program's mode.
        mode: AttachedMode,
        /// The other program: number and, if the kernel tells, name.
        program: String,
        /// The keyword of `ip link` for the mode.
        off: &'static str,
    },
    /// Pins cannot be there.
    #[error(
        "{} is not in a BPF file system, so the drops could not go on without the daemon: mount one \
         (`mount -t bpf bpf /sys/fs/bpf`; systemd does), or set `pins = \"none\"` in [firewall], and \
         they end with the daemon", .folder.display()
    )]
    NotPinnable {
        /// As configured.
        folder: PathBuf,
    },
    /// The folder of the pins, or what is in it, cannot be read or changed.
    #[error(
        "the pins in {} cannot be used ({source}): run as root, or with CAP_BPF and CAP_NET_ADMIN and \
         a folder that belongs to the service's user; what is in force stays", .folder.display()
    )]
    PinsUnusable {
        /// As configured.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Somebody works with the same pins.
    #[error(
        "another gatehouse uses the pins in {}: stop it first, or give each its own `pins` in \
         [firewall] and its own interfaces", .folder.display()
    )]
    PinsInUse {
        /// As configured.
        folder: PathBuf,
    },
    /// The links that are pinned guard interfaces elsewhere.
    #[error(
        "the pins in {} guard interfaces of another network namespace: give each namespace its own \
         `pins` in [firewall], or remove these with `gatehouse detach`", .folder.display()
    )]
    OtherNamespace {
        /// As configured.
        folder: PathBuf,
    },
    /// Not allowed.
    #[error(
        "not allowed to {action} ({source}): run as root, or with the capabilities CAP_BPF, \
         CAP_PERFMON and CAP_NET_ADMIN"
    )]
    Permission {
        /// What was tried.
        action: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// The kernel does not know how.
    #[error(
        "the kernel ({release}) does not {action}: {reason}. Linux 5.18 or newer is needed, built \
         with CONFIG_BPF_SYSCALL, CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF; without it, set \
         `mode = \"off\"` in [firewall] and the lists decide at the gateway only"
    )]
    Kernel {
        /// The release of the running kernel.
        release: String,
        /// What was tried.
        action: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The driver or the device refuses the program.
    #[error("interface {interface:?} cannot run the program in {mode} mode: {reason}. {remedy}")]
    Refused {
        /// As configured.
        interface: String,
        /// The mode that was tried.
        mode: AttachedMode,
        /// The driver's own words if it had any, else the system's.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Nothing to attach with.
    #[error("`mode = \"off\"` in [firewall]: nothing is attached to {interface:?}")]
    Off {
        /// As configured.
        interface: String,
    },
    /// Attaching before the first publication would let everything pass.
    #[error("no generation has been published yet, so {interface:?} cannot be guarded")]
    Unpublished {
        /// As configured.
        interface: String,
    },
    /// The blocks are no generation of this ABI.
    #[error("these {blocks} blocks are not generation {number} of this program's format")]
    NotAGeneration {
        /// Which generation they were said to be.
        number: u64,
        /// How many.
        blocks: usize,
    },
    /// No room for the tables.
    #[error(
        "the kernel has no memory for a generation of {bytes} bytes ({source}): shorten the lists, \
         or raise the memory limit of the service; the former generation stays in force"
    )]
    Memory {
        /// Bytes that are needed.
        bytes: u64,
        /// The system's words.
        source: io::Error,
    },
    /// Any other failure.
    #[error("could not {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl NicError {
    /// From an error of aya or the system while trying to do `action`.
    pub(super) fn from_error(action: &'static str, error: &(dyn Error + 'static)) -> Self {
        let code = errno(error);
        if let Some(libc::EPERM | libc::EACCES) = code {
            // A program that the verifier refuses also ends here, with its reason in the words.
            let words = first_words(error);
            if code == Some(libc::EPERM) || !words.contains("erifier") {
                let source = io::Error::from_raw_os_error(code.unwrap_or_default());
                return Self::Permission { action, source };
            }
        }
        match code {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOENT) => {
                Self::System { action, source: io::Error::from_raw_os_error(code.unwrap_or_default()) }
            }
            _ => Self::Kernel { release: release(), action, reason: first_words(error) },
        }
    }

    /// From an error of the system while trying to do `action`.
    pub(super) fn from_io(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { action, source },
            _ => Self::System { action, source },
        }
    }
}

/// The error number at the root of an error, if it came from the system.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    // No chain of causes is longer in practice; a cyclic one must not hang us.
    for _ in 0..16 {
        let error = cause?;
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return system.raw_os_error();
        }
        cause = error.source();
    }
    None
}

/// An error and its causes in one line; the verifier's log, which comes with some, is cut to its
/// last lines, where the reason stands.
fn first_words(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut cause = Some(error);
    for _ in 0..16 {
        let Some(error) = cause else { break };
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = match lines.as_slice() {
            [first, .., before, last] => format!("{first} … {before}; {last}"),
            few => few.join("; "),
        };
        if !words.iter().any(|earlier| earlier.contains(&shown)) {
            words.push(shown);
        }
        cause = error.source();
    }
    words.join(": ")
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "release unknown".to_owned(), |release| release.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("`BPF_PROG_LOAD` failed")]
    struct Outer(#[source] io::Error);

    fn from_code(code: i32) -> NicError {
        NicError::from_error("load the XDP program", &Outer(io::Error::from_raw_os_error(code)))
    }

    #[test]
    fn a_missing_privilege_is_named() {
        let error = from_code(libc::EPERM);
        assert!(matches!(error, NicError::Permission { .. }), "{error:?}");
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
    }

    #[test]
    fn a_missing_feature_names_the_kernel_that_has_it() {
        let error = from_code(libc::EINVAL);
        assert!(matches!(error, NicError::Kernel { .. }), "{error:?}");
        assert!(error.to_string().contains("Linux 5.18 or newer"), "{error}");
    }

    #[test]
    fn of_a_log_only_the_reason_is_shown() {
        let log = format!("it failed: {}reason\nprocessed 4 insns\n", "line\n".repeat(1000));
        let shown = first_words(&io::Error::other(log));
        assert_eq!(shown, "it failed: line … reason; processed 4 insns");
    }
}
