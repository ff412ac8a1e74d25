//! Attaching a program to an interface, for what comes in or goes out: TCX where the kernel has it, else a clsact
//! filter.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::error::{Error, Step as _};
use super::filters::{self, Filter};
use super::{Capabilities, bpffs, interfaces, namespace};
use crate::config::AttachMode;
use crate::sys;

/// The filter's place in a clsact chain: among the first, and always the same, so that it is replaced and not doubled.
const PRIORITY: u16 = 1;
/// Which of that priority's filters it is: `DNS1` in ASCII. Others', Cilium's for one, take 1. Of several the last that
/// came runs first (`cls_bpf_change` of net/sched/cls_bpf.c).
const HANDLE: u32 = 0x444e_5331;
/// What the name of an egress link's pin ends with; a BPF file system allows no dot.
const EGRESS: &str = "-egress";

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// A pinned TCX link (Linux 6.6, commit e420bed02507).
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// Where our program is among those that an interface's packets meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    First,
    /// Behind another's program, of this id.
    Behind(u32),
    /// Somebody has taken it off.
    Gone,
}

/// Attaches programs, in the way that the configuration and the kernel allow.
#[derive(Debug)]
pub(super) struct Attacher {
    mode: AttachMode,
    capabilities: Capabilities,
    budget: Budget,
    links: PathBuf,
    qdiscs: Qdiscs,
}

impl Attacher {
    /// `links` is the directory, on a BPF file system, for pinned links.
    pub(super) fn new(
        mode: AttachMode,
        capabilities: Capabilities,
        links: PathBuf,
        state_dir: &Path,
    ) -> Self {
        Self {
            mode,
            capabilities,
            budget: Budget::new(Instant::now()),
            links,
            qdiscs: Qdiscs::of(state_dir),
        }
    }

    /// What is used for an interface, unless many come at once.
    pub(super) const fn mechanism(&self) -> Mechanism {
        match self.mode {
            AttachMode::Tcx => Mechanism::Tcx,
            AttachMode::Auto if self.capabilities.tcx => Mechanism::Tcx,
            AttachMode::Auto | AttachMode::Clsact => Mechanism::Clsact,
        }
    }

    /// What is used for this one. A link that is there is taken over, and before another's TCX program there is no way
    /// but TCX; else it is a question of time.
    fn mechanism_for(&mut self, ifindex: u32, direction: TcAttachType) -> Mechanism {
        let may_wait = self.mode == AttachMode::Auto && self.mechanism() == Mechanism::Tcx;
        let tcx = !may_wait
            || self.pin(ifindex, direction).exists()
            || first_in_tcx(ifindex, direction).is_some()
            || self.budget.take(Instant::now());
        match tcx {
            true => self.mechanism(),
            false => Mechanism::Clsact,
        }
    }

    /// What the kernel can do.
    pub(super) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Attaches `program` as the first of the interface's programs for this direction.
    ///
    /// What an earlier agent left there is replaced in place: there is no moment without a program.
    pub(super) fn attach(
        &mut self,
        program: &mut SchedClassifier,
        name: &str,
        ifindex: u32,
        direction: TcAttachType,
    ) -> Result<Mechanism, Error> {
        // What an agent that used the other way left would run beside it.
        let mechanism = self.mechanism_for(ifindex, direction);
        match mechanism {
            Mechanism::Tcx => {
                self.attach_tcx(program, name, ifindex, direction)?;
                remove_filters(name, direction);
            }
            Mechanism::Clsact => {
                self.attach_clsact(program, name, ifindex, direction)?;
                self.unpin(ifindex, direction);
            }
        }
        Ok(mechanism)
    }

