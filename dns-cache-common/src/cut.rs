//! Where "no such name" holds for everything below as well (RFC 8020), in a Kubernetes cluster's zone.
//!
//! CoreDNS's kubernetes plugin says NXDOMAIN for some names that have names below them
//! (`_tcp.web.default.svc`, `dns`), so not every NXDOMAIN may be believed for more than its own name. These may:
//!
//! ```text
//! SERVICE.NAMESPACE.svc.ZONE       NAMESPACE.svc.ZONE       LABEL.ZONE, but for svc, pod and dns
//! ```
//! and none of them at a label that begins with an underscore.

/// Places in a name at which a cut may stand, as offsets of labels, the shortest ancestor first. Offset 0 is the
/// name itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Points {
    offsets: [u8; 2],
    count: u8,
}

impl Points {
    fn push(&mut self, offset: u8) {
        if let Some(place) = self.offsets.get_mut(usize::from(self.count)) {
            (*place, self.count) = (offset, self.count + 1);
        }
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.offsets
            .into_iter()
            .take(usize::from(self.count))
            .map(usize::from)
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
    let mut points = Points::default();
    let Some([service, namespace, top]) = last_labels(name, zone) else {
        return points;
    };
    let may_stand = |label: &Option<u8>| label.is_some_and(|at| !starts(name, at, b"_"));
    match top {
        Some(at) if is(name, at, b"svc") => {
            for label in [namespace, service] {
                match label.filter(|_| may_stand(&label)) {
                    Some(at) => points.push(at),
                    None => break,
                }
            }
        }
        Some(at) if may_stand(&top) && !is(name, at, b"pod") && !is(name, at, b"dns") => {
            points.push(at);
        }
        _ => {}
    }
    points
}

/// The offsets of the three labels before the zone, the one next to it last; `None` if the name is not in it.
fn last_labels(name: &[u8], zone: &[u8]) -> Option<[Option<u8>; 3]> {
    let end = name.len().checked_sub(zone.len())?;
    let mut labels = [None; 3];
    let mut at = 0;
    while at < end {
        labels = [labels[1], labels[2], Some(u8::try_from(at).ok()?)];
        at += 1 + usize::from(*name.get(at)?);
    }
    (at == end && name.get(end..)? == zone).then_some(labels)
}

fn starts(name: &[u8], at: u8, with: &[u8]) -> bool {
    name.get(usize::from(at) + 1..)
        .is_some_and(|label| label.starts_with(with))
}

fn is(name: &[u8], at: u8, label: &[u8]) -> bool {
    name.get(usize::from(at)).copied() == u8::try_from(label.len()).ok() && starts(name, at, label)
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
        }
    }
}
