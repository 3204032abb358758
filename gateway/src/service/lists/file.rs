//! One list: what of it is in force, and how its file is read again.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};

use super::super::stamp::Stamp;
use super::Refreshed;
use super::bounds::excess;
use super::content;
use super::copies::{Copies, Copy};
use super::expand::Place;
use crate::config::{Bounds, Diagnostic, Limits};
use crate::policy::{List, ListChange, ListReading, ListText, Tier};

/// One list.
#[derive(Clone, Debug)]
pub(in super::super) struct ListFile {
    /// The last good content.
    pub list: Arc<List>,
    /// Where that comes from; `None` when there never was any.
    pub origin: Option<Origin>,
    /// Why the present content is not in force.
    pub error: Option<String>,
    /// The present content, when it waits to be accepted.
    pub held: Option<Held>,
    pub(super) place: Place,
    stamp: Option<Stamp>,
    /// What the list was read from.
    text: Option<ListText>,
    /// How the list came from the one that it was at the last look.
    change: Option<ListChange>,
    /// Content that was put in force and not yet handed to the keeper.
    unkept: Option<Vec<u8>>,
}

/// Where the content in force comes from, and when it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Origin {
    /// The list's file.
    File(SystemTime),
    /// The last good copy.
    Copy(SystemTime),
}

/// Content that would change a list too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Held {
    /// Its entries.
    pub entries: usize,
    /// The entries in force.
    pub in_force: usize,
    digest: [u8; 32],
}

/// How a list is read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub limits: &'a Limits,
    pub bounds: &'a Bounds,
    /// Where to look for a copy when nothing is in force.
    pub copies: Option<&'a Copies>,
    /// Whether what is put in force is for the keeper, too.
    pub keep: bool,
}

impl ListFile {
    /// The list of `tier` at `place`, of which nothing is in force yet.
    pub(super) fn new(tier: Tier, place: Place) -> Self {
        let list = Arc::new(List { tier, name: Arc::clone(&place.name), entries: Vec::new() });
        Self {
            list,
            origin: None,
            error: None,
            held: None,
            place,
            stamp: None,
            text: None,
            change: None,
            unkept: None,
        }
    }

    /// Whether this is the list called `name` in `tier`.
    pub(super) fn is(&self, tier: Tier, name: &str) -> bool {
        self.list.tier == tier && *self.list.name == *name
    }

    /// How the list came from the one that it was at the last look, when that is known.
    pub(super) const fn change(&self) -> Option<&ListChange> {
        self.change.as_ref()
    }

    /// Lets the next look read a faulty file again, and say again what is wrong with it.
    pub(super) fn ask_again(&mut self) {
        if self.error.is_some() {
            (self.error, self.held, self.stamp) = (None, None, None);
        }
    }

    /// Reads the file again if it has changed. What cannot be put in force leaves the last good content,
    /// which is the copy on disk when nothing is in force.
    pub(super) fn read(&mut self, reading: Reading<'_>, refreshed: &mut Refreshed) {
        self.change = None;
        let copy = self.copy(reading, refreshed);
        let before = match (self.origin, &copy) {
            (Some(_), _) => Some(self.list.entries.len()),
            (None, copy) => copy.as_ref().map(|copy| copy.entries),
        };
        match self.look(reading, before) {
            Look::Same => {}
            Look::Unfinished => refreshed.unfinished = true,
            Look::Missing(fault) => {
                // Said once, not at every look.
                let error = fault.to_string();
                if self.error.as_deref() != Some(&error) {
                    refreshed.diagnostics.push(fault);
                }
                (self.error, self.held, self.stamp) = (Some(error), None, None);
            }
            Look::Bad(stamp, held, faults) => {
                self.error = faults.first().map(ToString::to_string);
                (self.held, self.stamp) = (held, Some(stamp));
                refreshed.diagnostics.extend(faults);
            }
            Look::Good(content) => self.adopt(content, reading.keep, refreshed),
        }
        if self.origin.is_some() {
            return;
        }
        // What is not there may still be fetched.
        refreshed.unusable |= match copy {
            None => !self.place.remote,
            Some(copy) if self.fall_back(&copy, reading, refreshed) => false,
            // A copy that cannot be used is nothing to compare with, either.
            Some(_) => {
                self.stamp = None;
                match self.look(reading, None) {
                    Look::Good(content) => {
                        self.adopt(content, reading.keep, refreshed);
                        false
                    }
                    _ => !self.place.remote,
                }
            }
        };
    }

    /// Puts the content that was held back in force, provided that it is still there; how many entries it has.
    pub(super) fn accept(
        &mut self,
        limits: &Limits,
        keep: bool,
        refreshed: &mut Refreshed,
    ) -> Result<usize, String> {
        let name = &self.list.name;
        let Some(held) = self.held else {
            return Err(format!("nothing of {name} is held back"));
        };
        let (stamp, text) = content::open(&self.place.path, None, limits.list_size)
            .and_then(|found| found.ok_or_else(|| io::Error::other("it is being changed")))
            .map_err(|error| format!("{name} cannot be read ({error}): it stays held back"))?;
        if held.digest != sha256(&text) {
            return Err(format!(
                "{name} has changed since its content was held back, and is judged anew: see `gatehouse lists`"
            ));
        }
        let parsed = content::parse(&self.list, self.text.as_ref(), &self.place, &text, limits);
        let (reading, warnings) = parsed.map_err(|faults| match faults.first() {
            Some(fault) => fault.to_string(),
            None => format!("{name} cannot be parsed"),
        })?;
        self.adopt(Content { stamp, reading, warnings, text }, keep, refreshed);
        Ok(self.list.entries.len())
    }

