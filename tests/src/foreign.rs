//! An XDP program that is not ours.

use std::fs;

use anyhow::{Result, anyhow};
use object::write::{Object, StandardSegment, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use crate::host::{GATE_INTERFACE, Host};

/// `r0 = XDP_PASS; exit`
const PASS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// Attaches a program that passes every packet to the guarded interface, as another tool would.
pub fn attach(host: &Host) -> Result<()> {
    let file = tempfile::Builder::new().suffix(".o").tempfile()?;
    fs::write(file.path(), program().map_err(|error| anyhow!("no object file: {error}"))?)?;
    host.gate.ip(&format!("link set dev {GATE_INTERFACE} xdpdrv obj {} sec xdp", file.path().display()))?;
    Ok(())
}

/// The program as an object file that libbpf loads.
fn program() -> Result<Vec<u8>, object::write::Error> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let mut section = |name: &[u8], symbol: &[u8], bytes: &[u8], section_kind, kind| {
        let segment = object.segment_name(StandardSegment::Text).to_vec();
        let section = object.add_section(segment, name.to_vec(), section_kind);
        object.append_section_data(section, bytes, 8);
        object.add_symbol(Symbol {
            name: symbol.to_vec(),
            value: 0,
            size: bytes.len() as u64,
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    };
    section(b"xdp", b"foreign", &PASS, SectionKind::Text, SymbolKind::Text);
    section(b"license", b"_license", b"GPL\0", SectionKind::Data, SymbolKind::Data);
    object.write()
}
