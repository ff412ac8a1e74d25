//! How long the stages of a hit take: by test runs of the benchmark's program, or under a load on an interface.

use std::time::Duration;

use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use dns_cache_common::hash::Seed;
use dns_cache_common::maps::{Interface, globals, measure, names};
use dns_cache_common::question::KeyParts;
use dns_cache_common::types::{class, rtype};
use nix::net::if_::if_nametoindex;
use serde::Serialize;

use super::error::{Error, Step as _};
use super::programs::{OBJECT, kernel_cache, program};
use super::reflect::attach;
use super::undisturbed::{Undisturbed, verified};
use crate::config::TtlCaps;
use crate::kernel_cache::{KernelCache, Size, random_seed};
use crate::resolver::{Clock, Entry, Terms, Time};

const PROGRAM: &str = "measure";
/// The loopback device, which every namespace has; the packets of a test run seem to come from it.
const LOOPBACK: u32 = 1;
/// Runs that the kernel takes the mean of; it gives nanoseconds as a whole number.
const REPEAT: u32 = 100_000;
const ROUNDS: usize = 9;
const TTL: u32 = 3600;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Nanoseconds from the beginning to the end of each stage, for the same packet again and again.
    pub stages: Vec<Stage>,
    /// Entries in the cache, and the median nanoseconds of a run up to `find`, each for another name.
    pub sizes: Vec<(u32, u64)>,
}

/// A stage, and all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The stage's name.
    pub name: &'static str,
    /// Median of the rounds.
    pub nanos: u64,
}

/// Measures the stages of a hit, and hits of names at random among so many entries each. Needs no interface; the
/// calling thread's network namespace must have a loopback device.
///
/// # Errors
///
/// The kernel refuses a step, or a run did not get to its stage.
pub fn measure(sizes: &[u32], lookups: u32) -> Result<Measured, Error> {
    let stages = measure::ALL
        .iter()
        .map(|(stage, name)| {
            let mut bench = Bench::new(*stage, 1, false)?;
            bench.sees(LOOPBACK)?;
            let packet = packet(0);
            let mut nanos = (0..ROUNDS)
                .map(|_| bench.run(&packet, REPEAT))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Stage {
                name,
                nanos: median(&mut nanos),
            })
        })
        .collect::<Result<_, Error>>()?;
    let sizes = sizes
        .iter()
        .map(|entries| {
            let bench = Bench::new(measure::FIND, *entries, false)?;
            // Marsaglia's xorshift32: names in an order that no cache foresees, the same in every run.
            let mut random = 0x9e37_79b9_u32;
            let mut nanos = Vec::new();
            for _ in 0..lookups {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                let (reached, took) = bench.reached(&packet(random % entries), 1)?;
                if reached == bench.stage {
                    nanos.push(took);
                }
            }
            // A bucket may have more than it holds: by far less than one name in a thousand is not there.
            let missing = lookups as usize - nanos.len();
            if missing * 1000 > lookups as usize {
                return Err(format!("{missing} of {lookups} names are not found"))
                    .step(|| format!("look names up among {entries}"));
            }
            Ok((*entries, median(&mut nanos)))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Measured { stages, sizes })
}

/// The program with one stage as its last, and a cache.
#[derive(Debug)]
struct Bench {
    ebpf: Ebpf,
    stage: u32,
    _cache: KernelCache,
}

/// The program on an interface: every query there goes through the stages up to one, and then back to its sender.
/// Dropping it detaches it; so does the end of the process, where the kernel has TCX (Linux 6.6).
#[derive(Debug)]
pub struct Stages {
    _bench: Bench,
}

impl Stages {
    /// Attaches it to the ingress of an interface, with answers for the addresses of so many names in the cache:
    /// `svc-0000000.default.svc.cluster.local`, and so on.
    ///
    /// # Errors
    ///
    /// There is no such stage or interface, or the kernel refuses the program.
    pub fn attach(interface: &str, last: &str, entries: u32) -> Result<Self, Error> {
        let step = || format!("attach the program {PROGRAM} to {interface}");
        let (stage, _) = measure::ALL
            .into_iter()
            .find(|(_, name)| *name == last)
            .ok_or_else(|| {
                let names = measure::ALL.map(|(_, name)| name).join(", ");
                format!("there is no stage {last}: give one of {names}")
            })
            .step(step)?;
        let mut bench = Bench::new(stage, entries, true)?;
        bench.sees(if_nametoindex(interface).step(step)?)?;
        attach(program(&mut bench.ebpf, PROGRAM)?, interface).step(step)?;
        Ok(Self { _bench: bench })
    }
}

