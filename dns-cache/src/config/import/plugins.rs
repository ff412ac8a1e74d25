//! CoreDNS's plugins that are no setting here, and what happens instead.

/// Always so, without being asked for: nothing to tell.
const ALWAYS: [&str; 5] = ["errors", "reload", "loop", "minimal", "cancel"];

/// What happens in the place of a plugin with these arguments; `None` if it happens anyway.
pub(super) fn instead(plugin: &str, args: &[String]) -> Option<&'static str> {
    let first = args.first().map(String::as_str);
    Some(match plugin {
        _ if ALWAYS.contains(&plugin) => return None,
        "ready" => first.map(|_| "/ready is at metrics.listen")?,
        "loadbalance" if matches!(first, None | Some("round_robin")) => return None,
        "loadbalance" => "addresses take turns, each as often as any other",
        "log" => "queries are not logged one by one; metrics and `dns-cache top` show them",
        "health" => "/health is at metrics.listen",
        "acl" => "who may ask is said by access.allow; by default every pod on the node",
        "any" => "ANY is asked for as any other type",
        "autopath" => {
            "the search list's misses end on the node: one NXDOMAIN answers for all below it"
        }
        "bufsize" => "answers over UDP have at most 1,232 bytes",
        "chaos" => "names of class CHAOS are refused",
        "debug" => "log.level: debug",
        "dns64" => "no addresses are made up; ask servers that do, by zones",
        "dnssec" | "sign" => "nothing is signed here; the servers' signatures are passed on",
        "dnstap" | "trace" => "there are metrics, and `dns-cache lookup NAME --trace`",
        "erratic" | "whoami" | "on" => "ignored",
        "geoip" | "metadata" | "view" => "every client gets the same answers",
        "grpc" | "https" | "https3" | "quic" => "servers are asked over TCP, UDP or TLS; ignored",
        "header" => "flags are as the servers set them",
        "import" => "the file is not read; import what stands in it as well",
        "local" => "names such as localhost are asked for as any others",
        "multisocket" => "each core has sockets of its own anyway",
        "nsid" => "no identifier is put into answers",
        "pprof" => "there is no such endpoint",
        "root" => "files are named by their whole path",
        "timeouts" => "the agent's own time-outs hold",
        "tls" => "pods are answered over UDP and TCP; ignored",
        "transfer" | "tsig" => "zones are not transferred; ignored",
        _ => "unknown; ignored",
    })
}

/// The zones that are the arguments of a plugin which knows names by itself, so that these must go on to where CoreDNS
/// is; `None` for any other plugin.
pub(super) fn zones(plugin: &str, args: &[String]) -> Option<Vec<String>> {
    let part = |n: usize| {
        let parts = args.iter().filter_map(move |arg| arg.split(':').nth(n));
        parts.map(str::to_owned).collect()
    };
    Some(match plugin {
        // What the file is called is no zone.
        "file" => args.get(1..).unwrap_or_default().to_vec(),
        // Zones with the names that the cloud gives them.
        "route53" | "clouddns" => part(0),
        "azure" => part(1),
        "auto" | "etcd" | "k8s_external" | "nomad" | "secondary" => args.to_vec(),
        _ => return None,
    })
}
