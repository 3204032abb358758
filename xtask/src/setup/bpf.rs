//! The compiler and the linker of the XDP program.

use std::path::Path;

use anyhow::{Context, Result};

use super::Gap;
use crate::tree::{Tree, ask, run, tool, version};

/// The linker that is installed when there is none.
pub(super) const LINKER_VERSION: &str = "0.13.0";
const LEAST_LINKER: (u32, u32, u32) = (0, 13, 0);
const LLVM: &str = "/usr/lib/llvm-22";

/// No compiler for BPF.
pub(super) const TOOLCHAIN: Gap = Gap {
    what: "a Rust compiler for BPF",
    packages: &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
    without: "the daemon cannot be built, because the XDP program is part of it; \
              `cargo test -p xtask -p gateway-ebpf` still works",
};

const LINKER_LIBRARIES: Gap = Gap {
    what: "the LLVM libraries of bpf-linker",
    packages: &["llvm-22-dev"],
    without: "bpf-linker cannot be compiled, and the daemon not be built without it; \
              any bpf-linker of 0.13 or later on the PATH does as well",
};

/// How to do without Debian's compiler.
pub(super) const OTHER_ROUTE: &str = "The other way to build the XDP program: \
     `rustup toolchain install nightly --component rust-src`, and a bpf-linker on the PATH whose LLVM \
     is at least as new as the nightly's.";

/// A compiler for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// Debian's, with a compiled `core`.
    Debian,
    /// Rustup's nightly, which compiles `core` from its source.
    Nightly,
}

/// The compiler for BPF that is here.
pub(super) fn toolchain() -> Option<Toolchain> {
    if debian() {
        return Some(Toolchain::Debian);
    }
    let mut nightly = tool("rustup");
    nightly.args(["run", "nightly", "rustc", "--print", "sysroot"]).env("RUSTUP_AUTO_INSTALL", "0");
    let sysroot = ask(&mut nightly)?;
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir().then_some(Toolchain::Nightly)
}

fn debian() -> bool {
    let cargo = ask(tool("/usr/bin/cargo").arg("--version")).is_some();
    let recent = ask(tool("/usr/bin/rustc").arg("--version"))
        .and_then(|text| version(&text))
        .zip(version(env!("CARGO_PKG_RUST_VERSION")))
        .is_some_and(|(installed, needed)| installed >= needed);
    let core = ask(tool("/usr/bin/rustc").args(["--print", "sysroot"]))
        .is_some_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/bpfel-unknown-none/lib").is_dir());
    cargo && recent && core
}

/// What to say when the packages were installed and still there is no compiler.
pub(super) fn too_old() -> String {
    let found = ask(tool("/usr/bin/rustc").arg("--version")).unwrap_or_else(|| "no compiler".to_owned());
    format!(
        "the packages brought {found} at /usr/bin/rustc, but {} or later with a core for BPF is needed. \
         It is in Debian's security archive: check that bookworm-security is among the sources.\n{OTHER_ROUTE}",
        env!("CARGO_PKG_RUST_VERSION"),
    )
}

/// Whether a linker is here that starts and is recent.
pub(super) fn linker() -> bool {
    ask(tool("bpf-linker").arg("--version"))
        .and_then(|text| version(&text))
        .is_some_and(|version| version >= LEAST_LINKER)
}

/// What compiling the linker needs and is not here.
pub(super) fn linker_libraries() -> Option<Gap> {
    let llvm = Path::new(LLVM);
    let links = ask(tool(llvm.join("bin/llvm-config")).args(["--link-shared", "--libs"])).is_some();
    let headers = llvm.join("include/llvm-c/Core.h").is_file();
    (!(links && headers)).then_some(LINKER_LIBRARIES)
}

pub(super) fn install_linker(tree: &Tree) -> Result<()> {
    run(tree
        .cargo(&["install", "--locked", "--force", &format!("bpf-linker@{LINKER_VERSION}")])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM)
        .env_remove("CARGO_TARGET_DIR"))
    .context("bpf-linker was not installed")
}
