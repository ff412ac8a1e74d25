//! `cargo xtask chart`: plain manifests from the Helm chart, for those who do not use Helm.

mod combinations;
mod helm;
mod readme;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::programs::workspace;
use crate::setup::{self, Want};
use combinations::COMBINATIONS;
use helm::{Values, template};

/// The chart's folder; its release has the same name.
pub(crate) const CHART: &str = "deploy/helm/dns-cache";
pub(crate) const RELEASE: &str = "dns-cache";
pub(crate) const NAMESPACE: &str = "kube-system";
const MANIFESTS: &str = "deploy/manifests";
pub(crate) const README: &str = "deploy/README.md";

/// The manifests that are kept, and the values that make them.
const RENDERED: [(&str, &[&str]); 3] = [
    ("transparent.yaml", &[]),
    ("link-local.yaml", &["mode=link-local"]),
    ("both.yaml", &["mode=both"]),
];

/// Render the plain manifests in deploy/manifests from the Helm chart
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<ExitCode> {
    setup::ensure(Want::Everything)?;
    for (name, values) in RENDERED {
        fs::create_dir_all(workspace().join(MANIFESTS))?;
        fs::write(path(name), rendered(values)?)?;
        println!("{}", path(name).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The manifests that are kept: path and text.
pub(crate) fn manifests() -> Result<Vec<(String, String)>> {
    let read = |(name, _)| {
        let path = path(name).display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Ok((path, text))
    };
    RENDERED.into_iter().map(read).collect()
}

/// What is rendered of each documented combination: values and text.
pub(crate) fn documented() -> Result<Vec<(String, String)>> {
    let render = |values: Values| Ok((values.to_string(), template(&values)?));
    all().into_iter().map(render).collect()
}

/// The combinations that are listed here, and the examples of deploy/README.md.
fn all() -> Vec<Values> {
    let listed = COMBINATIONS.iter().map(|(values, _)| Values::set(values));
    listed.chain(readme::examples()).collect()
}

fn path(name: &str) -> PathBuf {
    workspace().join(MANIFESTS).join(name)
}

fn rendered(values: &[&str]) -> Result<String> {
    let objects = template(&Values::set(values))?;
    Ok(format!(
        "# Rendered from {CHART} by `cargo xtask chart`: change it there.\n{objects}"
    ))
}
