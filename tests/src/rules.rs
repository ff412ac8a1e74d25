//! kube-proxy's rules (iptables mode) for the kube-dns service, and a CNI's masquerading.

use std::fmt::Write;
use std::net::IpAddr;

use crate::addresses::{CLUSTER_CIDR, CLUSTER_IP, Family, Pair};

/// A service port as kube-proxy names it.
struct Port {
    protocol: &'static str,
    name: &'static str,
    chain: &'static str,
    endpoint_chain: &'static str,
}

const PORTS: [Port; 2] = [
    Port {
        protocol: "udp",
        name: "kube-system/kube-dns:dns",
        chain: "KUBE-SVC-TCOU7JCQXEZGVUNU",
        endpoint_chain: "KUBE-SEP-UDP",
    },
    Port {
        protocol: "tcp",
        name: "kube-system/kube-dns:dns-tcp",
        chain: "KUBE-SVC-ERIFXISQEP7F7OF4",
        endpoint_chain: "KUBE-SEP-TCP",
    },
];

/// Input for `iptables-restore` or `ip6tables-restore`: the rules while the service has these endpoints.
#[must_use]
pub fn kube_proxy(family: Family, endpoints: &[Pair]) -> String {
    let (bits, cidr) = match family {
        Family::V4 => (32, CLUSTER_CIDR.0),
        Family::V6 => (128, CLUSTER_CIDR.1),
    };
    let masquerade = masquerade(cidr);
    let cluster_ip = CLUSTER_IP.of(family);
    let mut chains = String::new();
    let mut rules = String::new();
    let mut chain = |name: &str| chains += &format!(":{name} - [0:0]\n");
    let mut rule = |text: String| rules += &format!("-A {text}\n");

    for name in ["KUBE-SERVICES", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"] {
        chain(name);
    }
    rule(r#"PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#.into());
    rule(r#"OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#.into());
    rule(
        r#"POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING"#
            .into(),
    );
    rule(masquerade);
    rule("KUBE-MARK-MASQ -j MARK --or-mark 0x4000".into());
    rule("KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".into());
    rule("KUBE-POSTROUTING -j MARK --xor-mark 0x4000".into());
    rule(r#"KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#.into());
    for Port {
        protocol,
        name,
        chain: service,
        endpoint_chain,
    } in PORTS
    {
        if endpoints.is_empty() {
            continue;
        }
        chain(service);
        rule(format!(
            r#"KUBE-SERVICES -d {cluster_ip}/{bits} -p {protocol} -m comment --comment "{name} cluster IP" -m {protocol} --dport 53 -j {service}"#
        ));
        rule(format!(
            r#"{service} ! -s {cidr} -d {cluster_ip}/{bits} -p {protocol} -m comment --comment "{name} cluster IP" -m {protocol} --dport 53 -j KUBE-MARK-MASQ"#
        ));
        for (index, endpoint) in endpoints.iter().enumerate() {
            let separate = format!("{endpoint_chain}{index:012}");
            chain(&separate);
            let left = endpoints.len() - index;
            let choice = if left > 1 {
                format!(
                    " -m statistic --mode random --probability {:.10}",
                    1.0 / left as f64
                )
            } else {
                String::new()
            };
            let endpoint = endpoint.of(family);
            let target = match endpoint {
                IpAddr::V4(a) => format!("{a}:53"),
                IpAddr::V6(a) => format!("[{a}]:53"),
            };
            rule(format!(
                r#"{service} -m comment --comment "{name} -> {target}"{choice} -j {separate}"#
            ));
            rule(format!(
                r#"{separate} -s {endpoint}/{bits} -m comment --comment "{name}" -j KUBE-MARK-MASQ"#
            ));
            rule(format!(
                r#"{separate} -p {protocol} -m comment --comment "{name}" -m {protocol} -j DNAT --to-destination {target}"#
            ));
        }
    }

    let mut text = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n",
    );
    text += &chains;
    text += &rules;
    text += "COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n";
    text += "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n";
    text += "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    text += "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    if endpoints.is_empty() {
        for Port { protocol, name, .. } in PORTS {
            let _ = writeln!(
                text,
                r#"-A FORWARD -d {cluster_ip}/{bits} -p {protocol} -m comment --comment "{name} has no endpoints" -m {protocol} --dport 53 -j REJECT"#
            );
        }
    }
    text += "COMMIT\n";
    text
}

/// A CNI's: what leaves the cluster has the node's address.
fn masquerade(cidr: &str) -> String {
    format!(r#"POSTROUTING -s {cidr} ! -d {cidr} -m comment --comment "the CNI's" -j MASQUERADE"#)
}

/// Input that leaves only what is the CNI's.
#[must_use]
pub fn without_services(family: Family) -> String {
    let cidr = match family {
        Family::V4 => CLUSTER_CIDR.0,
        Family::V6 => CLUSTER_CIDR.1,
    };
    NONE.replacen("COMMIT", &format!("-A {}\nCOMMIT", masquerade(cidr)), 1)
}

/// Input that takes the rules away, as in the moment of kube-proxy's restart.
pub const NONE: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n\
*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
