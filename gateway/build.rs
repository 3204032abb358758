//! Builds the XDP program and leaves it where `nic` embeds it.
//!
//! The program needs a Rust toolchain with a `core` for `bpfel-unknown-none`, which is not the one
//! that builds the daemon: either Debian's, which brings it prebuilt, or a nightly with its source.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "gatehouse-xdp";
/// The programs of the bench, only with its feature.
const BENCH_PROGRAM: &str = "gatehouse-bench-xdp";

const NO_TOOLCHAIN: &str = "\
no Rust toolchain here can build for bpfel-unknown-none, which the XDP program needs.
`cargo xtask setup` installs one. By hand, either
  - Debian's: apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf
    (these conflict with Debian's own `rustc`, `cargo` and `rustup` packages), or
  - rustup's: rustup toolchain install nightly --component rust-src";

const NO_LINKER: &str = "\
bpf-linker is neither on the PATH nor in Cargo's bin directory; the XDP program needs it.
`cargo xtask setup` installs it. By hand:
  LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker@0.13.0 --no-default-features --features llvm-22";

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .parent()
        .ok_or("the package has no parent directory")?
        .to_owned();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in ["gateway-ebpf/src", "gateway-ebpf/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }

    build(&workspace, &out, PROGRAM, "program")?;
    if env::var_os("CARGO_FEATURE_BENCH").is_some() {
        build(&workspace, &out, BENCH_PROGRAM, "bench-program")?;
    }
    Ok(())
}

/// Builds one binary of the package of XDP programs, with one feature, into `out`.
fn build(workspace: &Path, out: &Path, program: &str, feature: &str) -> Result<(), Box<dyn Error>> {
    let linker = linker().ok_or(NO_LINKER)?;
    let mut cargo = toolchain().ok_or(NO_TOOLCHAIN)?;
    let target_dir = out.join("xdp");
    let rustflags = [
        format!("-Clinker={}", linker.display()),
        // 32-bit registers and jumps, in the kernel since 5.12.
        "-Ctarget-cpu=v3".to_owned(),
        // Packets are not aligned: one load instead of one for each byte.
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        // Maps are declared by their BTF.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // The same program wherever it is built.
        format!("--remap-path-prefix={}=.", workspace.display()),
    ];
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(["--package", "gateway-ebpf", "--bin", program])
        .args(["--features", feature, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"))
        // What the daemon is built with does not suit the program: a panic has nowhere to go.
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2");
    let status = cargo.status().map_err(|error| format!("{cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!("building {program} failed ({status}); its messages are above").into());
    }
    fs::copy(target_dir.join(TARGET).join("release").join(program), out.join(program))?;
    Ok(())
}

/// The Cargo of the first toolchain that can build for the target.
fn toolchain() -> Option<Command> {
    let mut rustc = clean(Command::new("/usr/bin/rustc"));
    if sysroot(&mut rustc).is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir()) {
        let mut cargo = clean(Command::new("/usr/bin/cargo"));
        // rustc takes `feature` attributes (inline assembly for BPF) from a stable compiler only
        // so.
        cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        return Some(cargo);
    }
    let nightly = |tool| {
        let mut command = clean(Command::new("rustup"));
        command.args(["run", "nightly", tool]);
        command
    };
    let root = sysroot(&mut nightly("rustc"))?;
    if !root.join("lib/rustlib/src/rust/library/core").is_dir() {
        return None;
    }
    let mut cargo = nightly("cargo");
    cargo.args(["-Z", "build-std=core"]);
    Some(cargo)
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}

/// Without what Cargo and rustup set for the toolchain that builds the daemon.
fn clean(mut command: Command) -> Command {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let foreign = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if foreign
            || name.starts_with("RUSTC")
            || matches!(&*name, "RUSTFLAGS" | "RUSTDOC" | "RUSTUP_TOOLCHAIN" | "LD_LIBRARY_PATH")
        {
            command.env_remove(&*name);
        }
    }
    command
}

fn linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
}
