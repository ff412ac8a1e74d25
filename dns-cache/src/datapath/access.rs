//! Who is answered from the kernel cache, where not everybody may be.

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData};
use dns_cache_common::maps::{Address, globals, names};

use super::error::{Error, Step as _};
use super::programs::take;
use crate::config::Network;

/// IPv4 stands behind the mapped prefix, which is no part of the IPv6 networks around it.
const MAPPED: u32 = 96;

/// What the programs go by.
pub struct Access {
    networks: LpmTrie<MapData, [u8; 16], u32>,
    restricted: Array<MapData, u32>,
}

impl Access {
    /// That of loaded programs, which answer everybody.
    ///
    /// # Errors
    ///
    /// The object file lacks its maps.
    pub fn of(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            networks: take(ebpf, names::ALLOWED)?,
            restricted: take(ebpf, globals::VARIABLES)?,
        })
    }

    /// From here on only sources in these networks are answered, or all if there are none. While it changes, some that
    /// may be are handed to the resolver, and none that may not is answered.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn set(&mut self, networks: &[Network]) -> Result<(), Error> {
        let step = || "tell the programs who may ask".to_owned();
        let restricted = u32::from(!networks.is_empty());
        self.restricted.set(0, restricted, 0).step(step)?;
        let ipv4 = (MAPPED, Address::from_v4([0; 4]).0, 0);
        let networks = networks.iter().map(|network| {
            let before = if network.address.is_ipv4() { MAPPED } else { 0 };
            let address = Address::from(network.address).0;
            (before + u32::from(network.prefix), address, 1)
        });
        let wanted: Vec<_> = std::iter::once(ipv4).chain(networks).collect();
        let is_wanted = |key: &Key<[u8; 16]>| {
            let mut wanted = wanted.iter();
            wanted.any(|(prefix, address, _)| (*prefix, *address) == (key.prefix_len(), key.data()))
        };
        let known = self.networks.keys().filter_map(Result::ok);
        let gone: Vec<_> = known.filter(|key| !is_wanted(key)).collect();
        for key in gone {
            self.networks.remove(&key).step(step)?;
        }
        for (prefix, address, may_ask) in wanted {
            let key = Key::new(prefix, address);
            self.networks.insert(&key, may_ask, 0).step(step)?;
        }
        Ok(())
    }
}
