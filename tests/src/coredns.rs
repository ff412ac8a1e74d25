//! Real CoreDNS, with a Corefile that the lab writes.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;

use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::process::Process;
use crate::tools;
use crate::zones::Zone;

/// CoreDNS's kubernetes plugin says "no such name" here although there are names below; a zone file cannot.
const AS_KUBERNETES: &str = r#"    template ANY ANY cluster.local {
        match "^(_(tcp|udp)\.[^_.]+\.[^.]+\.svc|dns)\.cluster\.local\.$"
        rcode NXDOMAIN
        authority "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"
        fallthrough
    }
"#;

/// Starts CoreDNS in the namespace with these zones; all other names it forwards, or refuses.
#[must_use]
pub fn start(netns: &Netns, what: &str, zones: &[Zone], forward: Option<SocketAddr>) -> Process {
    let binary = tools::binary("coredns");
    let dir = netns.scope().dir().join(what);
    fs::create_dir_all(&dir).or_panic(format_args!("making {}", dir.display()));
    let mut corefile = String::from(".:53 {\n    errors\n    loadbalance\n");
    if zones.iter().any(|zone| zone.name == "cluster.local") {
        corefile += AS_KUBERNETES;
    }
    for zone in zones {
        let path = dir.join(format!("{}.zone", zone.name));
        fs::write(&path, &zone.text).or_panic(format_args!("writing {}", path.display()));
        let _ = writeln!(
            corefile,
            "    file {} {} {{\n        reload 0\n    }}",
            path.display(),
            zone.name
        );
    }
    if let Some(server) = forward {
        let _ = writeln!(corefile, "    forward . {server}");
    }
    corefile += "}\n";
    let path = dir.join("Corefile");
    fs::write(&path, corefile).or_panic(format_args!("writing {}", path.display()));
    Process::start(netns, what, &binary, ["-conf".as_ref(), path.as_os_str()])
}