    fn attach_tcx(
        &self,
        program: &mut SchedClassifier,
        name: &str,
        ifindex: u32,
        direction: TcAttachType,
    ) -> Result<(), Error> {
        let pin = self.pin(ifindex, direction);
        let step = || format!("attach the program to {name} by TCX");
        if let Ok(old) = PinnedLink::from_pin(&pin) {
            let replaced = SchedClassifierLink::try_from(FdLink::from(old))
                .map_err(|error| error.to_string())
                .and_then(|link| {
                    program
                        .attach_to_link(link)
                        .map_err(|error| error.to_string())
                })
                // Dropping our handle leaves the link to its pin.
                .and_then(|id| program.take_link(id).map_err(|error| error.to_string()));
            match replaced {
                Ok(_) => return Ok(()),
                // The interface that it was for is gone, and its index was used again.
                Err(error) => {
                    debug!(%error, name, "an earlier agent's link is stale");
                    self.unpin(ifindex, direction);
                }
            }
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(name, direction, options)
            .step(step)?;
        let link: FdLink = program.take_link(id).step(step)?.try_into().step(step)?;
        link.pin(&pin)
            .step(|| format!("pin the link of {name} at {}", pin.display()))?;
        Ok(())
    }

    fn attach_clsact(
        &self,
        program: &mut SchedClassifier,
        name: &str,
        ifindex: u32,
        direction: TcAttachType,
    ) -> Result<(), Error> {
        let step = || format!("attach the program to {name} by clsact");
        // It exists already wherever anybody has attached a filter before; a real fault shows at once below.
        if qdisc_add_clsact(name).is_ok() {
            self.qdiscs.made(ifindex);
        }
        let handle = TcHandle::from(HANDLE);
        let options = NlOptions {
            priority: PRIORITY,
            handle,
            classid: None,
        };
        let id =
            match program.attach_with_options(name, direction, TcAttachOptions::Netlink(options)) {
                Ok(id) => id,
                // What an earlier agent left is replaced.
                Err(error) => match ours(ifindex, direction) {
                    Ok(found) if found.iter().any(|filter| filter.handle == HANDLE) => {
                        let old =
                            SchedClassifierLink::attached(name, direction, PRIORITY, handle, None)
                                .step(step)?;
                        program.attach_to_link(old).step(step)?
                    }
                    _ => return Err(error).step(step),
                },
            };
        let link = program.take_link(id).step(step)?;
        // Dropping it would detach; the filter is to outlive this process.
        std::mem::forget(link);
        Ok(())
    }

    /// Where our program of the id `own` is on this interface.
    pub(super) fn standing(&self, own: u32, ifindex: u32, direction: TcAttachType) -> Standing {
        let tcx = match self.capabilities.tcx {
            true => first_in_tcx(ifindex, direction),
            false => None,
        };
        match tcx {
            Some(first) if first == own => Standing::First,
            // All of TCX runs before any filter.
            Some(first) => Standing::Behind(first),
            // Its link is there, and attached to nothing any more.
            None if self.pin(ifindex, direction).exists() => Standing::Gone,
            None => match filters::list(ifindex, direction) {
                Ok(filters) => among(&filters, own),
                Err(error) => {
                    debug!(%error, ifindex, "an interface's filters cannot be listed");
                    Standing::First
                }
            },
        }
    }

    /// Puts the program in front of all others. Meanwhile the interface's packets take the ordinary path: a link keeps
    /// its place for as long as it is there.
    pub(super) fn move_to_front(
        &mut self,
        program: &mut SchedClassifier,
        name: &str,
        ifindex: u32,
        direction: TcAttachType,
    ) -> Result<Mechanism, Error> {
        self.unpin(ifindex, direction);
        remove_filters(name, direction);
        self.attach(program, name, ifindex, direction)
    }

    /// Removes what holds a program of ours, or of an earlier agent, on an interface that is gone (without a
    /// name) or not wanted.
    pub(super) fn forget(&self, name: Option<&str>, ifindex: u32) {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            self.detach(name, ifindex, direction);
        }
        if name.is_none() {
            self.qdiscs.forget(ifindex);
        }
    }

    /// The same for one direction.
    pub(super) fn detach(&self, name: Option<&str>, ifindex: u32, direction: TcAttachType) {
        self.unpin(ifindex, direction);
        if let Some(name) = name {
            remove_filters(name, direction);
        }
    }

