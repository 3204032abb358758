//! Compressed lists: whatever the archive promises, no more is unpacked than allowed.

use gateway::policy::{UnpackError, unpack_list};

/// Bytes of an unpacked list.
const MOST: u64 = 4096;

pub(crate) fn run(input: &[u8]) {
    match unpack_list(input.to_vec(), MOST) {
        Ok(content) if content == input => {}
        Ok(content) => {
            assert!(content.len() as u64 <= MOST, "{} bytes are unpacked", content.len());
            // Content that is an archive itself is a list of another kind, which the parser refuses.
            let again = unpack_list(input.to_vec(), content.len() as u64);
            assert!(again.is_ok_and(|again| again == content), "unpacked differently at its own size");
        }
        Err(UnpackError::TooLarge { max }) => assert_eq!(max, MOST),
        Err(error @ UnpackError::Damaged { .. }) => {
            assert!(crate::is_one_plain_line(&error.to_string()), "{error}");
        }
    }
}
