//! A real kube-apiserver with its etcd, and nothing else of a cluster: what is written into it is what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::netns::{Netns, output, succeed};
use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::process::Process;
use crate::tools;

const URL: &str = "https://127.0.0.1:6443";
/// Who writes objects, and who reads them.
const ADMIN: &str = "admin-token";
const AGENT: &str = "agent-token";

/// An API server on the node's loopback.
#[derive(Debug)]
pub struct ApiServer {
    netns: Arc<Netns>,
    dir: PathBuf,
    programs: PathBuf,
    server: Mutex<Option<Process>>,
    _etcd: Process,
}

impl ApiServer {
    /// Starts it; `None`, said loudly, where Kubernetes was not built.
    #[must_use]
    pub fn start(node: &Node) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!(
                "SKIPPED: no kube-apiserver below {}: `cargo xtask cluster up` builds it",
                tools::folder().display()
            );
            return None;
        };
        let netns = Arc::clone(node.netns());
        let dir = netns.scope().dir().join("kubernetes");
        fs::create_dir(&dir).or_panic(format_args!("making {}", dir.display()));
        let tokens = format!("{ADMIN},admin,1,system:masters\n{AGENT},agent,2,\n");
        for (name, text) in [("tokens.csv", &*tokens), ("token", AGENT)] {
            fs::write(dir.join(name), text).or_panic(format_args!("writing {name}"));
        }
        let key = dir.join("accounts.key");
        let curve = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-out",
        ];
        succeed(Command::new("openssl").args(curve).arg(&key));
        let public = ["pkey", "-pubout", "-out"];
        let mut command = Command::new("openssl");
        command.args(public).arg(dir.join("accounts.pub"));
        succeed(command.arg("-in").arg(&key));
        let data = format!("--data-dir={}", dir.join("etcd").display());
        let etcd = Process::start(
            &netns,
            "etcd",
            &programs.join("etcd"),
            [&*data, "--unsafe-no-fsync"],
        );
        let this = Self {
            netns,
            dir,
            programs,
            server: Mutex::new(None),
            _etcd: etcd,
        };
        this.resume();
        Some(this)
    }

    /// Starts it after [`Self::stop`], and waits until it is ready.
    pub fn resume(&self) {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let args = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=192.0.2.1".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--cert-dir={}", file("certificates")),
        ];
        let program = self.programs.join("kube-apiserver");
        *self.server() = Some(Process::start(
            &self.netns,
            "kube-apiserver",
            &program,
            args,
        ));
        let end = Instant::now() + Duration::from_secs(60);
        while !output(&mut self.kubectl(&["get", "--raw", "/readyz"]))
            .status
            .success()
        {
            assert!(Instant::now() < end, "the API server does not get ready");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGKILL: connections end, new ones are refused.
    pub fn stop(&self) {
        *self.server() = None;
    }

    /// Writes objects (YAML or JSON), new ones or in the place of old ones.
    pub fn apply(&self, objects: &str) {
        let file = self.dir.join("objects.yaml");
        fs::write(&file, objects).or_panic(format_args!("writing {}", file.display()));
        let mut command = self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f"]);
        succeed(command.arg(&file));
    }

    /// Removes an object, given as kubectl's arguments.
    pub fn delete(&self, object: &[&str]) {
        succeed(self.kubectl(&["delete", "--wait=false"]).args(object));
    }

    /// The agent's settings for it.
    #[must_use]
    pub fn settings(&self) -> String {
        format!(
            "apiServer: {URL:?}, caFile: {:?}, tokenFile: {:?}",
            self.certificate(),
            self.dir.join("token")
        )
    }

    /// It made its certificate by itself; the file has the authority's behind it.
    fn certificate(&self) -> PathBuf {
        self.dir.join("certificates/apiserver.crt")
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        // It enters the namespace by itself: the caller's thread stays where it is.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.netns.path().display()))
            .arg(self.programs.join("kubectl"))
            .args(["--server", URL, "--token", ADMIN, "--certificate-authority"])
            .arg(self.certificate())
            .args(args)
            .env("HOME", &self.dir)
            .env_remove("KUBECONFIG");
        command
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of the programs of whatever version was built.
fn programs() -> Option<PathBuf> {
    let folders = fs::read_dir(tools::folder()).ok()?;
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|path| is_kubernetes(path) && path.join("kube-apiserver").is_file())
        .max()
}

fn is_kubernetes(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("kubernetes-"))
}
