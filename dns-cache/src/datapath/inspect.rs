//! What the verifier makes of each program: growth is seen before a kernel refuses it.

use aya::EbpfLoader;
use aya::programs::{CgroupSockAddr, ProgramError, ProgramInfo, SchedClassifier};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use dns_cache_common::maps::globals;

use super::error::{Error, Step as _};
use super::host_sockets;
use super::programs::{self, OBJECT, program};
use super::undisturbed::{Undisturbed, verified};

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
    let _undisturbed = Undisturbed::new();
    let mut ebpf = EbpfLoader::new()
        .override_global(aya_log::LEVEL, &0u8, true)
        .override_global(globals::BUCKETS, &1u32, true)
        .load(OBJECT)
        .step(|| "load the eBPF programs".to_owned())?;
    let object = Object::parse(OBJECT).step(|| "read the object file".to_owned())?;
    let mut all = Vec::new();
    for name in programs::NAMES {
        let program: &mut SchedClassifier = program(&mut ebpf, name)?;
        let info = verified(|| program.load()).and_then(|()| program.info());
        all.push(figures(&object, name, info)?);
    }
    for name in host_sockets::NAMES {
        let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
        let info = verified(|| program.load()).and_then(|()| program.info());
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

#[cfg(test)]
mod tests {
    use aya::sys::BpfHelper;
    use aya_obj::generated::BPF_PSEUDO_CALL;

    use super::*;

    /// `BPF_JMP | BPF_CALL` of linux/bpf_common.h.
    const CALL: u8 = 0x85;

    /// Linux before 6.0 refuses a program with both, but on x86-64 (commit d4609a5d8c70 for arm64).
    #[test]
    fn a_program_that_ends_in_a_tail_call_calls_no_function_of_its_own() {
        let object = Object::parse(OBJECT).unwrap();
        let calls = |name: &str, is: fn(&bpf_insn) -> bool| {
            let function = &object.functions[&object.programs[name].function_key()];
            let mut calls = function.instructions.iter().filter(|i| i.code == CALL);
            calls.any(is)
        };
        let tail: Vec<_> = programs::NAMES
            .into_iter()
            .filter(|name| {
                calls(name, |call| {
                    call.src_reg() == 0 && call.imm == BpfHelper::BPF_FUNC_tail_call as i32
                })
            })
            .collect();
        assert_eq!(tail, ["pod_ingress"]);
        for name in tail {
            let own = calls(name, |call| u32::from(call.src_reg()) == BPF_PSEUDO_CALL);
            assert!(!own, "{name} calls a function");
        }
    }

    /// A loop may go back by a jump, and not by going on at the next instruction: so Linux 5.10 has it (`check_cfg` and
    /// `push_insn` of kernel/bpf/verifier.c), whose search this is.
    #[test]
    fn programs_go_back_by_jumps() {
        let object = Object::parse(OBJECT).unwrap();
        for function in object.functions.values() {
            let back = goes_back_without_a_jump(&function.instructions);
            assert_eq!(back, None, "{}", function.name);
        }
        let code = |jumps: [i16; 4]| {
            jumps.map(|off| bpf_insn {
                code: if off == 0 { MOVE } else { JUMP },
                _bitfield_align_1: [],
                _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
                off,
                imm: 0,
            })
        };
        // Into the loop at 2, which goes back to 1, which goes on at 2.
        assert_eq!(goes_back_without_a_jump(&code([1, 0, -2, 0])), Some(1));
        assert_eq!(goes_back_without_a_jump(&code([0, 0, -2, 0])), None);
    }

    /// `BPF_JMP | BPF_JA` and `BPF_JMP | BPF_EXIT`, and both classes of jumps.
    const JUMP: u8 = 0x05;
    const EXIT: u8 = 0x95;
    const JUMP_CLASSES: std::ops::RangeInclusive<u8> = 5..=6;
    /// `BPF_LD | BPF_IMM | BPF_DW`, which takes two places.
    const WIDE: u8 = 0x18;

    /// The first instruction found that is no jump and is followed by one on the way to it.
    fn goes_back_without_a_jump(code: &[bpf_insn]) -> Option<usize> {
        #[derive(Clone, Copy, PartialEq)]
        enum Visit {
            No,
            Begun,
            Done,
        }
        let mut visits = vec![Visit::No; code.len()];
        let mut way = vec![(0, next(code, 0))];
        visits[0] = Visit::Begun;
        while let Some((at, ways)) = way.last_mut() {
            let Some((to, jumps)) = ways.pop() else {
                visits[*at] = Visit::Done;
                way.pop();
                continue;
            };
            match visits.get(to) {
                Some(Visit::Begun) if !jumps => return Some(*at),
                Some(Visit::No) => {
                    visits[to] = Visit::Begun;
                    way.push((to, next(code, to)));
                }
                _ => {}
            }
        }
        None
    }

    /// Where it goes on after the instruction at `at`, what is tried first at the end; and whether by a jump.
    fn next(code: &[bpf_insn], at: usize) -> Vec<(usize, bool)> {
        let instruction = &code[at];
        let target = at.wrapping_add_signed(1 + isize::from(instruction.off));
        match instruction.code {
            EXIT => Vec::new(),
            JUMP => vec![(target, true)],
            CALL => vec![(at + 1, false)],
            WIDE => vec![(at + 2, false)],
            other if JUMP_CLASSES.contains(&(other & 7)) => vec![(target, true), (at + 1, true)],
            _ => vec![(at + 1, false)],
        }
    }

    /// The one clock that goes on while the machine is suspended: by any other, what is old would be given as young. Here both
    /// may say the same.
    #[test]
    fn the_programs_know_no_clock_but_boottime() {
        let object = Object::parse(OBJECT).unwrap();
        let calls = |helper: BpfHelper| {
            let code = object.functions.values().flat_map(|f| &f.instructions);
            let calls = code.filter(|i| i.code == CALL && i.src_reg() == 0);
            calls.filter(|call| call.imm == helper as i32).count()
        };
        assert!(calls(BpfHelper::BPF_FUNC_ktime_get_boot_ns) > 0);
        for other in [
            BpfHelper::BPF_FUNC_ktime_get_ns,
            BpfHelper::BPF_FUNC_ktime_get_coarse_ns,
            BpfHelper::BPF_FUNC_ktime_get_tai_ns,
            BpfHelper::BPF_FUNC_jiffies64,
        ] {
            assert_eq!(calls(other), 0, "{other:?}");
        }
    }
}
