//! The process's log; a test file of its own, because a process has one.

use dns_cache::config::{Log, LogFormat};
use dns_cache::log::{Error, init};
use tracing_log::log::{Level, Metadata, logger};

#[test]
fn records_of_the_log_crate_arrive_and_a_log_is_set_up_once() {
    let log = Log {
        format: LogFormat::Json,
        level: "warn,dns_cache_ebpf=debug".to_owned(),
    };
    init(&log).unwrap();
    // aya-log's records come by the log crate.
    let passes =
        |target, level| logger().enabled(&Metadata::builder().target(target).level(level).build());
    assert!(passes("dns_cache_ebpf", Level::Debug));
    assert!(!passes("dns_cache_ebpf", Level::Trace));
    assert!(passes("elsewhere", Level::Warn));
    assert!(!passes("elsewhere", Level::Info));
    assert!(matches!(init(&log), Err(Error::Twice(_))));
    let wrong = Log {
        format: LogFormat::Text,
        level: "a=b=c".to_owned(),
    };
    assert!(matches!(init(&wrong), Err(Error::Filter { .. })));
}
