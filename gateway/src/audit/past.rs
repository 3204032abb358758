//! What became of the handshakes of the last while, by the identifier that the client was told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, HandshakeId};
use super::record::Record;

/// What the trail has of a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Past {
    /// When it was recorded, in seconds since 1970.
    pub time: u64,
    /// One line for people.
    pub message: String,
    /// The fields of the journal, in their order.
    pub fields: Vec<(String, String)>,
}

impl Past {
    /// The value of the field `GATEHOUSE_` and `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field.strip_prefix("GATEHOUSE_") == Some(name));
        field.map(|(_, value)| value.as_str())
    }
}

/// The handshakes of the last while: rejections, and the ends of sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remembered {
    memory: Arc<Mutex<Memory>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Memory {
    order: VecDeque<HandshakeId>,
    known: HashMap<HandshakeId, Arc<(SystemTime, Entry)>>,
}

impl Remembered {
    /// A memory of the newest `most`.
    pub fn new(most: usize) -> Self {
        Self { memory: Arc::default(), most }
    }

    /// Remembers `entry`, if it is the end of a handshake or of its session.
    pub(super) fn note(&self, entry: &Entry, now: SystemTime) {
        let (Entry::Rejected { id, .. } | Entry::Ended { id, .. }) = entry else { return };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if self.most == 0 {
            return;
        }
        if memory.known.insert(*id, Arc::new((now, entry.clone()))).is_none() {
            memory.order.push_back(*id);
        }
        if memory.order.len() > self.most
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }

    /// What became of the handshake `id`.
    pub fn find(&self, id: HandshakeId) -> Option<Past> {
        let found =
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).known.get(&id).map(Arc::clone)?;
        let (time, entry) = &*found;
        let record = Record::from(entry);
        let fields = record.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (time, fields) = (crate::auth::revocation::seconds(*time), fields.collect());
        Some(Past { time, message: record.message, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::{Reason, Rejection};

    #[test]
    fn the_newest_are_remembered_and_no_more() {
        let remembered = Remembered::new(2);
        let id = |n| HandshakeId::new([n; 10]);
        for n in 1..=3 {
            let entry = Entry::Rejected {
                id: id(n),
                client: ([192, 0, 2, n], 1).into(),
                route: None,
                rejection: Box::new(Rejection::new(Reason::CredentialsMissing)),
            };
            remembered.note(&entry, SystemTime::UNIX_EPOCH);
        }
        assert!(remembered.find(id(1)).is_none());
        let past = remembered.find(id(3)).expect("remembered");
        assert_eq!((past.field("REASON"), past.field("CLIENT")), (Some("missing"), Some("192.0.2.3")));
    }
}
