//! Bans that were kept mean the same when they are kept again, and nobody is banned who cannot be.

use gateway::bans::kept;

const NOW: u64 = 1_000;
const MOST: usize = 16;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(bans) = kept::parse(text, MOST, NOW) else { return };
    assert!(bans.all().count() <= MOST);
    for ban in bans.all() {
        assert!(ban.until > NOW && ban.prefix.prefix_len() >= 8 && ban.prefix == ban.prefix.trunc());
        assert!(bans.find(ban.prefix.addr()).is_some());
        // What is shown of it, whatever its times are.
        assert!(ban.to_string().contains("is banned by"));
    }
    let again = kept::text(&bans).ok().and_then(|text| kept::parse(&text, MOST, NOW).ok());
    assert_eq!(again, Some(bans));
}
