//! The part of the tests that is run on another kernel: what the programs do, and the path that a packet takes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::quoted;
use crate::build::Executable;

/// The test programs that run on other kernels.
const PACKETS: &str = "packets";
const AGENT: &str = "agent";
/// On other kernels only: the host's may lack IPVS.
pub(crate) const IPVS: &str = "ipvs";
/// Divides what is random or repeated in the packets' tests.
const DIVISOR: u32 = 40;

/// Of the tests with the agent, those that depend on the kernel.
const CHOSEN: [&str; 20] = [
    "capabilities::the_kernel_is_probed_at_start",
    "cohabitation::programs_behind_ours_still_run",
    "cohabitation::a_change_of_mode_leaves_nothing_behind",
    "cohabitation::a_filter_of_ours_that_others_displace_comes_back",
    "death::a_wedged_agent_is_passed_by",
    "death::next_lookup_after_sigkill_works_routed",
    "death::fixed_port_client_survives_sigkill",
    "detach::detach_after_stop_bridged",
    "detach::detach_after_sigkill_clsact",
    "fallback::all_are_answered_when_killed_clsact",
    "forged::forged_source_of_a_known_pod_routed",
    "hand_over::nobody_notices_clsact",
    "hand_over::nobody_notices_another_layout",
    "host::their_link_local_address_is_answered_when_killed",
    "kernel::checksums_are_right_in_the_bytes",
    "kernel::every_answer_comes_from_the_kernel_routed",
    "kernel::the_answers_outlive_the_agent",
    "pods::address_moves_to_another_pod",
    "way::every_way_to_attach_serves",
    "way::no_query_reaches_conntrack_bridged",
];

/// The script that runs them in the guest; with a filter, all whose names contain it.
pub(crate) fn script(tests: &[Executable], agent: &Path, filter: Option<&str>) -> Result<String> {
    let mut script = format!(
        "uname -sr\nexport {}={} DNS_CACHE_TEST_DIVISOR={DIVISOR}\n",
        dns_cache_tests::tools::BINARY_VARIABLE,
        text(agent)?,
    );
    script += &format!("{} verifier || exit\n", text(agent)?);
    let chosen = CHOSEN.map(quoted).join(" ");
    for (name, arguments) in [
        (PACKETS, "--test-threads 2".to_owned()),
        (AGENT, format!("--test-threads 1 --exact {chosen}")),
        (IPVS, "--test-threads 1".to_owned()),
    ] {
        let test = tests
            .iter()
            // The agent's own package has a test program of the same name.
            .find(|test| test.kind == "test" && test.name == name && test.dir.ends_with("tests"))
            .with_context(|| format!("there is no test program {name}"))?;
        if name == AGENT {
            check_names(&test.path)?;
        }
        let arguments = match filter {
            Some(filter) => format!("--test-threads 1 {}", quoted(filter)),
            None => arguments,
        };
        script += &format!(
            "echo '── {name}'; cd {dir}; CARGO_MANIFEST_DIR={dir} {program} {arguments} || failed=1\n",
            dir = text(&test.dir)?,
            program = text(&test.path)?,
        );
    }
    script += "exit ${failed:-0}\n";
    Ok(script)
}

/// A name that no test has any more would be passed over in silence.
fn check_names(program: &Path) -> Result<()> {
    let mut list = Command::new(program);
    list.args(["--list", "--exact"]).args(CHOSEN);
    let output = list.output().context("listing the agent's tests")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing: Vec<_> = CHOSEN
        .into_iter()
        .filter(|name| !text.lines().any(|line| line == format!("{name}: test")))
        .collect();
    if !missing.is_empty() {
        bail!("there are no tests {}", missing.join(", "));
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(quoted(text)),
        None => bail!("{} is no UTF-8", path.display()),
    }
}
