//! Asks the kernel about an interface, over rtnetlink(7): what it is, which XDP programs it runs,
//! and in its driver's own words why it refuses one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{IFLA_IFNAME, IFLA_XDP, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};

/// `XDP_FLAGS_*` of linux/if_link.h.
pub(super) mod flags {
    pub(in super::super) const UPDATE_IF_NOEXIST: u32 = 1 << 0;
    pub(in super::super) const GENERIC: u32 = 1 << 1;
    pub(in super::super) const NATIVE: u32 = 1 << 2;
    pub(in super::super) const REPLACE: u32 = 1 << 4;
}

const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NESTED: u16 = 1 << 15;
/// Bytes of `struct nlmsghdr`, and of `struct ifinfomsg`.
const HEADER: usize = 16;

/// What the kernel says about an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Its index.
    pub(super) index: u32,
    /// Its hardware type, `ARPHRD_*`.
    pub(super) kind: u16,
    /// Number of the XDP program in the driver.
    pub(super) native: Option<u32>,
    /// Number of the XDP program in the network stack.
    pub(super) generic: Option<u32>,
}

/// Asks about the interface called `name`; `None` when there is none.
pub(super) fn link(name: &str) -> io::Result<Option<Link>> {
    // IFNAMSIZ counts the closing zero.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/']) {
        return Ok(None);
    }
    let mut message = Message::new(RTM_GETLINK, 0, 0);
    message.attribute(IFLA_IFNAME, name.as_bytes());
    match Socket::open()?.ask(message)? {
        Answer::Link(link) => Ok(Some(link)),
        Answer::Failed { code: libc::ENODEV, .. } => Ok(None),
        Answer::Failed { code, .. } => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Why the interface refuses `program` in the mode of `mode_flag`, in words: tries once more in
/// the older way, which unlike bpf(2) hands the driver's message out. `None` when it does not
/// refuse this time, or has nothing to say. Never replaces a program, and leaves none behind.
pub(super) fn refusal(program: BorrowedFd<'_>, index: u32, mode_flag: u32) -> Option<String> {
    let socket = Socket::open().ok()?;
    let attach = xdp(
        index,
        &[
            (IFLA_XDP_FD, program.as_raw_fd().cast_unsigned()),
            (IFLA_XDP_FLAGS, mode_flag | flags::UPDATE_IF_NOEXIST),
        ],
    );
    match socket.ask(attach).ok()? {
        Answer::Failed { code: 0, .. } => {
            let detach = xdp(
                index,
                &[
                    (IFLA_XDP_FD, u32::MAX),
                    (IFLA_XDP_FLAGS, mode_flag | flags::REPLACE),
                    (IFLA_XDP_EXPECTED_FD, program.as_raw_fd().cast_unsigned()),
                ],
            );
            let _: io::Result<Answer> = socket.ask(detach);
            None
        }
        Answer::Failed { message, .. } => message,
        Answer::Link(_) => None,
    }
}

fn xdp(index: u32, attributes: &[(u16, u32)]) -> Message {
    let mut nest = Message::default();
    for (kind, value) in attributes {
        nest.attribute(*kind, &value.to_ne_bytes());
    }
    let mut message = Message::new(RTM_SETLINK, NLM_F_ACK, index);
    message.attribute(IFLA_XDP | NESTED, &nest.0);
    message
}

/// A request, or a nest of attributes.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// Begins a request about the interface with `index`, or 0.
    fn new(kind: u16, flags: u16, index: u32) -> Self {
        let mut bytes = vec![0; 2 * HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
        Self(bytes)
    }

    /// Adds an attribute; every payload here is far below the 64 KiB that its length can say.
    fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// An answer of the kernel.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Link(Link),
    /// An error number, 0 for success, and the extended message.
    Failed {
        code: i32,
        message: Option<String>,
    },
}

struct Socket(File);

impl Socket {
    fn open() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let descriptor = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: the option's value is read from `on`, four bytes. A kernel that does not
            // know the option answers without messages, so the result does not matter.
            unsafe {
                libc::setsockopt(descriptor, libc::SOL_NETLINK, option, (&raw const on).cast(), 4);
            }
        }
        Ok(Self(File::from(socket)))
    }

    /// Sends a request and reads the answer, which the kernel has ready when the request returns.
    fn ask(&self, message: Message) -> io::Result<Answer> {
        let mut file = &self.0;
        file.write_all(&message.finish())?;
        let mut buffer = vec![0; 64 * 1024];
        let length = file.read(&mut buffer)?;
        parse(&buffer[..length])
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown netlink answer"))
    }
}

/// The first message of a datagram.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let (bytes, kind) = (bytes.get(..length)?, half(bytes, 4)?);
    match kind {
        RTM_NEWLINK => {
            let mut link =
                Link { kind: half(bytes, HEADER + 2)?, index: word(bytes, HEADER + 4)?, ..Link::default() };
            let xdp = attributes(bytes.get(2 * HEADER..)?).filter(|(kind, _)| *kind == IFLA_XDP);
            for (kind, value) in xdp.flat_map(|(_, nest)| attributes(nest)) {
                match kind {
                    IFLA_XDP_DRV_PROG_ID => link.native = word(value, 0),
                    IFLA_XDP_SKB_PROG_ID => link.generic = word(value, 0),
                    _ => {}
                }
            }
            Some(Answer::Link(link))
        }
        NLMSG_ERROR => {
            let code = word(bytes, HEADER)?.cast_signed().checked_neg()?;
            // The header of our request follows, and as the answer is capped nothing else of it.
            let message = attributes(bytes.get(2 * HEADER + 4..).unwrap_or_default())
                .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
                .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
                .filter(|text| !text.is_empty());
            Some(Answer::Failed { code, message })
        }
        _ => None,
    }
}

/// The attributes in `bytes`, up to the first that is damaged.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(half(bytes, 0)?), half(bytes, 2)? & !NESTED);
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = Message(vec![0; HEADER]);
        message.0[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.0.extend(body);
        message.finish()
    }

    fn link_message() -> Vec<u8> {
        let mut xdp = Message::default();
        xdp.attribute(2, &[1]);
        xdp.attribute(IFLA_XDP_DRV_PROG_ID, &42u32.to_ne_bytes());
        let mut body = Message(vec![0; 16]);
        body.0[2..4].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        body.0[4..8].copy_from_slice(&5u32.to_ne_bytes());
        body.attribute(IFLA_IFNAME, b"eth0\0");
        body.attribute(IFLA_XDP | NESTED, &xdp.0);
        message(RTM_NEWLINK, &body.0)
    }

    #[test]
    fn the_programs_of_an_interface_are_read() {
        let expected = Link { index: 5, kind: libc::ARPHRD_ETHER, native: Some(42), generic: None };
        assert_eq!(parse(&link_message()), Some(Answer::Link(expected)));
    }

    #[test]
    fn the_drivers_words_are_read_from_a_refusal() {
        let mut body = Message((-libc::EOPNOTSUPP).to_ne_bytes().to_vec());
        body.0.extend([0; HEADER]);
        body.attribute(NLMSGERR_ATTR_MSG, b"no native XDP\0");
        let words = Some("no native XDP".to_owned());
        let expected = Answer::Failed { code: libc::EOPNOTSUPP, message: words };
        assert_eq!(parse(&message(NLMSG_ERROR, &body.0)), Some(expected));
    }

    #[test]
    fn a_damaged_answer_is_refused_or_read_in_part_but_never_a_panic() {
        let whole = link_message();
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 127, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                parse(&damaged);
            }
        }
    }
}
