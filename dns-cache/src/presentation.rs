//! Names, types and response codes as people write them (RFC 1035 §5.1, RFC 3597 §5).

use dns_cache_common::name::{MAX_LABEL, MAX_LEN};
use hickory_proto::rr::RecordType;

/// Why a text is no name or no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a domain name.
    #[error("{text:?} is not a domain name: {reason}")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a record type.
    #[error("{0:?} is not a record type; give one such as A, AAAA, SRV or TYPE65")]
    Type(String),
}

/// A name in wire form and lower case. It is absolute, with a trailing dot or without.
///
/// # Errors
/// An empty label, one of more than 63 bytes, more than 255 in all, or a broken escape.
pub fn name(text: &str) -> Result<Box<[u8]>, Error> {
    wire(text.as_bytes()).map_err(|reason| Error::Name {
        text: text.to_owned(),
        reason,
    })
}

fn wire(text: &[u8]) -> Result<Box<[u8]>, &'static str> {
    let mut name = Vec::with_capacity(text.len() + 2);
    let mut label = Vec::new();
    let mut end = |label: &mut Vec<u8>| match u8::try_from(label.len()) {
        Ok(0) => Err("it has an empty label; the root is `.`"),
        Ok(length) if usize::from(length) <= MAX_LABEL => {
            name.push(length);
            name.append(label);
            Ok(())
        }
        _ => Err("it has a label of more than 63 bytes"),
    };
    let mut rest = if text == b"." { &[] } else { text };
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match (byte, behind) {
            (b'.', []) => break,
            (b'.', _) => {
                end(&mut label)?;
                behind
            }
            (b'\\', [a, b, c, behind @ ..]) if a.is_ascii_digit() => {
                let number = std::str::from_utf8(&[*a, *b, *c])
                    .ok()
                    .and_then(|n| n.parse().ok());
                label.push(number.ok_or("after \\ stands a character, or three digits up to 255")?);
                behind
            }
            (b'\\', [escaped, behind @ ..]) if !escaped.is_ascii_digit() => {
                label.push(*escaped);
                behind
            }
            (b'\\', _) => return Err("after \\ stands a character, or three digits up to 255"),
            _ => {
                label.push(byte);
                behind
            }
        };
    }
    if text != b"." {
        end(&mut label)?;
    }
    name.push(0);
    name.make_ascii_lowercase();
    if name.len() > MAX_LEN {
        return Err("it is longer than 255 bytes");
    }
    Ok(name.into())
}

/// The text of a name in wire form, without the trailing dot; the root is `.`.
#[must_use]
pub fn name_text(wire: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = wire;
    while let Some((&length, behind)) = rest.split_first().filter(|(length, _)| **length != 0) {
        let Some((label, behind)) = behind.split_at_checked(length.into()) else {
            break;
        };
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                    text.extend(['\\', char::from(*byte)]);
                }
                b'!'..=b'~' => text.push(char::from(*byte)),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        rest = behind;
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// A record type by mnemonic or as `TYPE` and its number.
///
/// # Errors
/// Neither of them.
pub fn rtype(text: &str) -> Result<u16, Error> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|n| n.parse().ok());
    number
        .or_else(|| Some(upper.parse::<RecordType>().ok()?.into()))
        .ok_or_else(|| Error::Type(text.to_owned()))
}

/// A record type's mnemonic, or `TYPE` and its number.
#[must_use]
pub fn rtype_text(rtype: u16) -> String {
    match RecordType::from(rtype) {
        RecordType::Unknown(_) => format!("TYPE{rtype}"),
        known => known.to_string(),
    }
}

/// A response code's mnemonic, or `RCODE` and its number.
#[must_use]
pub fn rcode_text(rcode: u16) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
        "NXRRSET", "NOTAUTH", "NOTZONE",
    ];
    match (NAMES.get(usize::from(rcode)), rcode) {
        (Some(name), _) => (*name).to_owned(),
        (None, 16) => "BADVERS".to_owned(),
        (None, _) => format!("RCODE{rcode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_in_lower_case() {
        for (text, wire, shown) in [
            (".", &b"\0"[..], "."),
            ("Example", b"\x07example\0", "example"),
            ("a.b.", b"\x01a\x01b\0", "a.b"),
            ("_dns._TCP.x", b"\x04_dns\x04_tcp\x01x\0", "_dns._tcp.x"),
            (r"a\.b.c", b"\x03a.b\x01c\0", r"a\.b.c"),
            (r"\000x\032", b"\x03\0x \0", r"\000x\032"),
        ] {
            assert_eq!(*name(text).unwrap(), *wire, "{text}");
            assert_eq!(name_text(wire), shown);
        }
        for text in ["", "..", ".a", "a..b", r"a\", r"\01", r"\256", r"\1x2"] {
            assert!(matches!(name(text), Err(Error::Name { .. })), "{text}");
        }
        for text in [&"x".repeat(64), &"x".repeat(300), &"xx.".repeat(86)] {
            assert!(matches!(name(text), Err(Error::Name { .. })), "{text}");
        }
    }

    #[test]
    fn types_have_mnemonics_or_numbers() {
        for (text, number, shown) in [
            ("a", 1, "A"),
            ("TYPE28", 28, "AAAA"),
            ("HTTPS", 65, "HTTPS"),
            ("type65280", 65280, "TYPE65280"),
        ] {
            assert_eq!(rtype(text), Ok(number));
            assert_eq!(rtype_text(number), shown);
        }
        for text in ["", "B", "TYPE", "TYPE65536", "TYPE-1"] {
            assert!(rtype(text).is_err(), "{text}");
        }
    }

    #[test]
    fn response_codes() {
        assert_eq!(
            [0, 3, 5, 16, 23].map(rcode_text),
            ["NOERROR", "NXDOMAIN", "REFUSED", "BADVERS", "RCODE23"]
        );
    }
}
