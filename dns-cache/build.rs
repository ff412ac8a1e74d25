//! Compiles the eBPF programs and hands their object file to the agent.
//!
//! Own code in place of `aya-build`: that one cannot use Debian's `rust-web-src` without a rustup
//! link and process-wide environment variables, and does not know where set-up put the linker.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

#[path = "../xtask/src/ebpf_toolchain.rs"]
mod ebpf_toolchain;

use ebpf_toolchain::Toolchain;

const PACKAGE: &str = "dns-cache-ebpf";

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    let root = manifest
        .parent()
        .context("the crate lies in the workspace")?;
    for part in [
        "dns-cache-ebpf",
        "dns-cache-common",
        "Cargo.lock",
        "xtask/src/ebpf_toolchain.rs",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(part).display());
    }

    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let mut path = vec![tools_dir().join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    if !path.iter().any(|dir| dir.join("bpf-linker").is_file()) {
        bail!(
            "bpf-linker is neither in {} nor on PATH: run `cargo xtask setup`",
            path[0].display()
        );
    }

    let mut cargo = toolchain(&out)?;
    let target_dir = out.join("ebpf");
    cargo
        .current_dir(root)
        .env("PATH", env::join_paths(path)?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            PACKAGE,
            "-Zbuild-std=core",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&target_dir);
    let output = cargo
        .output()
        .with_context(|| format!("cannot run {cargo:?}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "the eBPF programs do not compile ({}):\n{messages}",
            output.status
        );
    }
    for line in messages.lines().filter(|line| line.starts_with("warning")) {
        println!("cargo:warning={line}");
    }
    let object = target_dir.join(target).join("release").join(PACKAGE);
    println!("cargo:rustc-env=DNS_CACHE_EBPF_OBJECT={}", object.display());
    Ok(())
}

fn rustflags(root: &Path) -> Result<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    // Line information is part of the object: the same object wherever it is built.
    let home = env::var("CARGO_HOME")
        .or_else(|_| Ok::<_, env::VarError>(format!("{}/.cargo", env::var("HOME")?)))?;
    // Block placement may put a loop's end in front of its beginning, so that it goes back without a jump: Linux 5.10 refuses
    // that (a test of `datapath::inspect` looks).
    Ok([
        format!("--cfg=bpf_target_arch=\"{arch}\"").as_str(),
        "-Cdebuginfo=2",
        "-Dwarnings",
        "-Clink-arg=--btf",
        "-Clink-arg=--llvm-args=-disable-block-placement",
        &format!("--remap-path-prefix={}=/dns-cache", root.display()),
        &format!("--remap-path-prefix={home}=/cargo"),
    ]
    .join("\x1f"))
}

/// A cargo whose standard library's source is there; `out` is for what it needs.
fn toolchain(out: &Path) -> Result<Command> {
    let Some((toolchain, _)) = ebpf_toolchain::found() else {
        bail!(
            "no Rust tool chain with the standard library's source and LLVM {} or older for the eBPF target: \
             run `cargo xtask setup` (it takes rustup's nightly, Debian's {}, or rustup's {})",
            ebpf_toolchain::NEWEST_LLVM,
            ebpf_toolchain::DEBIAN_PACKAGES.join(" "),
            ebpf_toolchain::PINNED_NIGHTLY,
        )
    };
    let mut cargo = toolchain.program("cargo");
    cargo.env_remove("CARGO");
    match toolchain {
        Toolchain::Rustup(_) => cargo.env_remove("RUSTC"),
        Toolchain::Debian => cargo
            .env("RUSTC", toolchain.program("rustc").get_program())
            .env_remove("RUSTUP_TOOLCHAIN")
            .env(LIBRARIES, libraries(toolchain, &out.join("llvm"))?),
    };
    Ok(cargo)
}

/// Where programs look for libraries first.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// [`LIBRARIES`] for bpf-linker, which takes the first libLLVM that it sees there: that of this compiler alone is put into
/// `dir`. (rustup names its own for what it runs.)
fn libraries(toolchain: Toolchain, dir: &Path) -> Result<OsString> {
    let rustc = toolchain.program("rustc");
    let listed = Command::new("ldd").arg(rustc.get_program()).output();
    let listed = listed.context("cannot run ldd")?.stdout;
    let listed = String::from_utf8_lossy(&listed);
    // libLLVM.so.22.1 => /lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x00007fa1fb141000)
    let llvm = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("libLLVM"))
        .find_map(|line| line.split_whitespace().nth(2))
        .with_context(|| {
            format!("{rustc:?} has no libLLVM of its own that bpf-linker could use")
        })?;
    let link = dir.join("libLLVM.so");
    if fs::read_link(&link).ok().as_deref() != Some(Path::new(llvm)) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir)?;
        symlink(llvm, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    let mut dirs = vec![dir.to_owned()];
    dirs.extend(env::split_paths(
        &env::var_os(LIBRARIES).unwrap_or_default(),
    ));
    Ok(env::join_paths(dirs)?)
}

/// Where `cargo xtask setup` puts what it builds; the same rule as in xtask.
fn tools_dir() -> PathBuf {
    if let Some(dir) = env::var_os("DNS_CACHE_TOOLS") {
        return dir.into();
    }
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
        PathBuf::from,
    );
    cache.join("dns-cache").join("tools")
}