    fn pin(&self, ifindex: u32, direction: TcAttachType) -> PathBuf {
        self.links.join(match direction {
            TcAttachType::Egress => format!("{ifindex}{EGRESS}"),
            _ => ifindex.to_string(),
        })
    }

    /// Takes our link off an interface, if there is one. At once, and not when the kernel gets to it: until then it would
    /// refuse to attach the same program again (EEXIST: `bpf_mprog_attach` of kernel/bpf/mprog.c).
    fn unpin(&self, ifindex: u32, direction: TcAttachType) {
        let pin = self.pin(ifindex, direction);
        // That of an interface that is gone is detached already.
        if let Err(error) = bpffs::ignore_missing(sys::detach_link(&pin)) {
            debug!(%error, pin = %pin.display(), "a link is left to the kernel");
        }
        if let Err(error) = bpffs::ignore_missing(fs::remove_file(&pin)) {
            warn!(%error, pin = %pin.display(), "cannot remove a pinned link");
        }
    }

    /// Removes pins of interfaces that are not in `present`: an earlier agent's, whose interfaces are gone.
    pub(super) fn keep_only(&self, present: impl Fn(u32) -> bool) {
        for pin in bpffs::pins(&self.links) {
            let ifindex = pin.file_name().and_then(|name| {
                let name = name.to_str()?;
                name.strip_suffix(EGRESS).unwrap_or(name).parse().ok()
            });
            if !ifindex.is_some_and(&present)
                && let Err(error) = fs::remove_file(&pin)
            {
                warn!(%error, pin = %pin.display(), "cannot remove a stale pin");
            }
        }
        self.qdiscs.keep_only(present);
    }
}

/// Where ours, of this id, is among an interface's filters.
fn among(filters: &[Filter], own: u32) -> Standing {
    let is_ours = |filter: &Filter| {
        (filter.handle, filter.priority, filter.program) == (HANDLE, PRIORITY, own)
    };
    match filters {
        [first, ..] if is_ours(first) => Standing::First,
        [first, rest @ ..] if rest.iter().any(is_ours) => Standing::Behind(first.program),
        _ => Standing::Gone,
    }
}

/// Our filters on an interface.
fn ours(ifindex: u32, direction: TcAttachType) -> std::io::Result<Vec<Filter>> {
    let mut found = filters::list(ifindex, direction)?;
    found.retain(|filter| programs(direction).contains(&&*filter.name));
    Ok(found)
}

/// The id of the first of an interface's TCX programs for a direction.
fn first_in_tcx(ifindex: u32, direction: TcAttachType) -> Option<u32> {
    let is_egress = matches!(direction, TcAttachType::Egress);
    let programs = sys::tcx_programs(ifindex, is_egress).ok()?;
    programs.first().copied()
}

/// How many TCX links may be made. Each waits for a grace period of RCU, with the lock that all changes of interfaces
/// take (`tcx_entry_sync` of kernel/bpf/tcx.c): 12 ms at 250 Hz, where a filter takes less than one. So what
/// comes in crowds gets filters, and the node's other users of that lock have their turn.
#[derive(Debug)]
struct Budget {
    left: u32,
    refilled: Instant,
}

impl Budget {
    const BURST: u32 = 16;
    const REFILL: Duration = Duration::from_millis(250);

