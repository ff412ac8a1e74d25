//! Real CoreDNS, with a Corefile that the lab writes.

use std::fmt::Write;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

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

/// Where its metrics are, as in a cluster.
const METRICS: u16 = 9153;

/// Starts CoreDNS in the namespace with these zones; all other names it forwards, or refuses.
#[must_use]
pub fn start(netns: &Netns, what: &str, zones: &[Zone], forward: Option<SocketAddr>) -> Process {
    let binary = tools::binary("coredns");
    let dir = netns.scope().dir().join(what);
    fs::create_dir_all(&dir).or_panic(format_args!("making {}", dir.display()));
    let mut corefile =
        format!(".:53 {{\n    errors\n    loadbalance\n    prometheus 127.0.0.1:{METRICS}\n");
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

/// How many queries the CoreDNS in this namespace was asked since its start.
#[must_use]
pub fn requests(netns: &Netns) -> u64 {
    requests_at(netns, METRICS)
}

/// The same of one that has its metrics at another port.
#[must_use]
pub(crate) fn requests_at(netns: &Netns, port: u16) -> u64 {
    let metrics = netns
        .run(|| get(port))
        .or_panic("asking CoreDNS for its metrics");
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("coredns_dns_requests_total{"));
    let count = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    counts.filter_map(count).sum::<f64>() as u64
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    // Without a coding and without chunks, unlike HTTP/1.1.
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
