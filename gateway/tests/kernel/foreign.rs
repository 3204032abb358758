//! An XDP program of somebody else.

use crate::world::{Outcome, ip};

/// A program of somebody else, attached with `ip`.
pub(crate) struct Foreign(String);

impl Foreign {
    pub(crate) fn attach(interface: &str, how: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let object = tempfile::Builder::new().suffix(".o").tempfile()?;
        std::fs::write(&object, foreign_object())?;
        ip(&format!("link set dev {interface} {how} object {} section xdp", object.path().display()))?;
        Ok(Self(format!("link set dev {interface} {how} off")))
    }

    pub(crate) fn detach(self) -> Outcome {
        ip(&self.0)
    }
}

/// An ELF object whose section `xdp` holds `r0 = 2; exit`: it lets everything pass.
fn foreign_object() -> Vec<u8> {
    const CODE: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    const NAMES: &[u8] = b"\0xdp\0license\0.strtab\0.symtab\0stranger\0";
    let name = |of: &str| {
        let at =
            NAMES.windows(of.len() + 1).position(|at| at[..of.len()] == *of.as_bytes() && at[of.len()] == 0);
        u32::try_from(at.unwrap_or(0)).unwrap_or(0)
    };
    let mut symbols = vec![0u8; 24];
    symbols.extend(name("stranger").to_le_bytes());
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend(0u64.to_le_bytes());
    symbols.extend((CODE.len() as u64).to_le_bytes());
    // Name, type, flags, content, entry size, link, info.
    let sections: [(&str, u32, u64, &[u8], u64, u32, u32); 4] = [
        ("xdp", 1, 6, &CODE, 0, 0, 0),
        ("license", 1, 3, b"GPL\0", 0, 0, 0),
        (".strtab", 3, 0, NAMES, 0, 0, 0),
        (".symtab", 2, 0, &symbols, 24, 3, 1),
    ];
    let mut body = Vec::new();
    let mut table = vec![0u8; 64];
    for (title, kind, flags, content, entry, link, info) in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        table.extend(name(title).to_le_bytes());
        table.extend(kind.to_le_bytes());
        for value in [flags, 0, 64 + body.len() as u64, content.len() as u64] {
            table.extend(value.to_le_bytes());
        }
        table.extend(link.to_le_bytes());
        table.extend(info.to_le_bytes());
        table.extend(8u64.to_le_bytes());
        table.extend(entry.to_le_bytes());
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let mut object = b"\x7fELF\x02\x01\x01".to_vec();
    object.resize(16, 0);
    object.extend(1u16.to_le_bytes());
    object.extend(247u16.to_le_bytes());
    object.extend(1u32.to_le_bytes());
    for value in [0, 0, 64 + body.len() as u64] {
        object.extend(value.to_le_bytes());
    }
    object.extend(0u32.to_le_bytes());
    for value in [64u16, 0, 0, 64, 5, 3] {
        object.extend(value.to_le_bytes());
    }
    object.extend(body);
    object.extend(table);
    object
}
