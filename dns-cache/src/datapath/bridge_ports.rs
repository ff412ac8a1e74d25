//! Behind which port of a bridge a MAC address lives, as far as the bridge has learnt it.

use std::collections::{BTreeMap, VecDeque};

use aya::maps::{HashMap, MapData};
use dns_cache_common::maps::BridgePort;

use super::error::{Error, Step as _};

/// MAC addresses of one port. A pod that is a bridge itself has several; one that sends from any number of them shall not fill
/// the map that all share.
const MOST: usize = 32;

type Key = [u8; 12];

/// The map `BRIDGE_PORTS`, to which the programs add what they see first.
#[derive(Debug)]
pub(super) struct BridgePorts {
    map: HashMap<MapData, Key, u32>,
    /// What is in it of each port, the oldest first.
    ports: BTreeMap<u32, VecDeque<Key>>,
}

impl BridgePorts {
    /// With what an earlier agent left in the map.
    pub(super) fn new(map: HashMap<MapData, Key, u32>) -> Self {
        let found: Vec<_> = map.iter().filter_map(Result::ok).collect();
        let mut this = Self {
            map,
            ports: BTreeMap::new(),
        };
        for (key, port) in found {
            this.remember(key, port);
        }
        this
    }

    /// Notes an address behind a port; the port's oldest makes room.
    pub(super) fn set(&mut self, key: BridgePort, port: u32) -> Result<(), Error> {
        let key = key.to_bytes();
        self.map
            .insert(key, port, 0)
            .step(|| format!("note a MAC address behind bridge port {port}"))?;
        self.remember(key, port);
        Ok(())
    }

    /// Forgets an interface as a port and as a bridge.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.ports.remove(&ifindex);
        let gone: Vec<_> = self
            .map
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, port)| {
                *port == ifindex || BridgePort::from_bytes(*key).bridge == ifindex
            })
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            // Absent is as good as removed.
            let _ = self.map.remove(&key);
        }
    }

    fn remember(&mut self, key: Key, port: u32) {
        let known = self.ports.entry(port).or_default();
        known.retain(|other| *other != key);
        known.push_back(key);
        if known.len() > MOST
            && let Some(oldest) = known.pop_front()
            // It may have moved to another port since.
            && self.map.get(&oldest, 0).is_ok_and(|now| now == port)
        {
            let _ = self.map.remove(&oldest);
        }
    }
}
