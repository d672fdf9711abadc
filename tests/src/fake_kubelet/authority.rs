//! Lets Go plugins in: rewrites `:authority` of incoming requests to `localhost`.
//!
//! A Go plugin that dials `kubelet.sock` by its plain path sends that path, percent-encoded, as the
//! authority (NVIDIA's plugin and upstream's sample do). A real kubelet does not look at it; the Rust
//! HTTP/2 server answers `PROTOCOL_ERROR`. So each `HEADERS` frame passes through here on its way in.
//!
//! Only the value behind the static name `:authority` is replaced, without decoding anything else. The
//! server's header table then holds an entry that is not larger than the one the client believes in,
//! and positions are counted from the newest entry: no later reference changes its meaning.

/// What every HTTP/2 client sends first.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// `localhost`, as a header string without Huffman coding.
const LOCALHOST: &[u8] = b"\x09localhost";
/// Index of `:authority` in the static header table.
const AUTHORITY: usize = 1;

/// Bytes on their way from a client to the server.
#[derive(Debug, Default)]
pub(crate) struct Rewriter {
    past_preface: bool,
    /// Received, not yet a complete frame.
    pending: Vec<u8>,
}

impl Rewriter {
    /// Takes what was received and returns what can be passed on.
    pub(crate) fn pass(&mut self, received: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(received);
        let mut out = Vec::new();
        if !self.past_preface {
            if self.pending.len() < PREFACE {
                return out;
            }
            out.extend(self.pending.drain(..PREFACE));
            self.past_preface = true;
        }
        while let Some(length) = frame_length(&self.pending) {
            let frame: Vec<u8> = self.pending.drain(..length).collect();
            out.extend(rewrite(frame));
        }
        out
    }
}

/// Length of the first frame with its header, when all of it is there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = bytes else { return None };
    let length = FRAME_HEADER + usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
    (bytes.len() >= length).then_some(length)
}

fn rewrite(frame: Vec<u8>) -> Vec<u8> {
    let (kind, flags) = (frame[3], frame[4]);
    if kind != HEADERS {
        return frame;
    }
    let skipped = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
    let block = FRAME_HEADER + skipped;
    let Some((start, end)) = authority(frame.get(block..).unwrap_or_default()) else {
        return frame;
    };
    let mut out = frame[..block + start].to_vec();
    out.extend_from_slice(LOCALHOST);
    out.extend_from_slice(&frame[block + end..]);
    let length = u32::try_from(out.len() - FRAME_HEADER)
        .unwrap()
        .to_be_bytes();
    out[..3].copy_from_slice(&length[1..]);
    out
}

/// Where in a header block the value of `:authority` is, with its length prefix; `None` when it is
/// not spelled out there.
fn authority(block: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        let prefix = match first {
            0x80.. => 7,      // a reference to a whole field
            0x40..=0x7f => 6, // a field that enters the table
            0x20..=0x3f => 5, // a new size of the table
            _ => 4,           // a field that does not
        };
        let (index, after) = integer(block, at, prefix)?;
        at = after;
        if matches!(prefix, 7 | 5) {
            continue;
        }
        if index == 0 {
            at = string(block, at)?;
        }
        let end = string(block, at)?;
        if index == AUTHORITY {
            return Some((at, end));
        }
        at = end;
    }
}

/// End of the string at `at`.
fn string(block: &[u8], at: usize) -> Option<usize> {
    let (length, after) = integer(block, at, 7)?;
    let end = after.checked_add(length)?;
    (end <= block.len()).then_some(end)
}

/// The integer at `at` with a prefix of so many bits, and where it ends.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & mask;
    if value < mask {
        return Some((value, at + 1));
    }
    for (more, shift) in (0..4).map(|n| (at + 1 + n, 7 * n)) {
        let byte = usize::from(*block.get(more)?);
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, more + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    fn passed(bytes: &[u8], at_once: usize) -> Vec<u8> {
        let mut rewriter = Rewriter::default();
        let mut out = rewriter.pass(&[b'p'; PREFACE]);
        out.drain(..PREFACE);
        out.extend(bytes.chunks(at_once).flat_map(|chunk| rewriter.pass(chunk)));
        out
    }

    #[test]
    fn an_odd_authority_becomes_localhost_however_the_bytes_arrive() {
        // :method POST, :scheme http, a field with a literal name, :authority, :path by reference.
        let before = b"\x83\x86\x40\x01a\x01b";
        let block = [&before[..], b"\x41\x0a%2Fk.sock%", b"\x84"].concat();
        let expected = [&before[..], b"\x41\x09localhost", b"\x84"].concat();
        for at_once in [1, 3, 1000] {
            assert_eq!(
                passed(&frame(HEADERS, 4, &block), at_once),
                frame(HEADERS, 4, &expected)
            );
        }
        let padded = [b"\x02", &block[..], b"\0\0"].concat();
        let expected = [b"\x02", &expected[..], b"\0\0"].concat();
        assert_eq!(
            passed(&frame(HEADERS, 12, &padded), 7),
            frame(HEADERS, 12, &expected)
        );
    }

    #[test]
    fn everything_else_passes_as_it_came() {
        for (kind, payload) in [
            (0, &b"\x41\x01x data"[..]),
            (4, b""),
            (HEADERS, b"\x83\xbe"),
            (HEADERS, b"\x41\x7f"),
        ] {
            let frame = frame(kind, 4, payload);
            assert_eq!(passed(&frame, 2), frame);
        }
    }
}
