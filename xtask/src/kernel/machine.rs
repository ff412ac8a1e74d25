//! The virtual machine: qemu, which translates instructions, and the host's files by virtiofsd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;
use tempfile::TempDir;

use super::initramfs;
use super::package::Kernel;
use crate::programs::find;

const MEMORY: &str = "2048M";
/// Panics end it, and the fault is seen. Without random addresses a translation serves more than one process:
/// starting a program is ten times as fast. The timer is not tested at the start: where qemu gets no turn for that
/// moment, the kernel takes it for broken and panics (`check_timer` of arch/x86/kernel/apic/io_apic.c).
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr norandmaps \
                       transparent_hugepage=never no_timer_check";
/// Debian 12 has it with qemu, later ones in a package of its own.
const VIRTIOFSD: [&str; 2] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
const PAUSE: Duration = Duration::from_millis(20);

/// Where virtiofsd is.
pub(super) fn virtiofsd() -> Option<PathBuf> {
    VIRTIOFSD
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Runs a script as root on this kernel, with the host's files, which it cannot change. What it prints is printed;
/// its exit status is returned.
pub(super) fn run(kernel: &Kernel, script: &str, limit: Duration) -> Result<u8> {
    let dir = tempfile::tempdir().context("making a temporary folder")?;
    let file = |name: &str| dir.path().join(name);
    fs::write(file("initramfs"), initramfs::build(kernel, script)?)?;
    let root = share(&dir, "root", Path::new("/"))?;
    let modules = share(&dir, "modules", &kernel.modules)?;
    let mut qemu = guarded("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ])
    .args([
        "-M",
        "q35,memory-backend=memory",
        "-accel",
        "tcg",
        "-smp",
        "2",
    ])
    .args(["-cpu", "max,la57=off", "-m", MEMORY, "-object"])
    .arg(format!(
        "memory-backend-memfd,id=memory,size={MEMORY},share=on"
    ))
    .arg("-kernel")
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(file("initramfs"))
    .args([
        "-append",
        CMDLINE,
        "-device",
        "virtio-serial-pci",
        "-serial",
    ])
    .arg(format!("file:{}", file("console").display()));
    for share in [&root, &modules] {
        qemu.args(&share.arguments);
    }
    // Its own output is a pipe or a file as ours is, and qemu may not empty it.
    for (port, path) in [
        ("output", Path::new("/dev/stdout")),
        ("status", &file("status")),
    ] {
        qemu.arg("-chardev")
            .arg(format!("file,id={port},append=on,path={}", path.display()))
            .arg("-device")
            .arg(format!("virtserialport,chardev={port},name={port}"));
    }
    qemu.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(file("qemu"))?);
    let mut qemu = Process(qemu.spawn().context("running qemu-system-x86_64")?);
    let mut output = qemu.0.stdout.take().context("a pipe was asked for")?;
    // Ends when qemu does.
    let output = thread::spawn(move || io::copy(&mut output, &mut io::stdout()));
    let in_time = qemu.wait(limit)?;
    drop(qemu);
    let _ = output.join();
    let status = fs::read_to_string(file("status")).unwrap_or_default();
    if let Ok(status) = status.trim().parse() {
        return Ok(status);
    }
    let said = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
    let kept = tools::folder().join(format!("logs/kernel-{}.log", kernel.release));
    fs::write(&kept, format!("{}{}", said("qemu"), said("console")))?;
    bail!(
        "the guest {}; its console: {}",
        if in_time {
            "ended before the command did".to_owned()
        } else {
            format!("did not end within {limit:?}")
        },
        kept.display()
    )
}

/// A folder that the guest sees.
struct Share {
    /// qemu's arguments.
    arguments: Vec<String>,
    _daemon: Process,
}

fn share(dir: &TempDir, tag: &str, folder: &Path) -> Result<Share> {
    let program = virtiofsd().context("virtiofsd is not installed")?;
    let socket = dir.path().join(tag);
    let mut daemon = guarded(&program);
    daemon.arg(format!("--socket-path={}", socket.display()));
    // The one that came with qemu, and the one that is a project of its own.
    if program.starts_with("/usr/lib/qemu") {
        daemon.arg("-o").arg(format!(
            "source={},sandbox=chroot,cache=always",
            folder.display()
        ));
    } else {
        daemon
            .arg("--shared-dir")
            .arg(folder)
            .args(["--sandbox", "chroot", "--cache", "always"]);
    }
    let log = dir.path().join(format!("{tag}.log"));
    daemon
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?);
    let daemon = Process(daemon.spawn().context("running virtiofsd")?);
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(20) {
            bail!(
                "virtiofsd does not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
        thread::sleep(PAUSE);
    }
    Ok(Share {
        arguments: vec![
            "-chardev".to_owned(),
            format!("socket,id={tag},path={}", socket.display()),
            "-device".to_owned(),
            format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
        ],
        _daemon: daemon,
    })
}

/// A command that dies with this process, however that ends.
fn guarded(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_ref());
    command
}

/// Killed when it is dropped.
struct Process(Child);

impl Process {
    /// Whether it ended in time.
    fn wait(&mut self, limit: Duration) -> Result<bool> {
        let start = Instant::now();
        while self.0.try_wait()?.is_none() {
            if start.elapsed() > limit {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where qemu is.
pub(super) fn qemu() -> Option<PathBuf> {
    find("qemu-system-x86_64")
}
