//! The program on interfaces, each test in a network namespace of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway::config::{Mode, Ports};
use gateway::nic::{AttachedMode, Card, NicError, Settings};

use crate::foreign::Foreign;
use crate::load::{receive, veth_with_client};
use crate::world::{Outcome, block_on, card, generation, in_namespace, ip, show};

pub(crate) fn a_veth_runs_the_program_in_its_driver_and_is_left_as_it_was() -> Outcome {
    in_namespace(|| {
        ip("link add gate type veth peer name wire")?;
        // The clients live in a namespace behind the wire: here, a route and a second address.
        let (server, denied, free) = veth_with_client()?;
        let mut card = card(Ports::All, 100)?;
        let attachment = card.attach("gate", Mode::Auto)?;
        assert_eq!((attachment.mode, attachment.reason), (AttachedMode::Native, None));
        assert!(show("gate")?.contains("xdp"), "{}", show("gate")?);
        block_on::<Outcome>(async {
            denied.send(b"denied")?;
            let reports = card.next_reports().await?;
            let [drop] = reports.clients.as_slice() else {
                return Err(format!("{reports:?}").into());
            };
            assert_eq!(drop.client, denied.local_addr()?.ip());
            assert_eq!(drop.interface, attachment.index);
            // Sent later, so when it has arrived the other one would have, too.
            free.send(b"free")?;
            assert_eq!(receive(&server)?, "free");
            Ok(())
        })??;
        card.finish()?;
        assert!(!show("gate")?.contains("xdp"), "{}", show("gate")?);
        denied.send(b"denied no more")?;
        assert_eq!(receive(&server)?, "denied no more");
        Ok(())
    })
}

pub(crate) fn no_packet_of_a_denied_source_passes_while_generations_change() -> Outcome {
    in_namespace(|| {
        ip("link add gate type veth peer name wire")?;
        let (server, denied, free) = veth_with_client()?;
        let mut card = card(Ports::All, 100)?;
        card.attach("gate", Mode::Native)?;
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let flood = std::thread::spawn(move || {
            (0..10_000_000)
                .take_while(|_| !stop.load(Ordering::Relaxed))
                .try_for_each(|_| denied.send(b"denied").map(drop))
        });
        let published = (8..40).try_for_each(|number| {
            let other = format!("10.{number}.0.0/16");
            card.publish(generation(number, &["10.66.0.0/16", &other])?.blocks(), number)?;
            Outcome::Ok(())
        });
        done.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| "the flood panicked")??;
        published?;
        free.send(b"free")?;
        assert_eq!(receive(&server)?, "free", "the first datagram that came through");
        assert!(card.counters()?.dropped > 0);
        Ok(())
    })
}

pub(crate) fn loopback_falls_back_to_generic_and_says_why() -> Outcome {
    in_namespace(|| {
        let mut card = card(Ports::All, 100)?;
        let attachment = card.attach("lo", Mode::Auto)?;
        assert_eq!((attachment.mode, attachment.index), (AttachedMode::Generic, 1));
        let reason = attachment.reason.ok_or("no reason")?;
        assert!(reason.contains("native"), "{reason}");
        assert!(show("lo")?.contains("xdpgeneric"), "{}", show("lo")?);
        drop(card);
        assert!(!show("lo")?.contains("xdp"), "{}", show("lo")?);
        Ok(())
    })
}

pub(crate) fn native_mode_on_loopback_is_refused_with_the_remedy() -> Outcome {
    in_namespace(|| {
        let mut card = card(Ports::All, 100)?;
        let error = card.attach("lo", Mode::Native).err().ok_or("attached")?;
        assert!(matches!(&error, NicError::Refused { mode: AttachedMode::Native, .. }), "{error:?}");
        assert!(error.to_string().contains("mode = \"auto\""), "{error}");
        assert!(!show("lo")?.contains("xdp"), "{}", show("lo")?);
        Ok(())
    })
}

