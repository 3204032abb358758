//! Attaching the program to an interface.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::netlink::{self, Link, flags};
use super::pins::{Pins, remove};
use super::{NicError, bpf};
use crate::config::Mode;

/// Where on an interface the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the network stack: works with every driver, and costs more per packet.
    Generic,
}

impl AttachedMode {
    /// The name in the configuration, in logs and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> u32 {
        match self {
            Self::Native => flags::NATIVE,
            Self::Generic => flags::GENERIC,
        }
    }

    /// What `ip link set dev … off` calls it.
    const fn ip_keyword(self) -> &'static str {
        match self {
            Self::Native => "xdpdrv",
            Self::Generic => "xdpgeneric",
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An interface that is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its index, as in [`super::ClientDrop::interface`].
    pub index: u32,
    /// Where the program runs.
    pub mode: AttachedMode,
    /// Why the driver could not run it, when `mode = "auto"` fell back to generic.
    pub reason: Option<String>,
}

/// The program on an interface, for as long as this lives, or, where it is pinned, longer.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) attachment: Attachment,
    _link: OwnedFd,
    pin: Option<PathBuf>,
}

impl Held {
    /// Lets go of the interface, pinned or not.
    pub(super) fn cut(self) -> io::Result<()> {
        self.pin.as_deref().map_or(Ok(()), remove)
    }
}

/// Attaches `program`. Where a former daemon has left a link among `pins`, the program takes the
/// place of the one there; a new link is pinned.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    interface: &str,
    mode: Mode,
    pins: Option<&mut Pins>,
) -> Result<Held, NicError> {
    let missing = || NicError::NoInterface { interface: interface.to_owned() };
    let link = query(interface)?.ok_or_else(missing)?;
    if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&link.kind) {
        return Err(NicError::NotEthernet { interface: interface.to_owned(), kind: link.kind });
    }
    let Some(pins) = pins else {
        let (_link, attachment) = create(program, interface, mode, &link)?;
        return Ok(Held { attachment, _link, pin: None });
    };
    if let Some(held) = adopt(program, interface, mode, &link, pins)? {
        return Ok(held);
    }
    let (created, attachment) = create(program, interface, mode, &link)?;
    let pinned = pins.pin_link(&created, link.index);
    let pin = Some(pinned.map_err(|error| NicError::from_io("pin the link to the interface", error))?);
    Ok(Held { attachment, _link: created, pin })
}

/// Puts `program` in the place of the one that a former daemon left there; `None` when it left
/// none, or one in a mode that is not wanted any more, which is then detached.
fn adopt(
    program: BorrowedFd<'_>,
    interface: &str,
    mode: Mode,
    link: &Link,
    pins: &mut Pins,
) -> Result<Option<Held>, NicError> {
    let Some(pinned) = pins.take_link(link.index) else {
        return Ok(None);
    };
    let there = foreign(link).filter(|(_, id)| *id == pinned.program).map(|(mode, _)| mode);
    let kept = there.filter(|there| match mode {
        Mode::Auto => true,
        Mode::Native => *there == AttachedMode::Native,
        Mode::Generic => *there == AttachedMode::Generic,
        Mode::Off => false,
    });
    let Some(kept) = kept else {
        // No interface runs a program in both modes, so the new link has to wait for this.
        pinned.detach().map_err(|error| NicError::from_io("detach the former program", error))?;
        return Ok(None);
    };
    bpf::update_link(pinned.link.as_fd(), program)
        .map_err(|error| NicError::from_io("replace the former program on the interface", error))?;
    let reason = (mode == Mode::Auto && kept == AttachedMode::Generic).then(|| {
        "the former daemon attached it so, and another mode means a moment without any; \
         `gatehouse detach` and a start try native again"
            .to_owned()
    });
    let attachment = Attachment { interface: interface.to_owned(), index: link.index, mode: kept, reason };
    Ok(Some(Held { attachment, _link: pinned.link, pin: Some(pinned.path) }))
}

