//! Where names stand in the RDATA of the types that may hold compressed ones.

/// A part of RDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// So many bytes.
    Bytes(usize),
    /// A length byte and what it counts (RFC 1035 §3.3).
    CharacterString,
    /// A name that may be compressed in a message (RFC 1035's types only: RFC 3597 §4).
    Compressible,
    /// A name that is sent whole, but may come compressed from old servers (RFC 3597 §4).
    Name,
    /// Everything that is left.
    Rest,
}

use Field::{Bytes, CharacterString, Compressible, Name, Rest};

/// The parts of a type's RDATA. Types without names, or unknown ones, are opaque.
pub(super) const fn layout(rtype: u16) -> &'static [Field] {
    match rtype {
        // A
        1 => &[Bytes(4)],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR
        2..=5 | 7..=9 | 12 => &[Compressible],
        // SOA
        6 => &[Compressible, Compressible, Bytes(20)],
        // MINFO
        14 => &[Compressible, Compressible],
        // MX
        15 => &[Bytes(2), Compressible],
        // RP
        17 => &[Name, Name],
        // AFSDB, RT, KX
        18 | 21 | 36 => &[Bytes(2), Name],
        // SIG, RRSIG
        24 | 46 => &[Bytes(18), Name, Rest],
        // PX
        26 => &[Bytes(2), Name, Name],
        // AAAA
        28 => &[Bytes(16)],
        // NXT, NSEC
        30 | 47 => &[Name, Rest],
        // SRV
        33 => &[Bytes(6), Name],
        // NAPTR
        35 => &[
            Bytes(4),
            CharacterString,
            CharacterString,
            CharacterString,
            Name,
        ],
        // DNAME
        39 => &[Name],
        _ => &[Rest],
    }
}
