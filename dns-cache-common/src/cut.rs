//! Where "no such name" holds for everything below as well (RFC 8020), in a Kubernetes cluster's zone.
//!
//! CoreDNS's kubernetes plugin says NXDOMAIN for some names that have names below them
//! (`_tcp.web.default.svc`, `dns`), so not every NXDOMAIN may be believed for more than its own name. These may:
//!
//! ```text
//! SERVICE.NAMESPACE.svc.ZONE       NAMESPACE.svc.ZONE       LABEL.ZONE, but for svc, pod and dns
//! ```
//! and none of them at a label that begins with an underscore.

use crate::message::Message;
use crate::name::MAX_LABELS;

/// Places in a name at which a cut may stand, as offsets of labels. Offset 0 is the name itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Points {
    /// The shorter name: a label next to the zone, or a namespace.
    pub shorter: Option<usize>,
    /// The longer one: a service.
    pub longer: Option<usize>,
}

impl Points {
    /// All of them, the shorter name first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.shorter.into_iter().chain(self.longer)
    }

    /// Those that are names above the one that was asked about.
    pub fn above(self) -> impl Iterator<Item = usize> {
        self.iter().filter(|offset| *offset > 0)
    }

    /// Whether the name itself is one.
    #[must_use]
    pub fn is_cut(self) -> bool {
        self.iter().any(|offset| offset == 0)
    }
}

/// The places in `name` at which a cut of `zone` may stand; both in wire form and lower case.
#[must_use]
pub fn points(name: &[u8], zone: &[u8]) -> Points {
    if name.ends_with(zone) {
        points_before(name, zone.len())
    } else {
        Points::default()
    }
}

/// The same for a sound name of which no more is known than how long the zone's name at its end would be. Whoever
/// finds a cut by its whole name need not compare the zones.
#[inline(always)]
#[must_use]
pub fn points_before<M: Message + ?Sized>(name: &M, zone_len: usize) -> Points {
    let Some([service, namespace, top]) = last_labels(name, zone_len) else {
        return Points::default();
    };
    let may_stand = |label: Option<usize>| label.filter(|at| name.byte(at + 1) != b'_');
    match top {
        Some(at) if is_label(name, at, *b"svc") => {
            let shorter = may_stand(namespace);
            Points {
                shorter,
                longer: shorter.and_then(|_| may_stand(service)),
            }
        }
        Some(at) if is_label(name, at, *b"pod") || is_label(name, at, *b"dns") => Points::default(),
        _ => Points {
            shorter: may_stand(top),
            longer: None,
        },
    }
}

/// The offsets of the three labels before the zone, the one next to it last; `None` if none of the name's labels
/// ends there.
#[inline(always)]
fn last_labels<M: Message + ?Sized>(name: &M, zone_len: usize) -> Option<[Option<usize>; 3]> {
    /// Where no label begins: a name is no longer than that.
    const NONE: usize = 0xff;
    let end = name.len().checked_sub(zone_len)?;
    let mut labels = [NONE; 3];
    let mut at = 0;
    for _ in 0..=MAX_LABELS {
        if at >= end {
            break;
        }
        labels = [labels[1], labels[2], at];
        at += 1 + usize::from(name.byte(at));
    }
    let offset = |label| Some(name.settled(label)).filter(|at| *at != NONE);
    (at == end).then(|| labels.map(offset))
}

#[inline(always)]
fn is_label<M: Message + ?Sized>(name: &M, at: usize, label: [u8; 3]) -> bool {
    let [a, b, c] = label;
    [3, a, b, c] == [0, 1, 2, 3].map(|i| name.byte(at + i))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let mut wire: Vec<u8> = labels
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
            .collect();
        wire.push(0);
        wire
    }

    /// Names below `cluster.local`, and the names at which a cut may stand.
    #[test]
    fn legal_points() {
        let zone = wire("cluster.local");
        let table: [(&str, &[&str]); 26] = [
            ("", &[]),
            ("svc", &[]),
            ("pod", &[]),
            ("dns", &[]),
            ("ns.dns", &[]),
            ("com", &["com"]),
            ("google.com", &["com"]),
            ("a.b.google.com", &["com"]),
            ("_tcp", &[]),
            ("_http._tcp", &[]),
            ("a._tcp", &[]),
            ("default.pod", &[]),
            ("10-9-9-9.default.pod", &[]),
            ("x.10-9-9-9.default.pod", &[]),
            ("default.svc", &["default.svc"]),
            ("web.default.svc", &["default.svc", "web.default.svc"]),
            ("com.default.svc", &["default.svc", "com.default.svc"]),
            ("redis.com.default.svc", &["default.svc", "com.default.svc"]),
            (
                "a.redis.com.default.svc",
                &["default.svc", "com.default.svc"],
            ),
            ("redis.com.svc", &["com.svc", "redis.com.svc"]),
            (
                "_http._tcp.web.default.svc",
                &["default.svc", "web.default.svc"],
            ),
            ("_tcp.default.svc", &["default.svc"]),
            ("x._tcp.default.svc", &["default.svc"]),
            ("_x.svc", &[]),
            ("web._x.svc", &[]),
            ("svc.svc", &["svc.svc"]),
        ];
        for (name, expected) in table {
            let name = wire(&std::format!("{name}.cluster.local"));
            let found: Vec<_> = points(&name, &zone)
                .iter()
                .map(|at| name[at..].to_vec())
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|name| wire(&std::format!("{name}.cluster.local")))
                .collect();
            assert_eq!(found, expected, "{name:?}");
            assert_eq!(points(&name, &zone).is_cut(), expected.contains(&name));
            assert!(points(&name, &zone).above().all(|at| at > 0));
        }
    }

    #[test]
    fn other_zones_have_none() {
        let zone = wire("cluster.local");
        for name in [
            "local",
            "web.default.svc.cluster.example",
            "xcluster.local",
            "a.xcluster.local",
            "1.10.in-addr.arpa",
            ".",
        ] {
            assert_eq!(points(&wire(name), &zone), Points::default(), "{name}");
        }
        // The zone's bytes inside of a label.
        let name = [b"\x0fx".as_slice(), &zone].concat();
        assert_eq!(points(&name, &zone), Points::default());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(name: Vec<u8>, zone: Vec<u8>) {
            let _ = points(&name, &zone);
            let _ = points(&[&name[..], &zone].concat(), &zone);
            let _ = points_before(&name[..], zone.len());
        }
    }
}
