//! Numbers of the IANA registry that the rules need: record types, classes, rcodes.

/// Record types.
pub mod rtype {
    /// RFC 1035 §3.4.1.
    pub const A: u16 = 1;
    /// RFC 1035 §3.3.1.
    pub const CNAME: u16 = 5;
    /// RFC 1035 §3.3.13.
    pub const SOA: u16 = 6;
    /// RFC 1035 §3.3.12.
    pub const PTR: u16 = 12;
    /// RFC 1035 §3.3.2.
    pub const HINFO: u16 = 13;
    /// RFC 3596.
    pub const AAAA: u16 = 28;
    /// RFC 6672.
    pub const DNAME: u16 = 39;
    /// RFC 6891; a pseudo-record.
    pub const OPT: u16 = 41;
    /// RFC 2930; valid in a query only between parties that share secrets.
    pub const TKEY: u16 = 249;
    /// RFC 8945; a pseudo-record.
    pub const TSIG: u16 = 250;
    /// RFC 1995.
    pub const IXFR: u16 = 251;
    /// RFC 5936.
    pub const AXFR: u16 = 252;
    /// RFC 8482.
    pub const ANY: u16 = 255;

    /// Whether answers to this type may be kept: not the types that no record has (RFC 6895 §3.1:
    /// 128 to 255, OPT, 0), whose answers depend on more than the question.
    #[must_use]
    pub const fn is_data(rtype: u16) -> bool {
        rtype != 0 && rtype != OPT && !(rtype >= 128 && rtype <= 255)
    }
}

/// Classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
}

/// Response codes, as in the header's four bits or extended by OPT.
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query cannot be read.
    pub const FORMERR: u16 = 1;
    /// No answer could be had.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not supported.
    pub const NOTIMP: u16 = 4;
    /// Not answered by policy.
    pub const REFUSED: u16 = 5;
    /// EDNS version not supported (RFC 6891 §9).
    pub const BADVERS: u16 = 16;
}

/// Info codes of Extended DNS Errors (RFC 8914 §4).
pub mod ede {
    /// None of the others; the text says what.
    pub const OTHER: u16 = 0;
    /// The answer is older than its TTL (RFC 8767).
    pub const STALE_ANSWER: u16 = 3;
    /// No server to ask is known (yet).
    pub const NOT_READY: u16 = 14;
    /// The name is blocked by whoever runs this server.
    pub const BLOCKED: u16 = 15;
    /// The client may not ask this server.
    pub const PROHIBITED: u16 = 18;
    /// As [`STALE_ANSWER`], and the answer is NXDOMAIN.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// No server answered.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// No server could be spoken to.
    pub const NETWORK_ERROR: u16 = 23;
    /// What a server sent makes no sense.
    pub const INVALID_DATA: u16 = 24;
}
