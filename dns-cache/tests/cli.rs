//! The real command: exit codes, both outputs, variables.
#![expect(clippy::unwrap_used, reason = "a test panics, to keep the backtrace")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MINIMAL: &str = "listen: [10.96.0.10]\ncluster: {upstreams: [10.244.0.2]}\n";

/// The command with nothing of this process's own environment in it.
fn dns_cache(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dns-cache"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn check_config_of_a_right_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, MINIMAL).unwrap();
    let (code, stdout, stderr) = output(&mut dns_cache(&["check-config", text(&file)]));
    let expected = format!(
        "{}: ok: listens on 10.96.0.10, for every pod on this node\n\
         ZONE           SERVER            TRANSPORT  DISTANCE  WEIGHT\n\
         cluster.local  10.244.0.2:53     tcp               0       1\n\
         .              /etc/resolv.conf  tcp               -       -\n",
        file.display()
    );
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (Some(0), expected.as_str(), "")
    );
}

/// What becomes of link-local addresses while the agent is away, and whom the node's own processes ask.
#[test]
fn check_config_says_what_has_no_ordinary_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    let upstreams = "cluster: {upstreams: [10.244.0.2]}\n";
    let checked = |config: &str| {
        fs::write(&file, format!("{config}{upstreams}")).unwrap();
        let (code, stdout, stderr) = output(&mut dns_cache(&["check-config", text(&file)]));
        assert_eq!(code, Some(0), "{stderr}");
        let lines = stdout.lines().skip(1);
        let lines = lines.take_while(|line| !line.starts_with("ZONE"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        checked("listen: [10.96.0.10, 169.254.20.10]\nhost: {enabled: true, cgroup: /c}\n"),
        [
            "while the agent is away, 10.96.0.10 is asked in the place of 169.254.20.10",
            "the node's own processes in /c ask 169.254.20.10 in the place of the other addresses",
        ]
    );
    let alone = checked("listen: [169.254.20.10]\n");
    assert!(
        matches!(&alone[..], [warning] if warning.starts_with("warning: ") && warning.contains("169.254.20.10")),
        "{alone:?}"
    );
}

#[test]
fn an_imported_corefile_is_a_right_file() {
    let dir = tempfile::tempdir().unwrap();
    let [corefile, file] = ["Corefile", "c.yaml"].map(|name| dir.path().join(name));
    fs::write(
        &corefile,
        "corp.example {\n  forward . 192.0.2.53\n  log\n  cache 60\n}\n",
    )
    .unwrap();
    let (code, stdout, stderr) = output(&mut dns_cache(&["import-corefile", text(&corefile)]));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stderr,
        "line 3: log: queries are not logged one by one; metrics and `dns-cache top` show them\n"
    );
    let args = ["import-corefile", "-o", text(&file), text(&corefile)];
    assert_eq!(output(&mut dns_cache(&args)).0, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), stdout);
    let (code, stdout, stderr) = output(&mut dns_cache(&["check-config", text(&file)]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("corp.example   192.0.2.53:53"), "{stdout}");
    fs::write(&corefile, "corp.example\n").unwrap();
    let (code, stdout, stderr) = output(&mut dns_cache(&["import-corefile", text(&corefile)]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.contains("line 1: a server block without {"),
        "{stderr}"
    );
}

#[test]
fn check_config_of_a_wrong_file_tells_every_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, "listen: [::1]\nclusters: {}\n").unwrap();
    let (code, stdout, stderr) = output(&mut dns_cache(&["check-config", text(&file)]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let lines: Vec<_> = stderr.lines().collect();
    let file = file.display();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert!(
        lines[0].starts_with(&format!("{file}:1:1: cluster.upstreams: missing")),
        "{stderr}"
    );
    assert!(
        lines[1].starts_with(&format!("{file}:1:10: listen[0]: ::1 is a loopback")),
        "{stderr}"
    );
    assert!(
        lines[2].starts_with(&format!(
            "{file}:2:1: unknown key \"clusters\"; did you mean cluster?"
        )),
        "{stderr}"
    );
}

#[test]
fn a_flag_stands_over_a_variable_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, format!("{MINIMAL}resolvConf: /file\n")).unwrap();
    let resolv_conf = |args: &[&str], variable: Option<&str>| {
        let mut command = dns_cache(&["check-config", text(&file)]);
        command.args(args);
        if let Some(variable) = variable {
            command.env("DNS_CACHE_RESOLV_CONF", variable);
        }
        let (code, stdout, stderr) = output(&mut command);
        assert_eq!(code, Some(0), "{stderr}");
        let root = stdout.lines().last().unwrap();
        root.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(resolv_conf(&[], None), "/file");
    assert_eq!(resolv_conf(&[], Some("/variable")), "/variable");
    assert_eq!(
        resolv_conf(&["--resolv-conf", "/flag"], Some("/variable")),
        "/flag"
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, MINIMAL).unwrap();
    let mut command = dns_cache(&["check-config", text(&file)]);
    let (code, _, stderr) = output(command.env("DNS_CACHE_ATTACH", "xdp"));
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr,
        "--attach (DNS_CACHE_ATTACH): \"xdp\" found; allowed are auto, tcx, clsact\n"
    );
}

#[test]
fn run_with_a_wrong_configuration_does_not_start() {
    let (code, stdout, stderr) = output(&mut dns_cache(&["run", "--state-dir", "x"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    assert!(
        stderr.contains("--listen (DNS_CACHE_LISTEN): missing"),
        "{stderr}"
    );
}

#[test]
fn help_says_what_it_is_and_how_to_begin() {
    for args in [&["--help"][..], &[]] {
        let (_, stdout, stderr) = output(&mut dns_cache(args));
        let help = stdout + &stderr;
        for words in [
            "DNS cache for Kubernetes",
            "run",
            "check-config",
            "status",
            "detach",
            "Examples:",
        ] {
            assert!(help.contains(words), "{words}: {help}");
        }
    }
    let (code, help, _) = output(&mut dns_cache(&["run", "--help"]));
    assert_eq!(code, Some(0));
    for words in [
        "--config <FILE>",
        "--listen",
        "DNS_CACHE_LISTEN",
        "[default: cluster.local]",
        "Examples:",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}

#[test]
fn status_without_an_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, stderr) = output(&mut dns_cache(&["status", "--state-dir", text(dir.path())]));
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("no agent runs with stateDir"),
        "{stderr}"
    );
}
