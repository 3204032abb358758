//! The start of the firewall: what a former daemon left in force is found, and taken over.

use super::card::Guard;
use crate::config::{Firewall, Mode};
use crate::nic::{self, Card, Found, NicError, Pins};
use crate::policy::Generation;

/// Opens what is pinned, where the configuration wants pins. Where it wants no firewall any more,
/// what is in force is removed.
pub(super) fn open_pins(firewall: Option<&Firewall>) -> Result<Option<Pins>, NicError> {
    let Some((firewall, folder)) =
        firewall.and_then(|firewall| firewall.pins.as_deref().map(|folder| (firewall, folder)))
    else {
        return Ok(None);
    };
    if firewall.mode != Mode::Off {
        return Pins::open(folder).map(Some);
    }
    match nic::detach(folder) {
        Ok(None) => {}
        Ok(Some(interfaces)) => log::warn!(
            "`mode = \"off\"`: what a former daemon had left in force on {} is removed",
            if interfaces.is_empty() { "no interface".to_owned() } else { interfaces.join(", ") }
        ),
        // The gateway can do without.
        Err(error) => log::warn!(
            "`mode = \"off\"`, but what a former daemon may have left in force cannot be removed: {error}"
        ),
    }
    Ok(None)
}

/// Loads the program, fills its tables, and only then attaches it, or puts it in the place of a
/// former daemon's: it never sees a packet without a policy. An interface that does not exist yet
/// is guarded as soon as it does.
pub(super) fn guard(
    firewall: &Firewall,
    pins: Option<Pins>,
    generation: &Generation,
) -> Result<(Card, Vec<Guard>), NicError> {
    let settings = nic::Settings::from(firewall);
    let found = pins.as_ref().map(Pins::found);
    let mut card = match pins {
        Some(pins) => Card::load_pinned(&settings, pins)?,
        None => Card::load(&settings)?,
    };
    announce(found, &card);
    card.remember(generation.sources())?;
    card.publish(generation.blocks(), generation.number())?;
    let mut guards = Vec::new();
    for interface in &firewall.interfaces {
        let guard = match card.attach(interface, firewall.mode) {
            Ok(attachment) => {
                match &attachment.reason {
                    Some(reason) => {
                        log::warn!("attached to {interface} in {} mode: {reason}", attachment.mode);
                    }
                    None => log::info!("attached to {interface} in {} mode", attachment.mode),
                }
                Guard { interface: interface.clone(), attachment: Some(attachment), lost: None }
            }
            Err(error @ NicError::NoInterface { .. }) => {
                log::error!("{interface} is NOT guarded until it appears: {error}");
                Guard { interface: interface.clone(), attachment: None, lost: Some(error.to_string()) }
            }
            Err(error) => return Err(error),
        };
        guards.push(guard);
    }
    for interface in card.settle()? {
        log::warn!("detached from {interface}: it is not in `interfaces` of [firewall] any more");
    }
    Ok((card, guards))
}

fn announce(found: Option<Found>, card: &Card) {
    match found {
        None | Some(Found::Nothing) => {}
        Some(Found::Tables) => match card.counters() {
            Ok(counters) => log::info!(
                "taking over what a former daemon left in force; its counters go on from {} packets \
                 passed, {} dropped",
                counters.passed,
                counters.dropped
            ),
            Err(error) => log::error!("the counters of the former daemon cannot be read: {error}"),
        },
        Some(Found::Foreign { abi }) => log::warn!(
            "what a former daemon left in force has tables of {}: they are replaced, and the counters \
             start anew",
            abi.map_or_else(|| "an unknown format".to_owned(), |abi| format!("format {abi}"))
        ),
    }
}
