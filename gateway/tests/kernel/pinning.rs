//! What stays in force without a card, and how the next card takes it over.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aya::maps::{Array, Map, MapData};
use gateway::config::{Mode, Ports};
use gateway::nic::{AttachedMode, Card, Found, NicError, Pins, Settings, detach};
use gateway::policy::{Generation, Verdict};
use tempfile::TempDir;

use crate::frames::{IPV4, TCP, ethernet, ipv4, segment};
use crate::load::Load;
use crate::world::{DENIED, Outcome, generation, in_namespace, ip, show};

const SETTINGS: Settings = Settings { ports: Ports::All, reports_per_second: 100 };

/// A BPF file system of one test alone.
struct BpfFs(TempDir);

impl BpfFs {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status()?;
        if mounted.success() { Ok(Self(folder)) } else { Err("a BPF file system cannot be mounted".into()) }
    }

    fn pins(&self) -> PathBuf {
        self.0.path().join("gatehouse")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // The folder would stay behind, which the test's output then shows.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A card as a daemon starts it: the lists of `generation`, on `interfaces`.
fn start(
    pins: &Path,
    settings: &Settings,
    generation: &Generation,
    interfaces: &[&str],
) -> Result<(Card, Found, Vec<String>), Box<dyn Error>> {
    let pins = Pins::open(pins)?;
    let found = pins.found();
    let mut card = Card::load_pinned(settings, pins)?;
    card.remember(generation.sources())?;
    card.publish(generation.blocks(), generation.number())?;
    for interface in interfaces {
        card.attach(interface, Mode::Auto)?;
    }
    let detached = card.settle()?;
    Ok((card, found, detached))
}

/// Packets that the deny list has dropped.
fn dropped(card: &Card) -> Result<u64, NicError> {
    Ok(card.counters()?.dropped)
}

pub(crate) fn drops_go_on_without_a_card_and_the_next_one_goes_on_counting() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let load = Load::through_a_veth()?;
        let first = generation(7, &["10.66.0.0/16"])?;
        let (card, found, _) = start(&bpf.pins(), &SETTINGS, &first, &["gate"])?;
        assert_eq!(found, Found::Nothing);
        let (card, sent) = load.during(|load| {
            load.wait_for(200)?;
            // As when a daemon is killed: its descriptors are closed and nothing else is done.
            drop(card);
            assert!(show("gate")?.contains("xdp"), "{}", show("gate")?);
            load.wait_for(200)?;
            // Another budget is a constant of another program.
            let (card, found, detached) = start(
                &bpf.pins(),
                &Settings { reports_per_second: 1, ..SETTINGS },
                &generation(1, &["10.66.0.0/16", "10.9.0.0/16"])?,
                &["gate"],
            )?;
            assert_eq!((found, detached), (Found::Tables, Vec::new()));
            assert!(card.guards("gate")?);
            load.wait_for(200)?;
            Ok(card)
        })?;
        assert_eq!(dropped(&card)?, sent, "each packet of the denied source is counted once");
        load.nothing_denied_came_through()?;
        drop(card);
        assert_eq!(detach(&bpf.pins())?, Some(vec!["gate".to_owned()]));
        assert!(!show("gate")?.contains("xdp"), "{}", show("gate")?);
        assert!(!bpf.pins().exists());
        assert_eq!(detach(&bpf.pins())?, None);
        Ok(())
    })
}

pub(crate) fn tables_of_another_version_are_replaced_without_a_packet_passing() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let load = Load::through_a_veth()?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        let (card, ..) = start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?;
        let (card, sent) = load.during(|load| {
            load.wait_for(200)?;
            drop(card);
            let map = Map::from_map_data(MapData::from_pin(bpf.pins().join("maps/ABI"))?)?;
            Array::<MapData, u64>::try_from(map)?.set(0, 1_000_000, 0)?;
            let (card, found, _) = start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?;
            assert_eq!(found, Found::Foreign { abi: Some(1_000_000) });
            load.wait_for(200)?;
            drop(card);
            // As when the daemon was stopped while it pinned its tables.
            fs::remove_file(bpf.pins().join("maps/SOURCES"))?;
            let (card, found, _) = start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?;
            assert!(matches!(found, Found::Foreign { .. }), "{found:?}");
            load.wait_for(200)?;
            Ok(card)
        })?;
        let denied = dropped(&card)?;
        assert!((200..=sent - 400).contains(&denied), "the counters start anew: {denied} of {sent}");
        load.nothing_denied_came_through()?;
        drop(card);
        let (_, found, _) = start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?;
        assert_eq!(found, Found::Tables, "what was replaced is of this version");
        Ok(())
    })
}

pub(crate) fn the_ports_of_a_new_card_are_guarded_and_not_those_of_the_last() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let frame = |port| ethernet(&[], IPV4, &ipv4(DENIED, TCP, 0, 0, &segment(port)));
        let policy = generation(7, &["10.66.0.0/16"])?;
        for (guarded, free) in [(80, 443), (443, 80)] {
            let settings = Settings { ports: Ports::Only(vec![guarded]), reports_per_second: 1 };
            let (card, ..) = start(&bpf.pins(), &settings, &policy, &[])?;
            let verdict = |port| card.rehearse(&frame(port), usize::MAX, 1).map(|(verdict, _)| verdict);
            assert_eq!(verdict(guarded)?, Verdict::Drop);
            assert_eq!(verdict(free)?, Verdict::Pass);
        }
        Ok(())
    })
}

