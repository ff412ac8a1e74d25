//! `dns-cache import-corefile`

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::print;
use crate::config::{self, KubeDns};

/// Turn a Corefile of NodeLocalDNS or CoreDNS, or kube-dns's ConfigMap, into a configuration
///
/// The configuration is written to standard output, and each directive that has no counterpart to standard error:
/// its line (of the Corefile, if that is quoted or in JSON), and what happens instead. Nothing on the node is touched.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache import-corefile Corefile > config.yaml && dns-cache check-config config.yaml
  kubectl get configmap -n kube-system node-local-dns kube-dns --ignore-not-found -o yaml | dns-cache import-corefile - > config.yaml")]
pub(super) struct ImportCorefile {
    /// The Corefile, or ConfigMaps (YAML or JSON, one or a list) with a Corefile or kube-dns's settings; - for standard
    /// input
    file: PathBuf,

    /// The volume of kube-dns's ConfigMap, with the files stubDomains and upstreamNameservers, either or none
    #[arg(long, value_name = "DIR")]
    kube_dns: Option<PathBuf>,

    /// A configuration whose settings stand over what is imported, each by itself; what goes by that is told, too
    #[arg(long, value_name = "FILE")]
    over: Option<PathBuf>,

    /// Where the configuration is written to; without it, standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ImportCorefile {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let text = read(&self.file)?;
        let over = self.over.as_deref().map(read).transpose()?;
        let kube_dns = self.kube_dns.as_deref().map(kube_dns).transpose()?;
        let import = config::import(&text, kube_dns.unwrap_or_default(), over.as_deref())
            .with_context(|| self.file.display().to_string())?;
        for note in &import.notes {
            eprintln!("{note}");
        }
        match &self.output {
            Some(output) => fs::write(output, &import.yaml)
                .with_context(|| format!("{} cannot be written", output.display())),
            None => Ok(print(&import.yaml)?),
        }
    }
}

/// A ConfigMap that is optional is an empty directory where there is none.
fn kube_dns(dir: &Path) -> anyhow::Result<KubeDns> {
    let setting = |name| {
        let file = dir.join(name);
        file.exists().then(|| read(&file)).transpose()
    };
    Ok(KubeDns {
        stub_domains: setting("stubDomains")?,
        upstream_nameservers: setting("upstreamNameservers")?,
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = match file.to_str() {
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        _ => fs::read_to_string(file),
    };
    text.with_context(|| format!("{} cannot be read", file.display()))
}
