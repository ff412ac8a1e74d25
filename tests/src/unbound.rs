//! Real Unbound, as an outside resolver that speaks UDP, TCP and TLS.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Transport};
use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::process::Process;
use crate::wire::{Query, rtype};

/// The name in the certificate.
pub const NAME: &str = "dns.example";

/// The folder of the certificates that the upstreams' unit tests have as well: `ca.pem`, `server.pem`, `server.key`.
#[must_use]
pub fn certificates() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.parent().or_panic("the workspace's folder");
    workspace.join("dns-cache/src/upstream/tests")
}

/// Starts it on the ports 53 and 853 of this address and waits until it answers for the records of `corp.example`.
#[must_use]
pub fn start(netns: &Arc<Netns>, address: IpAddr, records: &[&str]) -> Process {
    let dir = netns.scope().dir().join("unbound");
    fs::create_dir_all(&dir).or_panic(format_args!("making {}", dir.display()));
    let certificates = certificates();
    let certificates = certificates.display();
    let mut text = format!(
        "server:\n  interface: {address}@53\n  interface: {address}@853\n  tls-port: 853\n  \
         tls-service-pem: {certificates}/server.pem\n  tls-service-key: {certificates}/server.key\n  \
         access-control: 0.0.0.0/0 allow\n  access-control: ::0/0 allow\n  do-daemonize: no\n  use-syslog: no\n  \
         username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  directory: {:?}\n  module-config: iterator\n  \
         local-zone: corp.example. static\n",
        dir
    );
    for record in records {
        text += &format!("  local-data: {record:?}\n");
    }
    text += "remote-control:\n  control-enable: no\n";
    let path = dir.join("unbound.conf");
    fs::write(&path, text).or_panic(format_args!("writing {}", path.display()));
    let args = ["-c".as_ref(), path.as_os_str()];
    let process = Process::start(netns, "unbound", "/usr/sbin/unbound".as_ref(), args);
    let server = SocketAddr::new(address, 53);
    let client = Client::new(Arc::clone(netns), server).timeout(Duration::from_millis(200));
    let end = Instant::now() + Duration::from_secs(20);
    while client
        .ask(Transport::Tcp, &Query::new("corp.example", rtype::SOA))
        .is_err()
    {
        assert!(
            Instant::now() < end,
            "Unbound does not answer:\n{}",
            process.log()
        );
        thread::sleep(Duration::from_millis(10));
    }
    process
}
