//! The incidents in small: on the ordinary path the fault shows, with the agent it does not.

use std::sync::{PoisonError, RwLock};

use dns_cache_tests::OrPanic;
use dns_cache_tests::incidents::{Incident, Setting};

/// The second incident changes a number for the whole machine.
static MACHINE: RwLock<()> = RwLock::new(());

fn happens(key: &str) {
    let incident = Incident::find(key).or_panic(key);
    let setting = Setting {
        agent: None,
        full: false,
        rate: None,
    };
    let report = incident.run(&setting);
    println!("{}", report.table(&incident));
    assert_eq!(report.problems(), [""; 0], "\n{}", report.table(&incident));
}

fn shared(key: &str) {
    let _machine = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    happens(key);
}

#[test]
fn silent_replica() {
    shared("1");
}

#[test]
fn race_and_full_table() {
    let _machine = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    happens("2");
}

#[test]
fn source_of_the_answer() {
    shared("3");
}

#[test]
fn fixed_port_and_stale_entry() {
    shared("4");
}

#[test]
fn killed_agent() {
    shared("kill");
}

#[test]
fn stopped_agent() {
    shared("stop");
}

#[test]
fn upgraded_agent() {
    shared("upgrade");
}

#[test]
fn agent_with_another_layout() {
    shared("layout");
}

#[test]
fn link_local_address() {
    shared("link-local");
}

#[test]
fn detached_agent() {
    shared("detach");
}
