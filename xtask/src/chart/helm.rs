//! Rendering the chart by helm.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{CHART, NAMESPACE, RELEASE};
use crate::programs::workspace;
use crate::setup::helm;
use crate::versions::KUBERNETES;

/// What differs from the chart's own values.
#[derive(Debug, Clone)]
pub(super) enum Values {
    /// `PATH=VALUE`, as `--set` has it.
    Set(Vec<String>),
    /// A file's text.
    File(String),
}

impl Values {
    pub(super) fn set(values: &[&str]) -> Self {
        Self::Set(values.iter().map(|&value| value.to_owned()).collect())
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(values) => f.write_str(&values.join(",")),
            Self::File(text) => f.write_str(text),
        }
    }
}

pub(super) fn template(values: &Values) -> Result<String> {
    run("template", &[RELEASE], values)
}

pub(super) fn run(command: &str, args: &[&str], values: &Values) -> Result<String> {
    let mut helm = Command::new(helm::program());
    helm.arg(command).args(args).arg(workspace().join(CHART));
    helm.args(["--namespace", NAMESPACE]);
    // A helm that `go install` built takes every cluster for an old one, unless it asks one.
    helm.args(["--kube-version", KUBERNETES]);
    let mut file = tempfile::NamedTempFile::new()?;
    match values {
        Values::Set(values) => {
            for value in values {
                helm.args(["--set", value]);
            }
        }
        Values::File(text) => {
            file.write_all(text.as_bytes())?;
            helm.arg("--values").arg(file.path());
        }
    }
    let output = helm.stdin(Stdio::null()).output();
    let output = output.context("running helm (`cargo xtask setup` installs it)")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!(
            "helm {command} {values}:\n{}",
            String::from_utf8_lossy(&text)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
