//! The smallest XDP program, as an object file: a pod may have one, and no compiler is at hand to make it.

/// An ELF object for eBPF with a program `pass` in the section `xdp`, which lets every packet go on.
#[must_use]
pub fn pass() -> Vec<u8> {
    // r0 = XDP_PASS; exit
    let code: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let names = b"\0xdp\0.symtab\0.strtab\0pass\0";
    let offset = |name: &[u8]| {
        names
            .windows(name.len())
            .position(|w| w == name)
            .unwrap_or(0) as u32
    };
    let mut symbols = vec![0; 24];
    // Name; a global function; in section 1; at 0; its size.
    symbols.extend(offset(b"pass\0").to_le_bytes());
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend(0_u64.to_le_bytes());
    symbols.extend(16_u64.to_le_bytes());

    let mut file = vec![0; 64];
    let mut sections = vec![[0_u64; 10]];
    // Name, type, flags, and what links it to others; the contents in order.
    for (name, kind, flags, link, info, entry, bytes) in [
        (&b"xdp\0"[..], 1, 6, 0, 0, 0, &code[..]),
        (b".symtab\0", 2, 0, 3, 1, 24, &symbols),
        (b".strtab\0", 3, 0, 0, 0, 0, names),
    ] {
        file.resize(file.len().next_multiple_of(8), 0);
        let at = file.len() as u64;
        sections.push([
            offset(name).into(),
            kind,
            flags,
            0,
            at,
            bytes.len() as u64,
            link,
            info,
            8,
            entry,
        ]);
        file.extend(bytes);
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    for [
        name,
        kind,
        flags,
        address,
        at,
        size,
        link,
        info,
        align,
        entry,
    ] in sections
    {
        file.extend((name as u32).to_le_bytes());
        file.extend((kind as u32).to_le_bytes());
        for word in [flags, address, at, size] {
            file.extend(word.to_le_bytes());
        }
        file.extend((link as u32).to_le_bytes());
        file.extend((info as u32).to_le_bytes());
        file.extend(align.to_le_bytes());
        file.extend(entry.to_le_bytes());
    }
    // 64-bit, little-endian, relocatable, for eBPF; four sections, the last of which has the names.
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    for half in [1_u16, 247] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    for word in [0, 0, table] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [64_u16, 0, 0, 64, 4, 3] {
        header.extend(half.to_le_bytes());
    }
    file[..64].copy_from_slice(&header);
    file
}
