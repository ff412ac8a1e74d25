//! Flags over the file. That a flag stands over its variable is clap's part: see `tests/cli.rs`.

use super::*;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn all() -> Overrides {
    Overrides {
        listen: some("10.0.0.10, fd00::a"),
        interfaces: some("eth*,!eth0"),
        cluster_domain: some("k8s.example"),
        cluster_upstreams: some("10.0.0.2,[fd00::2]:5353"),
        node_name: some("node-1"),
        resolv_conf: some("/etc/upstream.conf"),
        attach: some("tcx"),
        state_dir: some("/run/b"),
        bpffs: some("/sys/fs/bpf/b"),
        metrics_listen: some("off"),
        log_format: some("json"),
        log_level: some("debug"),
    }
}

fn overridden() -> Config {
    let mut config = minimal();
    config.listen = addresses(&["10.0.0.10", "fd00::a"]);
    config.interfaces = vec![pattern(false, "eth*"), pattern(true, "eth0")];
    config.cluster.domain = "k8s.example".to_owned();
    config.cluster.upstreams = servers(&["10.0.0.2:53", "[fd00::2]:5353"]);
    config.resolv_conf = "/etc/upstream.conf".into();
    config.attach = AttachMode::Tcx;
    config.state_dir = "/run/b".into();
    config.bpffs = "/sys/fs/bpf/b".into();
    config.metrics.listen = None;
    config.log = Log {
        format: LogFormat::Json,
        level: "debug".to_owned(),
    };
    config
}

#[test]
fn stand_over_the_file() {
    let text = "listen: 10.96.0.10\ninterfaces: [veth*]\nattach: clsact\nstateDir: /run/a\n\
                cluster: {domain: a.b, upstreams: 10.244.0.2}\nresolvConf: /a\nbpffs: /b\n\
                log: {format: text, level: warn}\n";
    assert_eq!(parse_with(text, Path::new("f"), &all()), Ok(overridden()));
}

#[test]
fn need_no_file() {
    assert_eq!(load(None, &all()), Ok(overridden()));
}

#[test]
fn give_what_the_file_leaves_out() {
    assert_eq!(
        parse_with("# nothing yet\n", Path::new("f"), &all()),
        Ok(overridden())
    );
}

#[test]
fn without_them_and_without_a_file_the_flags_are_named() {
    let errors = load(None, &Overrides::default()).expect_err("nothing is required?");
    assert_eq!(
        errors.to_string(),
        "--cluster-upstreams (DNS_CACHE_CLUSTER_UPSTREAMS): missing; give the addresses of the \
         cluster's DNS servers, as in [10.244.0.2, 10.244.0.3], or name a file by --config\n\
         --listen (DNS_CACHE_LISTEN): missing; give the addresses that pods send their queries \
         to, as in [10.96.0.10, 169.254.20.10], or name a file by --config"
    );
}

#[test]
fn are_reported_with_the_files_mistakes() {
    let overrides = Overrides {
        listen: some("10.96.0.10,"),
        interfaces: some("!veth*"),
        cluster_upstreams: some(""),
        attach: some("xdp"),
        ..Overrides::default()
    };
    let text = "listen: [127.0.0.1]\n";
    let errors = parse_with(text, Path::new("f"), &overrides).expect_err("no mistake found");
    assert_eq!(
        errors.to_string(),
        "f:1:10: listen[0]: 127.0.0.1 is a loopback address, which never leaves a pod; give the \
         DNS service's ClusterIP or a link-local address such as 169.254.20.10\n\
         --attach (DNS_CACHE_ATTACH): \"xdp\" found; allowed are auto, tcx, clsact\n\
         --cluster-upstreams (DNS_CACHE_CLUSTER_UPSTREAMS): an empty list; give at least one value\n\
         --interfaces (DNS_CACHE_INTERFACES): only exclusions, so no interface is left; give a \
         pattern without ! as well\n\
         --listen (DNS_CACHE_LISTEN): \"\" is not an IP address; give one such as 10.96.0.10 or \
         fd00:10:96::a"
    );
}
