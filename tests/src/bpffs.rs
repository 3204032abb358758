//! A BPF file system for the pins of one test.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// A mounted BPF file system that ends with the test, and whatever is pinned there with it.
#[derive(Debug)]
pub struct BpfFs(TempDir);

impl BpfFs {
    /// Mounts a new one. `ip netns exec` hides the host's own, and this one it does not.
    pub fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status();
        ensure!(mounted.context("cannot start mount")?.success(), "no BPF file system can be mounted");
        Ok(Self(folder))
    }

    /// A folder for pins, which does not exist yet.
    pub fn pins(&self) -> PathBuf {
        self.0.path().join("gatehouse")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("a BPF file system stays behind at {}", self.0.path().display());
        }
    }
}