impl Bench {
    fn new(stage: u32, entries: u32, live: bool) -> Result<Self, Error> {
        let step = || format!("load the program {PROGRAM}");
        let size = Size::for_entries(entries.saturating_mul(2).max(1000));
        let seed: Seed = random_seed();
        let _undisturbed = Undisturbed::new();
        let mut ebpf = EbpfLoader::new()
            .override_global(aya_log::LEVEL, &0u8, true)
            .override_global(globals::BUCKETS, &size.buckets, true)
            .override_global(globals::SEED, &seed.0, true)
            .override_global(measure::STAGE, &stage, true)
            .override_global(measure::LIVE, &u32::from(live), true)
            .map_max_entries(names::INDEX, size.buckets)
            .map_max_entries(names::ARENA, size.elements)
            .load(OBJECT)
            .step(step)?;
        let program: &mut SchedClassifier = program(&mut ebpf, PROGRAM)?;
        verified(|| program.load()).step(step)?;
        let cache = kernel_cache(&ebpf, size, seed, 0)?;
        fill(&cache, entries)?;
        Ok(Self {
            ebpf,
            stage,
            _cache: cache,
        })
    }

    /// Lets packets of this interface be answered.
    fn sees(&mut self, ifindex: u32) -> Result<(), Error> {
        let step = || format!("note the interface for the program {PROGRAM}");
        let map = self
            .ebpf
            .map_mut(names::INTERFACES)
            .ok_or("the object file lacks it")
            .step(step)?;
        let mut interfaces: HashMap<&mut MapData, u32, [u8; 8]> = map.try_into().step(step)?;
        let interface = Interface {
            bridge: 0,
            flags: Interface::PEER,
        };
        interfaces
            .insert(ifindex, interface.to_bytes(), 0)
            .step(step)
    }

    /// Nanoseconds a run, which must come to the stage.
    fn run(&self, packet: &[u8], repeat: u32) -> Result<u64, Error> {
        let (reached, nanos) = self.reached(packet, repeat)?;
        if reached != self.stage {
            return Err(format!(
                "it came to stage {} instead of {}",
                reached.cast_signed(),
                self.stage
            ))
            .step(|| format!("run the program {PROGRAM}"));
        }
        Ok(nanos)
    }

    /// The stage that it came to, and nanoseconds a run.
    fn reached(&self, packet: &[u8], repeat: u32) -> Result<(u32, u64), Error> {
        let step = || format!("run the program {PROGRAM}");
        // struct __sk_buff of linux/bpf.h: ifindex is its eleventh word.
        let mut context = [0; 44];
        context[40..].copy_from_slice(&LOOPBACK.to_ne_bytes());
        let program: &SchedClassifier = self
            .ebpf
            .program(PROGRAM)
            .ok_or("the object file lacks it")
            .step(step)?
            .try_into()
            .step(step)?;
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(packet),
                ctx_in: Some(&context),
                repeat,
                ..TestRunOptions::new()
            })
            .step(step)?;
        Ok((result.return_value, nanos(result.duration)))
    }
}

/// Puts an address for each name into the cache.
fn fill(cache: &KernelCache, entries: u32) -> Result<(), Error> {
    let terms = Terms {
        caps: TtlCaps {
            positive: TTL,
            negative: TTL,
            minimum: 0,
        },
        cut: false,
        now: Clock::Boot.now(),
    };
    for index in 0..entries {
        let name = name(index);
        let parts = KeyParts::new(&name, rtype::A, class::IN, 0);
        let response = [
            &[0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
            &name[..],
            &[0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 10],
            &index.to_be_bytes()[1..],
        ]
        .concat();
        let entry = Entry::new(&response, &parts, terms).step(|| "make an answer".to_owned())?;
        let key = [&name[..], &[0, 1, 0, 1, 0]].concat();
        cache.put(&key, &entry, Time::from_nanos(u64::MAX));
    }
    Ok(())
}

/// A name as services have them, on the wire.
fn name(index: u32) -> Vec<u8> {
    let label = format!("svc-{index:07}");
    let length = label.len() as u8;
    [
        &[length],
        label.as_bytes(),
        b"\x07default\x03svc\x07cluster\x05local\0",
    ]
    .concat()
}

/// A query for an address, as a pod's kernel sends it: the checksum is still to be made.
fn packet(index: u32) -> Vec<u8> {
    let name = name(index);
    let udp_len = (8 + 12 + name.len() + 4) as u16;
    let (client, server) = ([10, 244, 0, 2], [10, 96, 0, 10]);
    let words = [client, server].concat();
    let pseudo = words
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum::<u32>()
        + 17
        + u32::from(udp_len);
    let pseudo = ((pseudo & 0xffff) + (pseudo >> 16)) as u16;
    [
        &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0][..],
        &(20 + udp_len).to_be_bytes(),
        &[0, 1, 0x40, 0, 64, 17, 0, 0],
        &client,
        &server,
        &40_000_u16.to_be_bytes(),
        &53_u16.to_be_bytes(),
        &udp_len.to_be_bytes(),
        &pseudo.to_be_bytes(),
        &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        &name,
        &[0, 1, 0, 1],
    ]
    .concat()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