pub(crate) fn an_interface_that_is_not_wanted_any_more_is_detached() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        ip("link add gate type veth peer name wire")?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        let (card, ..) = start(&bpf.pins(), &SETTINGS, &policy, &["gate", "wire"])?;
        drop(card);
        let (card, _, detached) = start(&bpf.pins(), &SETTINGS, &policy, &["wire"])?;
        assert_eq!(detached, ["gate"]);
        assert!(!show("gate")?.contains("xdp") && show("wire")?.contains("xdp"));
        drop(card);
        // One that is gone is of no use to anybody.
        ip("link delete wire")?;
        ip("link add gate type veth peer name wire")?;
        let (mut card, _, detached) = start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?;
        assert!(detached.is_empty() && card.guards("gate")?);
        // Nor is its pin, once it is made anew.
        ip("link delete gate")?;
        ip("link add gate type veth peer name wire")?;
        assert!(!card.guards("gate")?);
        card.attach("gate", Mode::Native)?;
        let links = fs::read_dir(bpf.pins())?.filter_map(Result::ok);
        let links = links.filter(|entry| entry.file_name().to_string_lossy().starts_with("link-"));
        assert_eq!(links.count(), 1);
        Ok(())
    })
}

pub(crate) fn a_mode_that_is_not_wanted_any_more_gives_way() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        ip("link add gate type veth peer name wire")?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        drop(start(&bpf.pins(), &SETTINGS, &policy, &["gate"])?);
        let mut card = Card::load_pinned(&SETTINGS, Pins::open(&bpf.pins())?)?;
        card.publish(policy.blocks(), 7)?;
        assert_eq!(card.attach("gate", Mode::Generic)?.mode, AttachedMode::Generic);
        card.settle()?;
        assert!(card.guards("gate")?);
        Ok(())
    })
}

pub(crate) fn a_generic_program_is_taken_over_in_its_mode_and_auto_says_why() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let load = Load::through_a_veth()?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        let open = || -> Result<Card, Box<dyn Error>> {
            let mut card = Card::load_pinned(&SETTINGS, Pins::open(&bpf.pins())?)?;
            card.publish(policy.blocks(), 7)?;
            Ok(card)
        };
        let mut card = open()?;
        card.attach("gate", Mode::Generic)?;
        card.settle()?;
        let (card, sent) = load.during(|load| {
            load.wait_for(200)?;
            drop(card);
            load.wait_for(200)?;
            let mut card = open()?;
            let attachment = card.attach("gate", Mode::Auto)?;
            assert_eq!(attachment.mode, AttachedMode::Generic);
            assert!(attachment.reason.is_some_and(|reason| reason.contains("gatehouse detach")));
            card.settle()?;
            load.wait_for(200)?;
            Ok(card)
        })?;
        assert_eq!(dropped(&card)?, sent);
        load.nothing_denied_came_through()
    })
}

pub(crate) fn a_list_keeps_its_counter_under_the_next_card() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        let (card, ..) = start(&bpf.pins(), &SETTINGS, &policy, &[])?;
        drop(card);
        let pins = Pins::open(&bpf.pins())?;
        let known: Vec<_> = policy.sources().map(|(index, source)| (index, Some(source.clone()))).collect();
        assert_eq!(pins.sources(), known);
        Ok(())
    })
}

pub(crate) fn pins_are_used_by_one_card_at_a_time() -> Outcome {
    in_namespace(|| {
        let bpf = BpfFs::new()?;
        let pins = Pins::open(&bpf.pins())?;
        let error = Pins::open(&bpf.pins()).err().ok_or("opened twice")?;
        assert!(matches!(&error, NicError::PinsInUse { folder } if *folder == bpf.pins()), "{error:?}");
        let error = detach(&bpf.pins()).err().ok_or("removed while in use")?;
        assert!(error.to_string().contains("stop it first"), "{error}");
        drop(pins);
        assert_eq!(detach(&bpf.pins())?, Some(Vec::new()));
        Ok(())
    })
}

pub(crate) fn pins_of_another_network_namespace_are_left_alone() -> Outcome {
    let bpf = std::sync::Arc::new(BpfFs::new()?);
    let there = std::sync::Arc::clone(&bpf);
    in_namespace(move || {
        ip("link add gate type veth peer name wire")?;
        let policy = generation(7, &["10.66.0.0/16"])?;
        drop(start(&there.pins(), &SETTINGS, &policy, &["gate"])?);
        let pins = there.pins();
        let elsewhere = in_namespace(move || match Pins::open(&pins) {
            Err(NicError::OtherNamespace { .. }) => Ok(()),
            other => Err(format!("{other:?}").into()),
        });
        elsewhere?;
        assert!(show("gate")?.contains("xdp"), "{}", show("gate")?);
        Ok(())
    })?;
    Ok(())
}

pub(crate) fn pins_outside_a_bpf_file_system_are_refused_with_the_remedy() -> Outcome {
    let folder = tempfile::tempdir()?;
    let pins = folder.path().join("pins");
    let error = Pins::open(&pins).err().ok_or("opened")?;
    assert!(matches!(&error, NicError::NotPinnable { .. }), "{error:?}");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
    assert_eq!(fs::read_dir(folder.path())?.count(), 0, "nothing is made there");
    let error = detach(folder.path()).err().ok_or("removed")?;
    assert!(matches!(&error, NicError::NotPinnable { .. }), "{error:?}");
    assert!(folder.path().exists());
    Ok(())
}
