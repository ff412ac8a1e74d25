//! Packages of any Debian suite, unpacked into a folder. Nothing of them is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::step;

const LIMIT: Duration = Duration::from_secs(240);

/// apt's own way with a mirror that is slow, or away for a moment.
pub(crate) const PATIENT: [&str; 6] = [
    "-o",
    "Acquire::Retries=3",
    "-o",
    "Acquire::http::Timeout=20",
    "-o",
    "Acquire::https::Timeout=20",
];

/// Fetches packages by this machine's own apt sources with the suite's name changed, and puts what is in them in the place
/// of a folder. Of the packages whose names begin with `prefix`, `choose` says which.
pub(crate) fn unpack(
    suite: &str,
    prefix: &str,
    folder: &Path,
    log: &Path,
    choose: impl Fn(&[String]) -> Result<Vec<&str>>,
) -> Result<()> {
    let new = folder.with_extension("new");
    let apt = Apt::new(suite, new.clone(), log)?;
    let names = step::until_done(|| {
        // Of several sources one may lack the suite: what matters is whether the packages are found.
        let updated = apt.update();
        let names = apt.names(prefix)?;
        match (choose(&names), updated) {
            (Ok(_), _) => Ok(names),
            (Err(missing), Err(error)) => Err(error.context(missing)),
            (Err(missing), Ok(())) => Err(missing),
        }
    })?;
    apt.unpack(&choose(&names)?, &new.join("root"))?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(new.join("root"), folder).context("putting the packages into their place")?;
    fs::remove_dir_all(&new).context("removing the packages' lists")
}

/// apt with lists of its own, so that the machine's stay as they are.
struct Apt<'a> {
    suite: &'a str,
    dir: PathBuf,
    log: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(suite: &'a str, dir: PathBuf, log: &'a Path) -> Result<Self> {
        let _ = fs::remove_dir_all(&dir);
        for part in ["sources", "lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // No package of this machine is to be found among those that can be had.
        fs::write(dir.join("status"), "")?;
        let release = fs::read_to_string("/etc/os-release")?;
        let own = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no suite")?;
        let own = own.trim_matches('"');
        let parts = fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten();
        let parts = parts.flatten().map(|entry| entry.path());
        for path in parts.chain([PathBuf::from("/etc/apt/sources.list")]) {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let mut name = path.file_name().unwrap_or_default().to_owned();
            if name == "sources.list" {
                name = "main.list".into();
            }
            if text.contains(own) {
                fs::write(dir.join("sources").join(name), text.replace(own, suite))?;
            }
        }
        Ok(Self { suite, dir, log })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, part) in [
            ("Dir::Etc::sourceparts", "sources"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            let path = self.dir.join(part);
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        command.args([
            "-o",
            "Dir::Etc::sourcelist=/dev/null",
            "-o",
            "Acquire::Languages=none",
            // Root's downloads are not handed to a user who cannot write here.
            "-o",
            "APT::Sandbox::User=root",
            // An old suite's lists are no longer made anew, their signatures hold all the same.
            "-o",
            "Acquire::Check-Valid-Until=false",
        ]);
        command.args(PATIENT);
        command
    }

    fn update(&self) -> Result<()> {
        let what = format!("Fetching the package lists of {}", self.suite);
        let mut update = self.command("apt-get");
        step::run(&what, update.arg("update"), self.log, LIMIT)
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["pkgnames", prefix])
            .output()
            .context("running apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn unpack(&self, packages: &[&str], to: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        let what = format!("Fetching {}", packages.join(" "));
        let mut download = self.command("apt-get");
        download.arg("download").args(packages).current_dir(&debs);
        step::run_until_done(&what, &mut download, self.log, LIMIT)?;
        for deb in fs::read_dir(&debs)? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(deb?.path()).arg(to);
            step::run("Unpacking it", &mut unpack, self.log, LIMIT)?;
        }
        Ok(())
    }
}
