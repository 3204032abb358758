//! Lists may be compressed: gzip (RFC 1952) and Zstandard (RFC 8878), known by their first bytes.

use std::io::{self, Read};

use thiserror::Error;

/// Log2 of the most memory that a Zstandard frame may ask for: 128 MiB, as `zstd -d` allows.
const WINDOW_LOG: u32 = 27;

/// Why an archive gives no list.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is not what its first bytes say.
    #[error("its {format} archive is damaged or cut off ({source}): fetch or pack it anew")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// What the unpacker found.
        source: io::Error,
    },
    /// The content is too large.
    #[error("unpacked, it is larger than [limits] list_size, {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
}

/// `bytes` without their compression; `bytes` themselves when there is none.
///
/// # Errors
///
/// When the content is larger than `max` bytes, or the archive is damaged or cut off, or something
/// else follows it. The content is checked against the archive's checksum, where it has one.
pub fn unpack_list(bytes: Vec<u8>, max: u64) -> Result<Vec<u8>, UnpackError> {
    match bytes[..] {
        [0x1f, 0x8b, ..] => content(flate2::bufread::MultiGzDecoder::new(&bytes[..]), "gzip", max),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            const FORMAT: &str = "Zstandard";
            let damaged = |source| UnpackError::Damaged { format: FORMAT, source };
            let mut decoder = zstd::Decoder::with_buffer(&bytes[..]).map_err(damaged)?;
            decoder.window_log_max(WINDOW_LOG).map_err(damaged)?;
            content(decoder, FORMAT, max)
        }
        _ => Ok(bytes),
    }
}

fn content(decoder: impl Read, format: &'static str, max: u64) -> Result<Vec<u8>, UnpackError> {
    let mut content = Vec::new();
    let read = decoder.take(max.saturating_add(1)).read_to_end(&mut content);
    read.map_err(|source| UnpackError::Damaged { format, source })?;
    if content.len() as u64 > max { Err(UnpackError::TooLarge { max }) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"192.0.2.0/24\n198.51.100.0/24\n2001:db8::/32\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).expect("packed");
        encoder.finish().expect("packed")
    }

    fn zst(text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.include_checksum(true).expect("set");
        encoder.write_all(text).expect("packed");
        encoder.finish().expect("packed")
    }

    #[test]
    fn both_formats_are_unpacked_by_what_they_are_and_text_is_left_alone() {
        assert_eq!(unpack_list(TEXT.to_vec(), 100).expect("text"), TEXT);
        for pack in [gzip, zst] {
            assert_eq!(unpack_list(pack(TEXT), 100).expect("an archive"), TEXT);
            // As several programs at once, or `cat`, write them.
            let two = [pack(TEXT), pack(b"203.0.113.0/24\n")].concat();
            assert_eq!(unpack_list(two, 100).expect("an archive"), [TEXT, b"203.0.113.0/24\n"].concat());
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_or_damaged_or_has_something_behind_it_is_refused() {
        for pack in [gzip, zst] {
            let whole = pack(TEXT);
            for end in 4..whole.len() {
                let error = unpack_list(whole[..end].to_vec(), 100).expect_err("cut off");
                assert!(error.to_string().contains("damaged or cut off"), "{error}");
            }
            let mut flipped = whole.clone();
            flipped[whole.len() - 6] ^= 1;
            unpack_list(flipped, 100).expect_err("damaged");
            unpack_list([&whole[..], b"192.0.2.1\n"].concat(), 100).expect_err("something behind");
        }
    }

    #[test]
    fn a_small_archive_of_much_is_refused_at_the_limit() {
        let much = vec![b'\n'; 10_000_000];
        for pack in [gzip, zst] {
            let error = unpack_list(pack(&much), 1_000_000).expect_err("too much");
            assert!(error.to_string().contains("larger than [limits] list_size, 1000000 bytes"), "{error}");
            assert_eq!(unpack_list(pack(&much), 10_000_000).expect("just not too much").len(), much.len());
        }
    }
}
