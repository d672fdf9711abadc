//! The journal as bytes.
//!
//! ```text
//! gpushared-journal
//! <format> <document version> <sequence> <length> <crc32>
//! <JSON, length bytes>
//! ```
//! The checksum (eight digits of lower-case hexadecimal) is over all other bytes but the line break after it, and is
//! looked at before any number is believed. Its place and meaning are the same in every version, so a version is only
//! ever read from an undamaged file.

use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8] = b"gpushared-journal\n";
const FORMAT: u32 = 1;
/// Four numbers, a checksum and spaces are shorter.
const LONGEST_LINE: usize = 80;

/// What is wrong with a copy.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Not a journal's beginning: empty, truncated there, or another file.
    #[error("it does not begin as a journal does")]
    Header,
    /// Its bytes are not those that were written.
    #[error("its checksum or length is wrong")]
    Checksum,
    /// Its bytes are those that were written and say nothing that is understood.
    #[error("its document cannot be decoded")]
    Document(#[source] serde_json::Error),
}

#[derive(Debug)]
pub(super) struct Document<T> {
    pub(super) sequence: u64,
    pub(super) state: T,
}

#[derive(Debug)]
pub(super) enum Decoded<T> {
    Good(Document<T>),
    Damaged(Damage),
    Newer { format: u32, document: u32 },
}

pub(super) fn encode<T: Serialize>(
    state: &T,
    document_version: u32,
    sequence: u64,
) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(state)?;
    let mut bytes = Vec::with_capacity(MAGIC.len() + LONGEST_LINE + json.len());
    bytes.extend_from_slice(MAGIC);
    let numbers = format!("{FORMAT} {document_version} {sequence} {} ", json.len());
    bytes.extend_from_slice(numbers.as_bytes());
    let checksum = checksum_text(&bytes, &json);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], document_version: u32) -> Decoded<T> {
    let Some(header) = Header::read(bytes) else {
        return Decoded::Damaged(Damage::Header);
    };
    if !header.is_whole() {
        return Decoded::Damaged(Damage::Checksum);
    }
    let [format, document, sequence, length] = header.numbers;
    if format != u64::from(FORMAT) || document > u64::from(document_version) {
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        return Decoded::Newer {
            format: narrow(format),
            document: narrow(document),
        };
    }
    if u64::try_from(header.json.len()) != Ok(length) {
        return Decoded::Damaged(Damage::Checksum);
    }
    match serde_json::from_slice(header.json) {
        Ok(state) => Decoded::Good(Document { sequence, state }),
        Err(error) => Decoded::Damaged(Damage::Document(error)),
    }
}

struct Header<'a> {
    numbers: [u64; 4],
    checksum: &'a str,
    /// Everything before the checksum.
    before: &'a [u8],
    json: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let end = rest
            .iter()
            .take(LONGEST_LINE)
            .position(|&byte| byte == b'\n')?;
        let line = str::from_utf8(&rest[..end]).ok()?;
        let (numbers, checksum) = line.rsplit_once(' ')?;
        let mut words = numbers.split(' ');
        let mut number = || words.next()?.parse().ok();
        let numbers = [number()?, number()?, number()?, number()?];
        if words.next().is_some() {
            return None;
        }
        Some(Self {
            numbers,
            checksum,
            before: &bytes[..MAGIC.len() + end - checksum.len()],
            json: &rest[end + 1..],
        })
    }

    fn is_whole(&self) -> bool {
        self.checksum == checksum_text(self.before, self.json)
    }
}

fn checksum_text(before: &[u8], json: &[u8]) -> String {
    format!("{:08x}", !crc32(crc32(!0, before), json))
}

const TABLES: [[u32; 256]; 8] = tables();

/// CRC-32 as in zlib, without the final inversion, eight bytes at a time: a journal of 100 KiB costs 50 µs.
fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    let at = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
    let (groups, rest) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in groups {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        crc = at(7, a) ^ at(6, b) ^ at(5, c) ^ at(4, d) ^ at(3, e) ^ at(2, f) ^ at(1, g) ^ at(0, h);
    }
    for &byte in rest {
        crc = at(0, crc.to_le_bytes()[0] ^ byte) ^ (crc >> 8);
    }
    crc
}

const fn tables() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut tables = [[0; 256]; 8];
    let mut first = 0;
    let mut index = 0;
    while index < 256 {
        let mut crc: u32 = first;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][index] = crc;
        index += 1;
        first += 1;
    }
    let mut table = 1;
    while table < 8 {
        index = 0;
        while index < 256 {
            let before: u32 = tables[table - 1][index];
            tables[table][index] = tables[0][(before & 0xFF) as usize] ^ (before >> 8);
            index += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one_for_every_length() {
        // Check value of CRC-32/ISO-HDLC.
        assert_eq!(!crc32(!0, b"123456789"), 0xCBF4_3926);
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..40 {
            let (left, right) = bytes[..40].split_at(length);
            assert_eq!(crc32(crc32(!0, left), right), crc32(!0, &bytes[..40]));
        }
    }

    #[test]
    fn no_change_of_a_byte_and_no_truncation_goes_unseen() {
        let written = encode(&vec![1, 22, 333], 3, 41).unwrap();
        let read = |bytes: &[u8]| decode::<Vec<u32>>(bytes, 3);
        assert!(matches!(
            read(&written),
            Decoded::Good(Document { sequence: 41, .. })
        ));
        for position in 0..written.len() {
            let truncated = read(&written[..position]);
            assert!(
                matches!(truncated, Decoded::Damaged(_)),
                "cut at {position}: {truncated:?}"
            );
            for change in 1..=255 {
                let mut bytes = written.clone();
                bytes[position] ^= change;
                let changed = read(&bytes);
                assert!(
                    matches!(changed, Decoded::Damaged(_)),
                    "byte {position} ^ {change}: {changed:?}"
                );
            }
        }
        let mut longer = written.clone();
        longer.push(b' ');
        assert!(matches!(read(&longer), Decoded::Damaged(_)));
    }

    #[test]
    fn a_newer_document_is_told_apart_from_damage() {
        let written = encode(&7, 4, 1).unwrap();
        assert!(matches!(
            decode::<u32>(&written, 3),
            Decoded::Newer {
                format: 1,
                document: 4
            }
        ));
        assert!(matches!(decode::<u32>(&written, 5), Decoded::Good(_)));
        assert!(matches!(
            decode::<String>(&written, 4),
            Decoded::Damaged(Damage::Document(_))
        ));
    }
}
