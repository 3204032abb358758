//! What is in the memory of the daemon stays there.

use nix::sys::prctl::set_dumpable;

/// Forbids core dumps, whatever the limits of the host are, and tracing by others than root: the
/// memory of the daemon holds tokens and secrets.
pub(super) fn keep_private() {
    if let Err(error) = set_dumpable(false) {
        log::error!(
            "core dumps cannot be forbidden ({error}), and one would hold tokens: set LimitCORE=0 in the unit"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_daemon_never_reaches_a_core_dump() {
        set_dumpable(true).unwrap();
        keep_private();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        set_dumpable(true).unwrap();
    }
}