    const fn new(now: Instant) -> Self {
        Self {
            left: Self::BURST,
            refilled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let periods = now.duration_since(self.refilled).as_millis() / Self::REFILL.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if periods > 0 {
            self.left = self.left.saturating_add(periods).min(Self::BURST);
            self.refilled = now;
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

/// The programs that a filter may hold.
const fn programs(direction: TcAttachType) -> &'static [&'static str] {
    match direction {
        TcAttachType::Egress => &["pod_egress", "host_egress"],
        _ => &["pod_ingress", "resolver_ingress"],
    }
}

fn remove_filters(name: &str, direction: TcAttachType) -> bool {
    // Each name once: a filter that is not there is no fault.
    programs(direction)
        .iter()
        .filter(|program| qdisc_detach_program(name, direction, program).is_ok())
        .count()
        > 0
}

/// The clsact qdiscs that we made: others' stay when our filters go.
#[derive(Debug)]
struct Qdiscs {
    /// Holds an empty file for each, by the interface's index.
    dir: PathBuf,
}

impl Qdiscs {
    fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("clsact"),
        }
    }

    fn made(&self, ifindex: u32) {
        let written = fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(self.dir.join(ifindex.to_string()), []));
        if let Err(error) = written {
            // It stays behind at a detach; an empty qdisc does nothing.
            warn!(%error, dir = %self.dir.display(), "cannot note a qdisc that was made");
        }
    }

    fn is_ours(&self, ifindex: u32) -> bool {
        self.dir.join(ifindex.to_string()).exists()
    }

    /// The interface is gone, and its qdisc with it; its index may be used again.
    fn forget(&self, ifindex: u32) {
        let note = self.dir.join(ifindex.to_string());
        if let Err(error) = bpffs::ignore_missing(fs::remove_file(&note)) {
            warn!(%error, note = %note.display(), "cannot forget a qdisc that is gone");
        }
    }

    /// Forgets the qdiscs of all interfaces that are not `present`.
    fn keep_only(&self, present: impl Fn(u32) -> bool) {
        for note in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let ifindex = note.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(ifindex) = ifindex.filter(|ifindex| !present(*ifindex)) {
                self.forget(ifindex);
            }
        }
    }
}

/// Removes our clsact filters from every interface; TCX links go with their pins.
pub(super) async fn detach_all(state_dir: &Path) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    let qdiscs = Qdiscs::of(state_dir);
    let handle = namespace::netlink().step(|| "open a netlink socket".to_owned())?;
    for (ifindex, name) in interfaces::names(&handle).await? {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            if remove_filters(&name, direction) {
                removed.push(format!("clsact filter of {name}"));
            }
        }
        if qdiscs.is_ours(ifindex) {
            match remove_empty_clsact(&handle, ifindex).await {
                // With its qdisc: a pod was removed, or the resolver's namespace has ended just now.
                Err(error) if namespace::is_gone(&error) => {}
                removed => {
                    removed.step(|| format!("remove the clsact qdisc of {name}"))?;
                }
            }
        }
    }
    bpffs::ignore_missing(fs::remove_dir_all(&qdiscs.dir))
        .step(|| format!("remove {}", qdiscs.dir.display()))?;
    Ok(removed)
}

/// The qdisc is shared with whoever else has filters there; without any it does nothing.
async fn remove_empty_clsact(handle: &Handle, ifindex: u32) -> Result<(), rtnetlink::Error> {
    let ifindex = ifindex.cast_signed();
    let mut filters = handle.traffic_filter(ifindex);
    for filters in [filters.get().ingress(), filters.get().egress()] {
        if filters.execute().try_next().await?.is_some() {
            return Ok(());
        }
    }
    let mut request = handle.qdisc().del(ifindex);
    request.message_mut().header.parent = netlink_packet_route::tc::TcHandle::CLSACT;
    request.execute().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_told_from_others_at_its_place() {
        let filter = |program| Filter {
            priority: PRIORITY,
            handle: HANDLE,
            name: String::new(),
            program,
        };
        assert_eq!(among(&[filter(7), filter(8)], 7), Standing::First);
        assert_eq!(among(&[filter(8), filter(7)], 7), Standing::Behind(8));
        assert_eq!(among(&[filter(8)], 7), Standing::Gone);
        assert_eq!(among(&[], 7), Standing::Gone);
    }

    #[test]
    fn links_are_made_as_time_allows() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken = |budget: &mut Budget, now| (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, start), 16);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(1)), 4);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(1)), 0);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(3600)), 16);
    }
}