    /// What of the list is in force and new to the keeper.
    pub(super) fn take_unkept(&mut self) -> Option<Copy> {
        let text = self.unkept.take()?;
        let Some(Origin::File(changed)) = self.origin else { return None };
        let (tier, name) = (self.list.tier, Arc::clone(&self.list.name));
        Some(Copy { tier, name, entries: self.list.entries.len(), changed, text })
    }

    /// The last good copy, when nothing better is known.
    fn copy(&self, reading: Reading<'_>, refreshed: &mut Refreshed) -> Option<Copy> {
        let copies = reading.copies.filter(|_| self.origin.is_none())?;
        copies.read(self.list.tier, &self.list.name, reading.limits.list_size).unwrap_or_else(|error| {
            let message = format!("its last good copy is ignored: {error}");
            refreshed.diagnostics.push(self.place.fault(message).warning());
            None
        })
    }

    /// Whether `copy` could be put in force.
    fn fall_back(&mut self, copy: &Copy, reading: Reading<'_>, refreshed: &mut Refreshed) -> bool {
        let place = &self.place;
        match content::parse(&self.list, None, place, &copy.text, reading.limits) {
            // Its warnings were said when it was new.
            Ok((content, _)) => {
                let message = format!(
                    "THE LAST GOOD COPY of {} IS IN FORCE instead of the file, with {} entries: mend the file",
                    humantime::format_rfc3339_seconds(copy.changed),
                    content.entries(0)
                );
                refreshed.diagnostics.push(place.fault(message));
                self.change = content.apply(&mut self.list);
                self.text = None;
                self.origin = Some(Origin::Copy(copy.changed));
                refreshed.changed = true;
                true
            }
            Err(faults) => {
                let fault = faults.first().map_or_else(String::new, |fault| fault.message.clone());
                let message = format!("its last good copy is ignored, it cannot be parsed: {fault}");
                refreshed.diagnostics.push(place.fault(message).warning());
                false
            }
        }
    }

    fn adopt(&mut self, content: Content, keep: bool, refreshed: &mut Refreshed) {
        let line_wise = content.reading.is_line_wise();
        self.change = content.reading.apply(&mut self.list);
        self.origin = Some(Origin::File(content.stamp.changed()));
        (self.stamp, self.error, self.held) = (Some(content.stamp), None, None);
        // What was fetched is kept where it was fetched to.
        self.unkept = (keep && !self.place.remote).then(|| content.text.clone());
        self.text = line_wise.then(|| ListText::worth_keeping(content.text, &self.list)).flatten();
        refreshed.changed = true;
        refreshed.diagnostics.extend(content.warnings);
    }

    /// Looks at the file; `before` are the entries of the last good content.
    fn look(&self, reading: Reading<'_>, before: Option<usize>) -> Look {
        let place = &self.place;
        let (stamp, text) = match content::open(&place.path, self.stamp, reading.limits.list_size) {
            Ok(Some(content)) => content,
            Ok(None) => return Look::Same,
            Err(error) => {
                let message = if place.remote && error.kind() == io::ErrorKind::NotFound {
                    "has not been fetched yet: nothing new of it is in force".to_owned()
                } else {
                    format!("cannot be read ({error}): check the path and its permissions")
                };
                return Look::Missing(place.fault(message));
            }
        };
        // Known files only: at the start there is nothing better than what is there.
        if self.stamp.is_some() && content::unfinished(&stamp, &text) {
            return Look::Unfinished;
        }
        let in_force = before.unwrap_or(0);
        if text.is_empty() && in_force > 0 {
            let why =
                "is empty, as a failed download leaves it. To empty the list, leave a comment line in it";
            let held = Held { entries: 0, in_force, digest: sha256(&text) };
            return self.hold(stamp, held, why);
        }
        match content::parse(&self.list, self.text.as_ref(), place, &text, reading.limits) {
            Ok((content, warnings)) => {
                match excess(reading.bounds, in_force, content.entries(self.list.entries.len())) {
                    Some(why) => {
                        let entries = content.entries(self.list.entries.len());
                        let held = Held { entries, in_force, digest: sha256(&text) };
                        self.hold(stamp, held, &why)
                    }
                    None => Look::Good(Content { stamp, reading: content, warnings, text }),
                }
            }
            Err(faults) => Look::Bad(stamp, None, faults),
        }
    }

    fn hold(&self, stamp: Stamp, held: Held, why: &str) -> Look {
        let message = format!(
            "{why}. It is HELD BACK, and the last good content stays in force; if it is meant to be so: \
             gatehouse lists --accept {}",
            self.list.name
        );
        // The file is not faulty: the other edits can be put in force.
        let fault = self.place.fault(message).warning();
        Look::Bad(stamp, Some(held), vec![fault])
    }
}

/// What a look at a list's file found.
enum Look {
    /// What was there before.
    Same,
    /// Something that is still being written.
    Unfinished,
    /// Nothing that can be read.
    Missing(Diagnostic),
    /// Content that is not put in force, held back or faulty.
    Bad(Stamp, Option<Held>, Vec<Diagnostic>),
    /// Content to put in force.
    Good(Content),
}

struct Content {
    stamp: Stamp,
    reading: ListReading,
    warnings: Vec<Diagnostic>,
    text: Vec<u8>,
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text).as_ref());
    bytes
}
