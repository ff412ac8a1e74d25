//! The cluster's certificates, and who may do what: components show a token, and the API server its certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::node::output;
use super::settings::{API_IP, NODE, NODE_IP};

/// Where they are on the node.
pub(super) const DIR: &str = "/etc/kubernetes";

/// Who asks the API server: name, user and group.
const USERS: [(&str, &str, &str); 5] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
    ("kubelet", "system:node:dns-cache-node", "system:nodes"),
];

/// Makes all of them below `root`, the node's.
pub(super) fn make(root: &Path) -> Result<()> {
    let dir = root.join(DIR.trim_start_matches('/'));
    fs::create_dir_all(&dir)?;
    let pki = Pki { dir };
    pki.authority()?;
    let service = "kubernetes.default.svc";
    pki.certificate(
        "apiserver",
        "/CN=kube-apiserver",
        &format!("IP:{API_IP},IP:{},IP:127.0.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:{service},DNS:{service}.cluster.local", NODE_IP.0),
    )?;
    pki.certificate(
        "apiserver-kubelet",
        "/O=system:masters/CN=kube-apiserver",
        "DNS:kube-apiserver",
    )?;
    pki.certificate(
        "kubelet-server",
        &format!("/O=system:nodes/CN=system:node:{NODE}"),
        &format!("IP:{}", NODE_IP.0),
    )?;
    output(
        Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-out",
            ])
            .arg(pki.file("service-accounts.key")),
    )?;
    output(
        Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(pki.file("service-accounts.key"))
            .arg("-out")
            .arg(pki.file("service-accounts.pub")),
    )?;
    let mut tokens = String::new();
    for (name, user, group) in USERS {
        let token = output(Command::new("openssl").args(["rand", "-hex", "16"]))?;
        tokens += &format!("{},{user},{name},{group}\n", token.trim());
        pki.kubeconfig(name, token.trim())?;
    }
    fs::write(pki.file("tokens.csv"), tokens).context("writing tokens")
}

struct Pki {
    dir: PathBuf,
}

impl Pki {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn authority(&self) -> Result<()> {
        let usage = "keyUsage=critical,keyCertSign,digitalSignature";
        output(
            self.request("ca", "/CN=kubernetes")
                .args(["-addext", usage]),
        )
        .map(drop)
    }

    fn certificate(&self, name: &str, subject: &str, names: &str) -> Result<()> {
        let mut command = self.request(name, subject);
        command
            .arg("-CA")
            .arg(self.file("ca.crt"))
            .arg("-CAkey")
            .arg(self.file("ca.key"));
        for extension in [
            "basicConstraints=critical,CA:FALSE",
            "extendedKeyUsage=serverAuth,clientAuth",
            &format!("subjectAltName={names}"),
        ] {
            command.args(["-addext", extension]);
        }
        output(&mut command).map(drop)
    }

    /// A new key with a certificate.
    fn request(&self, name: &str, subject: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ]);
        command.args(["-nodes", "-days", "3650", "-subj", subject]);
        command
            .arg("-keyout")
            .arg(self.file(&format!("{name}.key")));
        command.arg("-out").arg(self.file(&format!("{name}.crt")));
        command
    }

    fn kubeconfig(&self, name: &str, token: &str) -> Result<()> {
        let cluster = json!({
            "server": "https://127.0.0.1:6443",
            "certificate-authority": format!("{DIR}/ca.crt"),
        });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NODE, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": name}}],
            "current-context": NODE,
        });
        fs::write(self.file(&format!("{name}.conf")), config.to_string())
            .context("writing a kubeconfig")
    }
}