pub(crate) fn a_second_card_does_not_replace_the_first() -> Outcome {
    in_namespace(|| {
        ip("link add gate type veth peer name wire")?;
        let mut first = card(Ports::All, 100)?;
        first.attach("gate", Mode::Native)?;
        let before = show("gate")?;
        let mut second = card(Ports::All, 100)?;
        for mode in [Mode::Native, Mode::Generic, Mode::Auto] {
            let error = second.attach("gate", mode).err().ok_or("attached")?;
            assert!(matches!(&error, NicError::Foreign { mode: AttachedMode::Native, .. }), "{error:?}");
            assert!(error.to_string().contains("\"gatehouse\""), "{error}");
        }
        drop(second);
        assert_eq!(show("gate")?, before);
        Ok(())
    })
}

pub(crate) fn a_foreign_program_is_left_alone_and_named() -> Outcome {
    in_namespace(|| {
        ip("link add gate type veth peer name wire")?;
        for (how, attached) in [("xdpdrv", AttachedMode::Native), ("xdpgeneric", AttachedMode::Generic)] {
            let foreign = Foreign::attach("gate", how)?;
            let before = show("gate")?;
            let mut card = card(Ports::All, 100)?;
            for mode in [Mode::Native, Mode::Generic, Mode::Auto] {
                let error = card.attach("gate", mode).err().ok_or("attached")?;
                assert!(matches!(&error, NicError::Foreign { mode, .. } if *mode == attached), "{error:?}");
                assert!(error.to_string().contains(&format!("ip link set dev gate {how} off")), "{error}");
                assert_eq!(show("gate")?, before);
            }
            foreign.detach()?;
        }
        Ok(())
    })
}

pub(crate) fn a_missing_interface_is_named() -> Outcome {
    in_namespace(|| {
        let mut card = card(Ports::All, 100)?;
        for name in ["absent0", "", "a-name-that-is-too-long", "a/b"] {
            let error = card.attach(name, Mode::Auto).err().ok_or("attached")?;
            assert!(matches!(&error, NicError::NoInterface { interface } if interface == name), "{error:?}");
        }
        Ok(())
    })
}

pub(crate) fn an_interface_without_ethernet_is_refused() -> Outcome {
    in_namespace(|| {
        ip("tuntap add mode tun name tunnel")?;
        let mut card = card(Ports::All, 100)?;
        let error = card.attach("tunnel", Mode::Auto).err().ok_or("attached")?;
        assert!(matches!(&error, NicError::NotEthernet { .. }), "{error:?}");
        Ok(())
    })
}

pub(crate) fn nothing_is_attached_before_the_first_publication() -> Outcome {
    in_namespace(|| {
        let mut card = Card::load(&Settings { ports: Ports::All, reports_per_second: 1 })?;
        assert!(matches!(card.attach("lo", Mode::Auto), Err(NicError::Unpublished { .. })));
        card.publish(generation(1, &[])?.blocks(), 1)?;
        card.attach("lo", Mode::Auto)?;
        Ok(())
    })
}

pub(crate) fn an_interface_made_anew_is_not_taken_for_a_guarded_one() -> Outcome {
    in_namespace(|| {
        // The same number both times: only the program tells them apart.
        let made = "link add gate index 77 type veth peer name wire";
        ip(made)?;
        let mut card = card(Ports::All, 100)?;
        card.attach("gate", Mode::Native)?;
        assert!(card.guards("gate")?);
        ip("link delete gate")?;
        assert!(!card.guards("gate")?, "it is gone");
        ip(made)?;
        assert!(!card.guards("gate")?, "nothing runs there");
        let foreign = Foreign::attach("gate", "xdp")?;
        assert!(!card.guards("gate")?, "another program runs there");
        assert!(matches!(card.attach("gate", Mode::Native), Err(NicError::Foreign { .. })));
        foreign.detach()?;
        card.attach("gate", Mode::Native)?;
        assert!(card.guards("gate")?);
        Ok(())
    })
}
