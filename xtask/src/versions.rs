//! Everything that set-up installs, in the versions it was tried with. The only place they stand, but for
//! those of the eBPF tool chain: `ebpf_toolchain.rs`.

/// A Debian package, and a program or the path of a file that shows that it is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// What the lab and its tests run.
pub(crate) const PACKAGES: [Package; 10] = [
    package("iproute2", "ip"),
    package("iproute2", "tc"),
    package("iptables", "ip6tables-restore"),
    package("nftables", "nft"),
    package("conntrack", "conntrack"),
    package("util-linux", "setpriv"),
    package("ethtool", "ethtool"),
    package("bind9-dnsutils", "dig"),
    package("dnsperf", "dnsperf"),
    package("unbound", "unbound"),
];

/// Clients that the tests let the agent meet, and the compilers of those in `tests/clients`.
pub(crate) const REAL_PACKAGES: [Package; 9] = [
    package("knot-dnsutils", "kdig"),
    package("gcc", "gcc"),
    package("libc6-dev", "/usr/include/netdb.h"),
    package("libc-ares-dev", "/usr/include/ares.h"),
    package("nodejs", "node"),
    package(
        "python3-pycares",
        "/usr/lib/python3/dist-packages/pycares/__init__.py",
    ),
    package("default-jdk-headless", "javac"),
    package("libnetty-java", "/usr/share/java/netty-resolver-dns.jar"),
    package("musl-tools", "musl-gcc"),
];

/// The other resolvers that `cargo xtask bench` measures beside these, and its generator.
pub(crate) const BENCH_PACKAGES: [Package; 2] = [
    package("dnsmasq-base", "dnsmasq"),
    package("knot-dnsutils", "kxdpgun"),
];

/// What the node of `cargo xtask cluster` runs.
pub(crate) const CLUSTER_PACKAGES: [Package; 5] = [
    package("containerd", "containerd"),
    package("runc", "runc"),
    package("containernetworking-plugins", "/usr/lib/cni/portmap"),
    package("catatonit", "catatonit"),
    package("openssl", "openssl"),
];

/// What boots another kernel (`cargo xtask kernel`), and what is tested there alone.
pub(crate) const KERNEL_PACKAGES: [Package; 6] = [
    package("qemu-system-x86", "qemu-system-x86_64"),
    package("busybox-static", "busybox"),
    package("kmod", "depmod"),
    package("xz-utils", "xz"),
    package("util-linux", "setpriv"),
    package("ipvsadm", "ipvsadm"),
];

/// What builds an image from a Containerfile, to compare it with.
pub(crate) const IMAGE_PACKAGES: [Package; 1] = [package("buildah", "buildah")];

/// Debian's testing suite: for what Debian 12 has not, and is unpacked and not installed.
pub(crate) const TESTING: &str = "forky";

/// What builds an image for arm64 on another machine, and runs its program there.
pub(crate) const TO_ARM64_PACKAGES: [Package; 3] = [
    package("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    package("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a"),
    package("qemu-user", "qemu-aarch64"),
];

/// The same for amd64.
pub(crate) const TO_AMD64_PACKAGES: [Package; 3] = [
    package("gcc-x86-64-linux-gnu", "x86_64-linux-gnu-gcc"),
    package("libc6-dev-amd64-cross", "/usr/x86_64-linux-gnu/lib/libc.a"),
    package("qemu-user", "qemu-x86_64"),
];

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

/// Kubernetes, a Go module; `xtask/kubernetes/go.mod` has its version and those of all that it is made of.
pub(crate) const KUBERNETES: &str = "1.34.2";
/// Helm, a Go module.
pub(crate) const HELM_MODULE: &str = "helm.sh/helm/v3/cmd/helm";
/// Its version.
pub(crate) const HELM: &str = "3.19.0";
