//! Queries and responses, field by field.

use dns_cache_common::types::{class, rtype};

/// A pointer to the question's name.
pub(super) const QUESTION: &[u8] = &[0xc0, 12];

/// A record; its names may point to the question's.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) owner: Vec<u8>,
    pub(super) rtype: u16,
    pub(super) ttl: u32,
    pub(super) data: Vec<u8>,
}

impl Record {
    pub(super) fn new(owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Self {
        Self {
            owner: owner.to_vec(),
            rtype,
            ttl,
            data: data.to_vec(),
        }
    }

    /// An SOA record that lets a denial be kept as long as its TTL says.
    pub(super) fn soa(ttl: u32) -> Self {
        let data = [QUESTION, QUESTION, &[0; 16], &u32::MAX.to_be_bytes()].concat();
        Self::new(QUESTION, rtype::SOA, ttl, &data)
    }
}

/// An upstream's response.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) flags: u16,
    pub(super) name: Vec<u8>,
    pub(super) rtype: u16,
    pub(super) sections: [Vec<Record>; 3],
}

impl Response {
    pub(super) fn new(name: &[u8], rtype: u16, answers: Vec<Record>) -> Self {
        Self {
            flags: 0x8180,
            name: name.to_vec(),
            rtype,
            sections: [answers, Vec::new(), Vec::new()],
        }
    }

    /// So many IPv4 addresses, the last byte counting from 0.
    pub(super) fn addresses(name: &[u8], count: u8, ttl: u32) -> Self {
        let address = |last| Record::new(QUESTION, rtype::A, ttl, &[10, 0, 0, last]);
        Self::new(name, rtype::A, (0..count).map(address).collect())
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0, 0];
        out.extend(self.flags.to_be_bytes());
        out.extend([0, 1]);
        for section in &self.sections {
            out.extend((section.len() as u16).to_be_bytes());
        }
        out.extend(&self.name);
        out.extend(self.rtype.to_be_bytes());
        out.extend(class::IN.to_be_bytes());
        for record in self.sections.iter().flatten() {
            out.extend(&record.owner);
            out.extend(record.rtype.to_be_bytes());
            out.extend(class::IN.to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            out.extend((record.data.len() as u16).to_be_bytes());
            out.extend(&record.data);
        }
        out
    }
}

/// A client's OPT record.
#[derive(Debug, Clone)]
pub(super) struct Opt {
    pub(super) size: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
    /// Code and data of each.
    pub(super) options: Vec<(u16, Vec<u8>)>,
}

impl Opt {
    /// One without options.
    pub(super) fn of_size(size: u16) -> Self {
        Self {
            size,
            version: 0,
            dnssec_ok: false,
            options: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut options = Vec::new();
        for (code, data) in &self.options {
            options.extend(code.to_be_bytes());
            options.extend((data.len() as u16).to_be_bytes());
            options.extend(data);
        }
        let mut out = vec![0];
        out.extend(rtype::OPT.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend([0, self.version, u8::from(self.dnssec_ok) << 7, 0]);
        out.extend((options.len() as u16).to_be_bytes());
        out.extend(options);
        out
    }
}

/// A client's query.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) name: Vec<u8>,
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) opt: Option<Opt>,
    /// Bytes that belong to nothing.
    pub(super) junk: Vec<u8>,
}

impl Query {
    /// With RD, without EDNS.
    pub(super) fn new(name: &[u8], rtype: u16) -> Self {
        Self {
            id: 0x1234,
            flags: 0x0100,
            questions: 1,
            name: name.to_vec(),
            rtype,
            class: class::IN,
            opt: None,
            junk: Vec::new(),
        }
    }

    /// The same with a change.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend(self.flags.to_be_bytes());
        out.extend(self.questions.to_be_bytes());
        out.extend([0, 0, 0, 0, 0, u8::from(self.opt.is_some())]);
        out.extend(&self.name);
        out.extend(self.rtype.to_be_bytes());
        out.extend(self.class.to_be_bytes());
        if let Some(opt) = &self.opt {
            out.extend(opt.bytes());
        }
        out.extend(&self.junk);
        out
    }
}
