//! Revocations in files: read within limits, compared with what is in force, and written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::auth::revocation::{self, Revocation};
use crate::config::Diagnostic;
use crate::service::stamp::Stamp;

/// For how long a file without a final line feed must not have changed. Half of the second in which an
/// edit has to be in force.
const SETTLED: Duration = Duration::from_millis(500);

/// What a look at the operator's file found.
#[derive(Debug)]
pub(super) enum Look {
    /// Revocations to put in force.
    Good(Vec<Revocation>),
    /// Something that is still being written.
    Unfinished,
    /// Nothing that may be put in force.
    Bad(Diagnostic),
}

/// Looks at the operator's `file`, of at most `limit` bytes and `most` revocations, of which `in_force`
/// came before.
pub(super) fn look(file: &Path, limit: u64, most: usize, in_force: &[Revocation], now: SystemTime) -> Look {
    let text = match read(file, limit) {
        Ok(text) => text,
        Err(fault) => return Look::Bad(fault),
    };
    let whole = text.ends_with('\n');
    let fresh = Stamp::of(file).is_ok_and(|stamp| stamp.age(now) < SETTLED);
    if !whole && fresh {
        return Look::Unfinished;
    }
    let all = match parse(file, &text, most) {
        Ok(all) => all,
        Err(fault) => return Look::Bad(fault),
    };
    let lost = in_force.iter().filter(|known| !all.iter().any(|one| one.id() == known.id())).count();
    if whole || lost == 0 {
        return Look::Good(all);
    }
    let why = if text.is_empty() {
        "is empty, as a failed copy leaves it: to revoke nothing any more, leave a comment line in it"
    } else {
        "ends within a line, as a file that was cut off does: end its last line if it is meant to be so"
    };
    let message = format!(
        "{why}. It is HELD BACK, and the last good content stays in force: {lost} of its {} revocations are not in it \
         any more",
        in_force.len()
    );
    Look::Bad(Diagnostic::of_file(file, message).warning())
}

/// The text of `file`, of at most `limit` bytes.
pub(super) fn read(file: &Path, limit: u64) -> Result<String, Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(file, message);
    let unreadable = |error: io::Error| {
        fault(format!(
            "cannot be read ({error}): revoked tokens must not be accepted again, so it has to be readable, or its \
             name has to go from the configuration"
        ))
    };
    // Without O_NONBLOCK, opening a FIFO would wait for its writer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let opened = opened.map_err(unreadable)?;
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    opened.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(fault(format!("is larger than {limit} bytes: raise [limits] revocations")));
    }
    String::from_utf8(text).map_err(|_| fault("is not text in UTF-8".to_owned()))
}

/// The revocations in `text`, the content of `file`; at most `most`.
pub(super) fn parse(file: &Path, text: &str, most: usize) -> Result<Vec<Revocation>, Diagnostic> {
    revocation::parse(text, most).map_err(|found| Diagnostic {
        line: found.line,
        column: found.column,
        ..Diagnostic::of_file(file, found.message)
    })
}

/// Waits for the lock, which goes with what is returned.
pub(super) fn lock(path: &Path) -> io::Result<nix::fcntl::Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    give(&file, path);
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// The content of the file with these.
pub(super) fn text(all: &[Revocation]) -> String {
    let mut text = String::from("# Written by gatehouse revoke.\n");
    for revocation in all {
        text.push_str(&revocation::print(revocation));
        text.push('\n');
    }
    text
}

/// Gives `file`, at `path`, to whom its folder belongs to: root may revoke for a daemon that is not root.
fn give(file: &File, path: &Path) {
    if let Some(Ok(owner)) = path.parent().map(fs::metadata) {
        // Only root can, and nobody else needs it.
        let _ = std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

/// Replaces the file in one step; it is on disk when this returns.
pub(in crate::service) fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    give(&file, path);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 4096;

    fn found(text: &str, in_force: &str, later: Duration) -> Look {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("revoked.list");
        fs::write(&file, text).expect("written");
        let in_force = revocation::parse(in_force, 100).expect("valid");
        look(&file, LIMIT, 100, &in_force, SystemTime::now() + later)
    }

    #[track_caller]
    fn held(look: &Look, words: &str) {
        match look {
            Look::Bad(fault) => {
                let fault = fault.to_string();
                assert!(fault.contains("HELD BACK") && fault.contains(words), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_given_time_and_then_takes_nothing_out_of_force() {
        let before = "jti=a\njti=bcd\n";
        for text in ["jti=a\njti=b", "jti=a", "j"] {
            assert!(matches!(found(text, before, Duration::ZERO), Look::Unfinished), "{text}");
        }
        held(&found("jti=a\njti=b", before, SETTLED), "1 of its 2");
        assert!(matches!(found("j", before, SETTLED), Look::Bad(_)));
        // Whoever writes no line feed and takes nothing away is understood.
        assert!(matches!(found("jti=a\njti=bcd\njti=e", before, SETTLED), Look::Good(all) if all.len() == 3));
        assert!(matches!(found("jti=a\n", before, Duration::ZERO), Look::Good(all) if all.len() == 1));
    }

    #[test]
    fn an_emptied_file_takes_nothing_out_of_force_and_a_comment_does() {
        held(&found("", "jti=a\n", SETTLED), "is empty");
        assert!(matches!(found("# none\n", "jti=a\n", Duration::ZERO), Look::Good(all) if all.is_empty()));
        assert!(matches!(found("", "", SETTLED), Look::Good(all) if all.is_empty()));
    }

    #[test]
    fn what_is_no_file_is_refused_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
        for path in [fifo.as_path(), folder.path(), Path::new("/dev/null")] {
            let fault = read(path, LIMIT).expect_err("refused").to_string();
            assert!(fault.contains("not a regular file"), "{fault}");
        }
    }
}
