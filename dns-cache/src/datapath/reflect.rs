//! The program that bounces queries, on one interface: what a benchmark measures answers from tc against.

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::error::{Error, Step as _};
use super::programs::{OBJECT, program};
use super::undisturbed::{Undisturbed, verified};

const PROGRAM: &str = "reflect";

/// The attached program. Dropping it detaches it; so does the end of the process, where the kernel has TCX
/// (Linux 6.6).
#[derive(Debug)]
pub struct Reflector {
    _ebpf: Ebpf,
}

impl Reflector {
    /// Attaches it to the ingress of an interface.
    ///
    /// # Errors
    ///
    /// The kernel refuses the program, or there is no such interface.
    pub fn attach(interface: &str) -> Result<Self, Error> {
        let step = || format!("attach the program {PROGRAM} to {interface}");
        let _undisturbed = Undisturbed::new();
        let mut ebpf = EbpfLoader::new()
            .override_global(aya_log::LEVEL, &0u8, true)
            .load(OBJECT)
            .step(|| "load the eBPF programs".to_owned())?;
        let program: &mut SchedClassifier = program(&mut ebpf, PROGRAM)?;
        verified(|| program.load()).step(step)?;
        attach(program, interface).step(step)?;
        Ok(Self { _ebpf: ebpf })
    }
}

/// Attaches a program of the benchmark's to the ingress of an interface, for as long as it is held.
pub(super) fn attach(program: &mut SchedClassifier, interface: &str) -> Result<(), ProgramError> {
    // TCX needs none; below it, a real fault shows at once in the next step.
    let _ = qdisc_add_clsact(interface);
    program.attach(interface, TcAttachType::Ingress).map(drop)
}
