//! Pods that come, take others' addresses, lose their link for a moment, and go.

use super::World;
use super::clients::{Asker, Style};
use super::ledger::Cause;
use crate::addresses::{self, Family, Pair};
use crate::pod::Pod;
use crate::random::Random;

/// The numbers of these pods' addresses; the lab's own pods have lower ones.
const FIRST: u16 = 100;
const COUNT: u64 = 100;

/// The agent may not have seen the pod yet: then it has the ordinary path.
const NEW_POD: &[Cause] = &[Cause::Servers, Cause::Unseen, Cause::Late];

/// Goes on until all is over.
pub(super) fn churn(world: &World<'_>, mut random: Random) {
    let mut last = None;
    for number in 0_u64.. {
        if world.is_over() {
            return;
        }
        // Half of the pods have the address of the one that has just gone.
        let address = match last {
            Some(address) if random.below(2) == 0 => address,
            _ => other(&mut random, last),
        };
        let name = format!("c{number}");
        let mut pod = Pod::new(world.lab.node(), &name, address, world.lab.node().flavour());
        lookups(world, &pod, &mut random);
        match random.below(3) {
            0 => pod.readdress(other(&mut random, Some(address))),
            1 => pod.interrupt(),
            _ => {}
        }
        lookups(world, &pod, &mut random);
        last = Some(pod.addresses());
        world.ledger.note(format!(
            "the pod {name} goes, its address was {}",
            pod.addresses()
        ));
        pod.remove();
        world.pass(random.millis(0, 300));
    }
}

/// An address that is not this one.
fn other(random: &mut Random, not: Option<Pair>) -> Pair {
    loop {
        let address = addresses::pod(FIRST + random.below(COUNT) as u16);
        if Some(address) != not {
            return address;
        }
    }
}

fn lookups(world: &World<'_>, pod: &Pod, random: &mut Random) {
    for family in Family::BOTH {
        for style in [Style::Fresh, Style::Pair, Style::Tcp] {
            let client = pod.client(family);
            Asker::new(client, style, NEW_POD).lookup(world, random);
        }
    }
}