/// Makes a new link; the interface is guarded as long as the descriptor is open, or its pin there.
fn create(
    program: BorrowedFd<'_>,
    interface: &str,
    mode: Mode,
    link: &Link,
) -> Result<(OwnedFd, Attachment), NicError> {
    let attachment =
        |mode, reason| Attachment { interface: interface.to_owned(), index: link.index, mode, reason };
    let attempt = |mode| attempt(program, interface, link.index, mode);
    match mode {
        Mode::Off => Err(NicError::Off { interface: interface.to_owned() }),
        Mode::Native => Ok((attempt(AttachedMode::Native)?, attachment(AttachedMode::Native, None))),
        Mode::Generic => Ok((attempt(AttachedMode::Generic)?, attachment(AttachedMode::Generic, None))),
        Mode::Auto => match attempt(AttachedMode::Native) {
            Ok(link) => Ok((link, attachment(AttachedMode::Native, None))),
            Err(NicError::Refused { reason, .. }) => {
                Ok((attempt(AttachedMode::Generic)?, attachment(AttachedMode::Generic, Some(reason))))
            }
            Err(error) => Err(error),
        },
    }
}

/// Whether the interface of `attachment` is still the same and runs the program with the number
/// `program`. Somebody can cut our link and attach another program.
pub(super) fn guards(attachment: &Attachment, program: u32) -> Result<bool, NicError> {
    let link = query(&attachment.interface)?;
    let here = link.filter(|link| link.index == attachment.index);
    Ok(here.as_ref().and_then(foreign).is_some_and(|(_, id)| id == program))
}

/// Attaches in one mode. The kernel itself refuses when any program is there already, in either
/// mode, so there is no moment in which a foreign program could be replaced.
fn attempt(
    program: BorrowedFd<'_>,
    interface: &str,
    index: u32,
    mode: AttachedMode,
) -> Result<OwnedFd, NicError> {
    let error = match bpf::create_link(program, index, mode.flag()) {
        Ok(link) => return Ok(link),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            Err(NicError::Permission { action: "attach the XDP program", source: error })
        }
        Some(libc::ENODEV) => Err(NicError::NoInterface { interface: interface.to_owned() }),
        Some(libc::EBUSY | libc::EEXIST) => Err(match query(interface)?.as_ref().and_then(foreign) {
            Some((mode, id)) => NicError::Foreign {
                interface: interface.to_owned(),
                mode,
                program: describe(id),
                off: mode.ip_keyword(),
            },
            None => refused(program, interface, index, mode, &error),
        }),
        _ => Err(refused(program, interface, index, mode, &error)),
    }
}

fn query(interface: &str) -> Result<Option<Link>, NicError> {
    netlink::link(interface).map_err(|error| NicError::from_io("ask the kernel about the interface", error))
}

fn foreign(link: &Link) -> Option<(AttachedMode, u32)> {
    link.native.map(|id| (AttachedMode::Native, id)).or(link.generic.map(|id| (AttachedMode::Generic, id)))
}

fn refused(
    program: BorrowedFd<'_>,
    interface: &str,
    index: u32,
    mode: AttachedMode,
    error: &io::Error,
) -> NicError {
    let reason = netlink::refusal(program, index, mode.flag())
        .map(|message| format!("{message} ({error})"))
        .unwrap_or_else(|| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => format!("its driver has no native XDP ({error})"),
            _ => error.to_string(),
        });
    NicError::Refused {
        interface: interface.to_owned(),
        mode,
        reason,
        remedy: match mode {
            AttachedMode::Native => "Set `mode = \"auto\"` or `mode = \"generic\"` in [firewall].",
            AttachedMode::Generic => "Name another interface in [firewall], or set `mode = \"off\"`.",
        },
    }
}

/// Number and name of a program; the name only where the kernel lets us ask.
fn describe(id: u32) -> String {
    aya::programs::loaded_programs()
        .map_while(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .map_or_else(|| format!("program {id}"), |name| format!("program {id}, {name:?}"))
}
