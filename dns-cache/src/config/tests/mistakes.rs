//! Every mistake, where it is found, and what is said of it.

use super::{MINIMAL, mistakes};

#[test]
fn under_a_valid_file() {
    // The minimal file has two lines: what stands first here is line 3.
    let cases: &[(&str, &[&str])] = &[
        (
            "zones: [{zone: a, upstreams: [10.0.0.1 weight=0, 10.0.0.2 distance=x, 10.0.0.3 wait=1, 10.0.0.4, 10.0.0.4 weight=2]}]",
            &[
                "f:3:31: zones[0].upstreams[0]: \"weight=0\" is out of range; give a whole number from 1 to 1000",
                "f:3:50: zones[0].upstreams[1]: \"distance=x\" is out of range; give a whole number from 0 to 1000",
                "f:3:71: zones[0].upstreams[2]: \"wait=1\" behind an address; allowed there are weight=N and distance=N",
            ],
        ),
        (
            "zones: [{zone: a, upstreams: [10.0.0.4, 10.0.0.4 weight=2]}]",
            &["f:3:41: zones[0].upstreams[1]: 10.0.0.4:53 is in the list already; remove it"],
        ),
        (
            "zones: [{zone: a, upstreams: 10.0.0.4, tls: {serverName: x}}, {zone: b, upstreams: 10.0.0.4, transport: quic}]\ntransport: tls",
            &[
                "f:3:9: zones[0].tls: given without transport: tls, so nothing is encrypted; add that, or remove tls",
                "f:3:105: zones[1].transport: \"quic\" found; allowed are tcp, udp, tls",
                "f:4:12: transport: \"tls\" found; allowed are tcp, udp",
            ],
        ),
        (
            "access: {allow: [10.0.0.0/8, 10.1.0.0/8]}",
            &[
                "f:3:30: access.allow[1]: \"10.1.0.0/8\" is an address in 10.0.0.0/8; give that, or the address alone",
            ],
        ),
        (
            "access: {allow: [10.0.0.0/8, 10.0.0.0/8]}",
            &["f:3:30: access.allow[1]: \"10.0.0.0/8\" is in the list already; remove it"],
        ),
        (
            "access: {allow: []}",
            &["f:3:17: access.allow: an empty list; give at least one value"],
        ),
        (
            "fallback: [{to: 10.96.0.10}, {address: 169.254.20.10, to: \"fd00::a\"}, {address: 10.96.0.10, to: 10.96.0.10}, {address: 10.96.0.10, to: 169.254.20.10}]",
            &[
                "f:3:12: fallback[0].address: missing; give the address in listen that has no ordinary path",
                "f:3:40: fallback[1].address: 169.254.20.10 is not in listen, so nothing is answered there; add it",
                "f:3:59: fallback[1].to: fd00::a is of the other address family; give the DNS service's ClusterIP",
                "f:3:97: fallback[2].to: 10.96.0.10 is the address itself; give the DNS service's ClusterIP",
                "f:3:120: fallback[3].address: 10.96.0.10 is in the list already; give it one fallback",
                "f:3:136: fallback[3].to: 169.254.20.10 is a link-local address, which has no ordinary path either; give the DNS service's ClusterIP",
            ],
        ),
        (
            "host: {enabled: true, cgroup: cgroup}",
            &[
                "f:3:17: host.enabled: needs an address that the node has a route to; add a link-local one such as 169.254.20.10 to listen",
                "f:3:31: host.cgroup: \"cgroup\" is not an absolute path; start it with /",
            ],
        ),
        (
            "lisen: 1",
            &[
                "f:3:1: unknown key \"lisen\"; did you mean listen? allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "stateDIR: 1",
            &[
                "f:3:1: unknown key \"stateDIR\"; did you mean stateDir? allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "banana: 1",
            &[
                "f:3:1: unknown key \"banana\"; allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "attach: auto\nattach: tcx",
            &["f:4:1: attach: given a second time; the first stands at line 3, remove one of them"],
        ),
        (
            "? [a]\n: b",
            &[
                "f:3:3: a list found as a key; a key is one word, allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "? {a: b}\n: b",
            &[
                "f:3:3: a mapping found as a key; a key is one word, allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "~: 3",
            &[
                "f:3:1: nothing found as a key; a key is one word, allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "attach: native",
            &["f:3:9: attach: \"native\" found; allowed are auto, tcx, clsact"],
        ),
        (
            "afterHandOver: standby",
            &["f:3:16: afterHandOver: \"standby\" found; allowed are exit, standBy"],
        ),
        (
            "attach: [auto]",
            &["f:3:9: attach: a list found; give a single value, in quotes if it has brackets"],
        ),
        (
            "queries: {wedgedAfterMillis: 99}",
            &[
                "f:3:30: queries.wedgedAfterMillis: \"99\" found; give whole milliseconds from 100 to 60000",
            ],
        ),
        (
            "queries: {missesPerSecond: -1, missBurst: 0}",
            &[
                "f:3:28: queries.missesPerSecond: \"-1\" found; give a whole number from 0 (no limit) to 1M",
                "f:3:43: queries.missBurst: \"0\" found; give a whole number from 1 to 1M",
            ],
        ),
        (
            "metrics: {listen: 9253}",
            &[
                "f:3:19: metrics.listen: \"9253\" is not an address with a port; give IP:PORT such as 0.0.0.0:9253 or \"[::]:9253\", or off",
            ],
        ),
        (
            "metrics: {listen: 10.0.0.1:0}",
            &[
                "f:3:19: metrics.listen: 10.0.0.1:0 has port 0; give IP:PORT such as 0.0.0.0:9253 or \"[::]:9253\", or off",
            ],
        ),
        (
            "attach:",
            &["f:3:1: attach: nothing given; give a value, or remove the key"],
        ),
        (
            "cache: 5",
            &[
                "f:3:8: cache: a single value found; give a mapping with the keys maxEntries, maxBytes, kernel, prefetch, serveStale",
            ],
        ),
        (
            "cache: {maxEntries: 5}",
            &["f:3:21: cache.maxEntries: \"5\" found; give a whole number from 100 to 10M"],
        ),
        (
            "cache: {prefetch: {percent: 91, minSeconds: x, minHits: 0}}",
            &[
                "f:3:29: cache.prefetch.percent: \"91\" found; give whole percent from 0 to 90 (0: no prefetch)",
                "f:3:45: cache.prefetch.minSeconds: \"x\" found; give whole seconds from 0 to 60",
                "f:3:57: cache.prefetch.minHits: \"0\" found; give whole hits from 1 to 1000000",
            ],
        ),
        (
            "cache: {serveStale: {enabled: on, afterMillis: 3501, maxSeconds: 0, ttl: 301}}",
            &[
                "f:3:31: cache.serveStale.enabled: \"on\" found; allowed are true, false",
                "f:3:48: cache.serveStale.afterMillis: \"3501\" found; give whole milliseconds from 0 to 3500",
                "f:3:66: cache.serveStale.maxSeconds: \"0\" found; give whole seconds from 1 to 259200",
                "f:3:74: cache.serveStale.ttl: \"301\" found; give whole seconds from 1 to 300",
            ],
        ),
        (
            "ttl: {positive: 10, minimum: 11}",
            &["f:3:30: ttl.minimum: more than positive, which is 10; give at most that"],
        ),
        (
            "hosts: [{name: a.example, addresses: [x]}, {name: a.example}]",
            &[
                "f:3:39: hosts[0].addresses[0]: \"x\" found; give an IPv4 or IPv6 address",
                "f:3:44: hosts[1].addresses: missing; give the host's addresses, as in [192.0.2.1]",
                "f:3:51: hosts[1].name: \"a.example\" is in the list already; give all its addresses there",
            ],
        ),
        (
            "blocked: [{zone: a.example, answer: drop}, {answer: refused}]",
            &[
                "f:3:37: blocked[0].answer: \"drop\" found; allowed are nxdomain, refused",
                "f:3:44: blocked[1].zone: missing; give the zone's name, as in ads.example",
            ],
        ),
        (
            "queries: {inFlight: 0}",
            &["f:3:21: queries.inFlight: \"0\" found; give whole queries from 1 to 1000000"],
        ),
        (
            "cache: {maxEntries: -1, maxBytes: 12Q}",
            &[
                "f:3:21: cache.maxEntries: \"-1\" found; give a whole number from 100 to 10M",
                "f:3:35: cache.maxBytes: \"12Q\" found; give bytes from 1Mi to 64Gi, as a whole number or with Ki, Mi, Gi, k, M or G",
            ],
        ),
        (
            "ttl: {positive: 30s}",
            &["f:3:17: ttl.positive: \"30s\" found; give whole seconds from 0 (not kept) to 86400"],
        ),
        (
            "ttl: {positive: 90000, negative: [3]}",
            &[
                "f:3:17: ttl.positive: \"90000\" found; give whole seconds from 0 (not kept) to 86400",
                "f:3:34: ttl.negative: a list found; give a single value, in quotes if it has brackets",
            ],
        ),
        (
            "interfaces: []",
            &["f:3:13: interfaces: an empty list; give at least one value"],
        ),
        (
            "interfaces: ['!veth*']",
            &[
                "f:3:13: interfaces: only exclusions, so no interface is left; give a pattern without ! as well",
            ],
        ),
        (
            "interfaces: [averyverylongname0]",
            &[
                "f:3:14: interfaces[0]: \"averyverylongname0\" is 18 bytes long without its *; an interface's name has at most 15, so it matches none",
            ],
        ),
        (
            "interfaces: [a?]",
            &[
                "f:3:14: interfaces[0]: \"a?\" contains '?', which no interface's name has; the only wildcard is *, and ! excludes at the front only",
            ],
        ),
        (
            "interfaces: ['!']",
            &[
                "f:3:14: interfaces[0]: \"!\" names no interface; give a pattern such as veth* or !veth-infra*",
            ],
        ),
        (
            "interfaces: ['']",
            &[
                "f:3:14: interfaces[0]: \"\" names no interface; give a pattern such as veth* or !veth-infra*",
            ],
        ),
        (
            "interfaces: [!veth0, a]",
            &["f:3:14: a YAML tag (! before \"veth0\"); put a value that starts with ! in quotes"],
        ),
        (
            "interfaces: [*]",
            &[
                "f:3:14: not valid YAML: while scanning an anchor or alias, did not find expected alphabetic or numeric character; put a value that starts with * or ! in quotes: \"*\"",
            ],
        ),
        (
            "interfaces: [*veth]",
            &[
                "f:3:14: not valid YAML: while parsing node, found unknown anchor; put a value that starts with * or ! in quotes: \"*\"",
            ],
        ),
        (
            "interfaces: [a, a]",
            &["f:3:17: interfaces[1]: \"a\" is in the list already; remove it"],
        ),
        (
            "interfaces:\n  a: b",
            &["f:4:3: interfaces: a mapping found; give a list, as in [a, b]"],
        ),
        (
            "interfaces: [[a]]",
            &[
                "f:3:14: interfaces[0]: a list found; give a single value, in quotes if it has brackets",
            ],
        ),
        (
            "interfaces:\n  - a\n  -",
            &[
                "f:5:4: interfaces[1]: nothing found; give a single value, in quotes if it has brackets",
            ],
        ),
        (
            "zones: corp",
            &[
                "f:3:8: zones: a single value found; give a list of mappings with the keys zone, upstreams, transport, tls, ttl",
            ],
        ),
        (
            "zones: [corp]",
            &[
                "f:3:9: zones[0]: a single value found; give a mapping with the keys zone, upstreams, transport, tls, ttl",
            ],
        ),
        (
            "zones: [{}]",
            &[
                "f:3:9: zones[0].upstreams: missing; give the addresses of the zone's DNS servers, as in [192.0.2.53]",
                "f:3:9: zones[0].zone: missing; give the zone's name, as in corp.example",
            ],
        ),
        (
            "zones:\n  - zone: corp.example",
            &[
                "f:4:5: zones[0].upstreams: missing; give the addresses of the zone's DNS servers, as in [192.0.2.53]",
            ],
        ),
        (
            "zones:\n  - {zone: cluster.local., upstreams: 1.1.1.1}\n  - {zone: a, upstreams: 1.1.1.1}\n  - {zone: A., upstreams: 1.1.1.1}\n  - {zone: ip6.arpa, upstreams: 1.1.1.1}",
            &[
                "f:4:12: zones[0].zone: \"cluster.local\" is the cluster's domain already; give each zone once",
                "f:6:12: zones[2].zone: \"a\" is given as a zone already; give each zone once",
                "f:7:12: zones[3].zone: \"ip6.arpa\" is one of cluster.reverseZones already; give each zone once",
            ],
        ),
        (
            "zones:\n  - {zone: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x, upstreams: 1.1.1.1}\n  - {zone: a..b, upstreams: 1.1.1.1}\n  - {zone: '*.a', upstreams: 1.1.1.1}\n  - {zone: bücher.example, upstreams: 1.1.1.1}\n  - {zone: -a.b, upstreams: 1.1.1.1}\n  - {zone: 'a b', upstreams: 1.1.1.1}\n  - {zone: '', upstreams: 1.1.1.1}\n  - {zone: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a., upstreams: 1.1.1.1}",
            &[
                "f:4:12: zones[0].zone: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"… has a label of 64 characters; a label has at most 63",
                "f:5:12: zones[1].zone: \"a..b\" has an empty label; put one dot between labels and none in front",
                "f:6:12: zones[2].zone: \"*.a\" has a wildcard; a zone covers every name below it, leave out the *.",
                "f:7:12: zones[3].zone: \"bücher.example\" contains 'ü'; allowed are letters, digits, - and _; write it in its xn-- form",
                "f:8:12: zones[4].zone: \"-a.b\" has a label that starts or ends with -; remove it",
                "f:9:12: zones[5].zone: \"a b\" contains ' '; allowed are letters, digits, - and _",
                "f:10:12: zones[6].zone: \"\" is empty; give a domain such as corp.example",
            ],
        ),
        (
            "zones:\n  - {zone: x, upstreams: [dns.example, 'dns.example:53', '1.1.1.1:0', '1.1.1.1:70000', 0.0.0.0, 224.0.0.1, 255.255.255.255, '::ffff:1.1.1.1', 'ff02::1', '1.1.1.1/24', 1.1.1.1, '1.1.1.1:53', '']}",
            &[
                "f:4:27: zones[0].upstreams[0]: \"dns.example\" is a name; servers are given by address, because looking the name up would need the server: give IP, IP:PORT or [IPv6]:PORT",
                "f:4:40: zones[0].upstreams[1]: \"dns.example:53\" is a name; servers are given by address, because looking the name up would need the server: give IP, IP:PORT or [IPv6]:PORT",
                "f:4:58: zones[0].upstreams[2]: \"1.1.1.1:0\" has port 0; give a port from 1 to 65535",
                "f:4:71: zones[0].upstreams[3]: \"1.1.1.1:70000\" is not a server's address; give IP, IP:PORT or [IPv6]:PORT",
                "f:4:88: zones[0].upstreams[4]: 0.0.0.0 is the unspecified address; give the address of one host or service",
                "f:4:97: zones[0].upstreams[5]: 224.0.0.1 is a multicast address; give the address of one host or service",
                "f:4:108: zones[0].upstreams[6]: 255.255.255.255 is the broadcast address; give the address of one host or service",
                "f:4:125: zones[0].upstreams[7]: ::ffff:1.1.1.1 is an IPv4-mapped IPv6 address; give 1.1.1.1",
                "f:4:143: zones[0].upstreams[8]: ff02::1 is a multicast address; give the address of one host or service",
                "f:4:154: zones[0].upstreams[9]: \"1.1.1.1/24\" is not a server's address; give IP, IP:PORT or [IPv6]:PORT",
                "f:4:177: zones[0].upstreams[11]: \"1.1.1.1:53\" is in the list already; remove it",
                "f:4:191: zones[0].upstreams[12]: \"\" is not a server's address; give IP, IP:PORT or [IPv6]:PORT",
            ],
        ),
        (
            "stateDir: run",
            &["f:3:11: stateDir: \"run\" is not an absolute path; start it with /"],
        ),
        (
            "stateDir: /",
            &["f:3:11: stateDir: \"/\" found; give a directory of its own"],
        ),
        (
            "stateDir: /a/../b",
            &["f:3:11: stateDir: \"/a/../b\" contains ..; give the path without it"],
        ),
        (
            "stateDir: /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &[
                "f:3:11: stateDir: \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"… has 129 bytes; the control socket stands in it, so it has at most 94",
            ],
        ),
        (
            "bpffs: /run/dns-cache/",
            &[
                "f:3:8: bpffs: \"/run/dns-cache\" is stateDir as well; give a directory of its own on a BPF file system",
            ],
        ),
        (
            "resolvConf: /etc/",
            &["f:3:13: resolvConf: \"/etc/\" is a directory; give a file"],
        ),
        (
            "resolvConf: \"/a\\nb\"",
            &["f:3:13: resolvConf: \"/a\\nb\" contains a control character; remove it"],
        ),
        (
            "log: {format: xml, level: inof}",
            &[
                "f:3:15: log.format: \"xml\" found; allowed are text, json",
                "f:3:27: log.level: \"inof\" is not a level; allowed are off, error, warn, info, debug, trace, or levels by module as in info,dns_cache=debug",
            ],
        ),
        (
            "log: {level: dns_cache=loud}",
            &[
                "f:3:14: log.level: \"dns_cache=loud\" is not a filter; allowed are off, error, warn, info, debug, trace, or levels by module as in info,dns_cache=debug",
            ],
        ),
        (
            "log: {level: ''}",
            &[
                "f:3:14: log.level: an empty filter; allowed are off, error, warn, info, debug, trace, or levels by module as in info,dns_cache=debug",
            ],
        ),
        (
            "attach: &a auto\nbpffs: *a",
            &[
                "f:3:9: a YAML anchor (&…); write the value out where it is needed",
                "f:4:8: a YAML alias; write the value out, or put a value that starts with * in quotes",
            ],
        ),
        (
            "attach: !!str auto",
            &["f:3:9: a YAML tag (! before \"str\"); put a value that starts with ! in quotes"],
        ),
        (
            "cache: !x {maxEntries: 5}",
            &["f:3:8: a YAML tag (! before \"x\"); put a value that starts with ! in quotes"],
        ),
        (
            "cache: {",
            &["f:4:1: not valid YAML: while parsing a node, did not find expected node content"],
        ),
        (
            "  bad: indent",
            &["f:3:3: not valid YAML: while parsing a block mapping, did not find expected key"],
        ),
        (
            "---\na: b",
            &["f:3:1: a second YAML document (`---`); the file must hold one, remove the rest"],
        ),
        (
            "\tattach: auto",
            &["f:3:2: not valid YAML: while parsing a block mapping, did not find expected key"],
        ),
        (
            "zones: [{zone: a, upstreams: [[fd00::2]:53]}]",
            &[
                "f:3:31: zones[0].upstreams[0]: a mapping found; give a single value, in quotes if it has brackets",
            ],
        ),
        (
            "attach: \"auto",
            &[
                "f:3:9: not valid YAML: while scanning a quoted scalar, found unexpected end of stream",
            ],
        ),
        (
            "attach: au\0to",
            &["f:3:11: a NUL character; configuration is plain text, remove it"],
        ),
        (
            "'': 3",
            &[
                "f:3:1: unknown key \"\"; allowed are listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "'log': nil",
            &["f:3:8: log: a single value found; give a mapping with the keys format, level"],
        ),
        (
            "log: null",
            &["f:3:1: log: nothing given; give a mapping, or remove the key"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(mistakes(&format!("{MINIMAL}{text}\n")), *expected, "{text}");
    }
}

#[test]
fn of_a_whole_file() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "f:1:1: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:1:1: listen: missing; give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10], here or by --listen",
            ],
        ),
        (
            "# x\n",
            &[
                "f:1:1: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:1:1: listen: missing; give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10], here or by --listen",
            ],
        ),
        (
            "[]",
            &[
                "f:1:1: a list found; give a mapping with the keys listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "a",
            &[
                "f:1:1: a single value found; give a mapping with the keys listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "3",
            &[
                "f:1:1: a single value found; give a mapping with the keys listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
        (
            "~",
            &[
                "f:1:1: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:1:1: listen: missing; give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10], here or by --listen",
            ],
        ),
        (
            "listen: [127.0.0.1, '::1', 0.0.0.0, '::', 224.0.0.1, 'ff02::1', 255.255.255.255, '::ffff:10.0.0.1', 10.0.0.1, 10.0.0.1, '10.0.0.1:53', 10.0.0.0/8, x, 'fd00::a', 'fd00:0::a']\ncluster:\n  upstreams: []",
            &[
                "f:1:10: listen[0]: 127.0.0.1 is a loopback address, which never leaves a pod; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10",
                "f:1:21: listen[1]: ::1 is a loopback address, which never leaves a pod; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10",
                "f:1:28: listen[2]: 0.0.0.0 is the unspecified address; give the address of one host or service",
                "f:1:37: listen[3]: :: is the unspecified address; give the address of one host or service",
                "f:1:43: listen[4]: 224.0.0.1 is a multicast address; give the address of one host or service",
                "f:1:54: listen[5]: ff02::1 is a multicast address; give the address of one host or service",
                "f:1:65: listen[6]: 255.255.255.255 is the broadcast address; give the address of one host or service",
                "f:1:82: listen[7]: ::ffff:10.0.0.1 is an IPv4-mapped IPv6 address; give 10.0.0.1",
                "f:1:111: listen[9]: \"10.0.0.1\" is in the list already; remove it",
                "f:1:121: listen[10]: \"10.0.0.1:53\" has a port; give the address alone, the port is always 53",
                "f:1:136: listen[11]: \"10.0.0.0/8\" is a network; give single addresses",
                "f:1:148: listen[12]: \"x\" is not an IP address; give one such as 10.96.0.10 or fd00:10:96::a",
                "f:1:162: listen[14]: \"fd00:0::a\" is in the list already; remove it",
                "f:3:14: cluster.upstreams: an empty list; give at least one value",
            ],
        ),
        (
            "listen: [169.254.20.10, 10.0.0.1]\ncluster:\n  upstreams: [10.0.0.1, 169.254.20.10]",
            &[
                "f:3:25: cluster.upstreams[1]: 169.254.20.10:53 is a link-local address that this cache answers at, so it would ask itself; give the servers' own addresses",
            ],
        ),
        (
            "listen: [169.254.20.10, 10.0.0.1]\nhost: {enabled: true}\ncluster:\n  upstreams: [10.0.0.1, 10.0.0.2]",
            &[
                "f:4:15: cluster.upstreams[0]: 10.0.0.1:53 is answered by this cache for all of the node's processes (host.enabled), so it would ask itself; give the servers' own addresses",
            ],
        ),
        (
            "listen: [169.254.20.10]\nhost: {enabled: true}\nkubernetes: {interceptEndpoints: true}",
            &[
                "f:2:17: host.enabled: with kubernetes.interceptEndpoints the agent would ask itself; leave one of the two out",
            ],
        ),
        (
            "listen: [fe80::a, 'FEBF::1', 192.0.0.8, 169.254.20.10, 'fec0::1']\ncluster:\n  upstreams: 10.0.0.1",
            &[
                "f:1:10: listen[0]: fe80::a is an IPv6 link-local address, which each link has for itself; give the DNS service's ClusterIP or a unique local address such as fd00:10:96::a",
                "f:1:19: listen[1]: febf::1 is an IPv6 link-local address, which each link has for itself; give the DNS service's ClusterIP or a unique local address such as fd00:10:96::a",
                "f:1:30: listen[2]: 192.0.0.8 is the gateway by which this cache itself reaches pods; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10",
            ],
        ),
        (
            "listen: [::1]",
            &[
                "f:1:1: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:1:10: listen[0]: ::1 is a loopback address, which never leaves a pod; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10",
            ],
        ),
        (
            "listen: []\ncluster: []",
            &[
                "f:1:9: listen: an empty list; give at least one value",
                "f:2:10: cluster: a list found; give a mapping with the keys domain, upstreams, transport, tls, reverseZones, ttl, nxdomainCut",
            ],
        ),
        (
            "listen:\ncluster:",
            &[
                "f:1:1: listen: nothing given; give a list, or remove the key",
                "f:2:1: cluster: nothing given; give a mapping, or remove the key",
            ],
        ),
        (
            "listen: {}\ncluster: {upstreams: 7, domain: .}",
            &[
                "f:1:9: listen: a mapping found; give a list, as in [a, b]",
                "f:2:22: cluster.upstreams: \"7\" is not a server's address; give IP, IP:PORT or [IPv6]:PORT",
                "f:2:33: cluster.domain: \".\" is the root; give a domain such as cluster.local",
            ],
        ),
        (
            "cluster:\n  domain: a.b\n  reverseZones: [A.B, c, c]\n",
            &[
                "f:1:1: listen: missing; give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10], here or by --listen",
                "f:2:3: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:3:26: cluster.reverseZones[2]: \"c\" is in the list already; remove it",
            ],
        ),
        (
            "--- \n...\n",
            &[
                "f:1:1: cluster.upstreams: missing; give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], here or by --cluster-upstreams",
                "f:1:1: listen: missing; give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10], here or by --listen",
            ],
        ),
        (
            "%YAML 9\n---\na: b\n",
            &[
                "f:1:1: not valid YAML: while scanning a YAML directive, did not find expected digit or '.' character",
            ],
        ),
        (
            "- a\n- b",
            &[
                "f:1:1: a list found; give a mapping with the keys listen, fallback, host, interfaces, exclude, cniResults, cluster, kubernetes, zones, hosts, blocked, access, resolvConf, transport, ttl, cache, queries, attach, afterHandOver, stateDir, bpffs, metrics, log",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(mistakes(text), *expected, "{text}");
    }
}

#[test]
fn long_labels_and_names() {
    let label = "a".repeat(64);
    let zone = |name: &str| format!("{MINIMAL}zones: [{{zone: {name}, upstreams: 192.0.2.1}}]");
    let start = format!("f:3:16: zones[0].zone: \"{}\"…", "a".repeat(60));
    let expected = format!("{start} has a label of 64 characters; a label has at most 63");
    assert_eq!(mistakes(&zone(&format!("{label}.example"))), [expected]);
    let name = format!("{}.", "a".repeat(63)).repeat(4);
    let expected = format!("{start} has 255 characters; a name has at most 253");
    assert_eq!(mistakes(&zone(&name)), [expected]);
    super::parsed(&zone(&name[2..]));
}

#[test]
fn a_state_dir_that_leaves_no_room_for_the_socket() {
    let dir = |length: usize| format!("{MINIMAL}stateDir: /{}", "a".repeat(length - 1));
    super::parsed(&dir(94));
    let found = mistakes(&dir(95));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("f:3:11: stateDir: \"/aaa"),
        "{found:?}"
    );
    assert!(
        found[0].ends_with("has 95 bytes; the control socket stands in it, so it has at most 94")
    );
}

#[test]
fn ten_in_one_go() {
    let text = r#"# The first line is a comment.
listen: [10.96.0.10, 127.0.0.1]
interfaces: ["!veth*"]
cluster:
  domain: cluster..local
  upstreams: [coredns.kube-system]
  ttl: {positive: 1h}
zones:
  - zone: corp.example
cache: {max_entries: 5}
attach: xdp
stateDir: run/dns-cache
attach: tcx
"#;
    let found = mistakes(text);
    let starts = [
        "f:2:22: listen[1]: 127.0.0.1 is a loopback address",
        "f:3:13: interfaces: only exclusions",
        "f:5:11: cluster.domain: \"cluster..local\" has an empty label",
        "f:6:15: cluster.upstreams[0]: \"coredns.kube-system\" is a name",
        "f:7:19: cluster.ttl.positive: \"1h\" found; give whole seconds",
        "f:9:5: zones[0].upstreams: missing",
        "f:10:9: cache: unknown key \"max_entries\"; did you mean maxEntries?",
        "f:11:9: attach: \"xdp\" found; allowed are auto, tcx, clsact",
        "f:12:11: stateDir: \"run/dns-cache\" is not an absolute path",
        "f:13:1: attach: given a second time; the first stands at line 11",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn a_wrong_value_brings_no_second_mistake_with_it() {
    // Were the default to stand in for the wrong domain, the zone would seem to be taken.
    let text = "listen: 10.96.0.10\ncluster: {domain: a..b, reverseZones: [..], upstreams: 10.0.0.1}\n\
                zones: [{zone: cluster.local, upstreams: 10.0.0.1}, {zone: ip6.arpa, upstreams: 10.0.0.1}]";
    assert_eq!(
        mistakes(text),
        [
            "f:2:19: cluster.domain: \"a..b\" has an empty label; put one dot between labels and none in front",
            "f:2:40: cluster.reverseZones[0]: \"..\" has an empty label; put one dot between labels and none in front",
        ]
    );
}

#[test]
fn a_syntax_error_comes_with_what_was_seen_before_it() {
    let found = mistakes("listen: *a\nzones: !x []\n");
    assert_eq!(
        found,
        [
            "f:1:9: not valid YAML: while parsing node, found unknown anchor; put a value that starts with * or ! in quotes: \"*\"",
        ]
    );
    let found = mistakes("log: !x []\nlisten: [\n");
    assert_eq!(
        found,
        [
            "f:1:6: a YAML tag (! before \"x\"); put a value that starts with ! in quotes",
            "f:3:1: not valid YAML: while parsing a node, did not find expected node content",
        ]
    );
}

#[test]
fn a_list_beyond_all_measure() {
    let text = format!(
        "listen: [{}10.0.0.1]\n{}",
        "10.0.0.1,".repeat(1000),
        "cluster: {upstreams: 10.0.0.2}"
    );
    assert_eq!(
        mistakes(&text),
        ["f:1:9: listen: 1001 values; a list has at most 1000"]
    );
}
