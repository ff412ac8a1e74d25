//! What the verifier makes of each program: growth is seen before a kernel refuses it.

use aya::EbpfLoader;
use aya::programs::{CgroupSockAddr, ProgramError, ProgramInfo, SchedClassifier};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use dns_cache_common::maps::globals;

use super::error::{Error, Step as _};
use super::host_sockets;
use super::programs::{self, OBJECT, program};

const FRAME_POINTER: u8 = 10;
/// `BPF_ALU64 | BPF_MOV | BPF_X` and `BPF_ALU64 | BPF_ADD | BPF_K` of linux/bpf_common.h.
const MOVE: u8 = 0xbf;
const ADD_CONSTANT: u8 = 0x07;
/// Instruction classes that access memory: LDX, ST, STX.
const MEMORY_CLASSES: std::ops::RangeInclusive<u8> = 1..=3;

/// Figures of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The program's name.
    pub program: &'static str,
    /// Instructions in the object file.
    pub instructions: usize,
    /// Instructions that the verifier went through (limit 1,000,000); needs Linux 5.16.
    pub processed: Option<u32>,
    /// Bytes of stack that its own frame uses (limit 512).
    pub stack: u32,
    /// Bytes of translated code; needs Linux 4.13.
    pub translated: Option<u32>,
}

/// Loads every program into the running kernel, attaches none, and reads its figures.
///
/// # Errors
///
/// The kernel refuses a program, or the object file cannot be read.
pub fn inspect() -> Result<Vec<Figures>, Error> {
    let mut ebpf = EbpfLoader::new()
        .override_global(aya_log::LEVEL, &0u8, true)
        .override_global(globals::BUCKETS, &1u32, true)
        .load(OBJECT)
        .step(|| "load the eBPF programs".to_owned())?;
    let object = Object::parse(OBJECT).step(|| "read the object file".to_owned())?;
    let mut all = Vec::new();
    for name in programs::NAMES {
        let program: &mut SchedClassifier = program(&mut ebpf, name)?;
        let info = program.load().and_then(|()| program.info());
        all.push(figures(&object, name, info)?);
    }
    for name in host_sockets::NAMES {
        let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
        let info = program.load().and_then(|()| program.info());
        all.push(figures(&object, name, info)?);
    }
    Ok(all)
}

fn figures(
    object: &Object,
    name: &'static str,
    info: Result<ProgramInfo, ProgramError>,
) -> Result<Figures, Error> {
    let info = info.step(|| format!("load the eBPF program {name}"))?;
    let code = object
        .programs
        .get(name)
        .and_then(|program| object.functions.get(&program.function_key()))
        .map_or(&[][..], |function| &function.instructions);
    Ok(Figures {
        program: name,
        instructions: code.len(),
        processed: info.verified_instruction_count(),
        stack: stack(code),
        translated: info.size_translated(),
    })
}

/// The deepest byte below the frame pointer that is accessed or pointed to, rounded up as the kernel does.
fn stack(code: &[bpf_insn]) -> u32 {
    let accesses = code.iter().filter_map(|insn| {
        let base = if insn.code & 7 == 1 {
            insn.src_reg()
        } else {
            insn.dst_reg()
        };
        (MEMORY_CLASSES.contains(&(insn.code & 7)) && base == FRAME_POINTER)
            .then_some(i32::from(insn.off))
    });
    let pointers = code.windows(2).filter_map(|pair| match pair {
        [copy, add]
            if copy.code == MOVE
                && copy.src_reg() == FRAME_POINTER
                && add.code == ADD_CONSTANT
                && add.dst_reg() == copy.dst_reg() =>
        {
            Some(add.imm)
        }
        _ => None,
    });
    let deepest = accesses.chain(pointers).min().unwrap_or(0).min(0);
    deepest.unsigned_abs().next_multiple_of(8)
}
