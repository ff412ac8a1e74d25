//! Everything that set-up installs, in the versions it was tried with. The only place they stand.

/// A Debian package, and a program of it that shows that it is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// What the lab and its tests run.
pub(crate) const PACKAGES: [Package; 8] = [
    package("iproute2", "ip"),
    package("iproute2", "tc"),
    package("iptables", "ip6tables-restore"),
    package("nftables", "nft"),
    package("conntrack", "conntrack"),
    package("util-linux", "setpriv"),
    package("bind9-dnsutils", "dig"),
    package("dnsperf", "dnsperf"),
];

/// The other resolvers that `cargo xtask bench` measures.
pub(crate) const BENCH_PACKAGES: [Package; 2] = [
    package("unbound", "unbound"),
    package("dnsmasq-base", "dnsmasq"),
];

/// The rustup channel that compiles the eBPF programs, where it can be had with the component `rust-src`.
pub(crate) const NIGHTLY: &str = "nightly";
/// The newest LLVM whose bitcode that bpf-linker reads: a later compiler is of no use.
pub(crate) const LLVM: u32 = 22;
/// Debian's compiler with the standard library's source (1.96 in Debian 12), where it cannot.
pub(crate) const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The last line of bpf-linker that finds LLVM in the Rust tool chain.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// CoreDNS, a Go module.
pub(crate) const COREDNS_MODULE: &str = "github.com/coredns/coredns";
/// Its version.
pub(crate) const COREDNS: &str = "1.15.0";
/// The oldest Go that fetches by itself the newer one that CoreDNS asks for.
pub(crate) const GO: (u32, u32) = (1, 21);
/// Debian's package of Go.
pub(crate) const DEBIAN_GO: &str = "golang-go";
