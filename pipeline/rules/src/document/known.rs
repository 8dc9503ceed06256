//! Segments by their texts, so that equal texts are compiled once.
//!
//! ```text
//! text that begins with a segment ─▶ the one before? ─▶ one of the few with this head? ─▶ its whole text, looked up
//! ```
//!
//! Where a segment ends isn't known before it is read. But text that was a whole object is one wherever an object may
//! begin, so a known text that stands there is the segment; only when none is near are the brackets counted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::CompiledSegment;

/// Segments remembered; when there would be more, all are forgotten.
pub(super) const SEGMENTS_MAX: usize = 1_024;
/// The texts of the segments remembered.
const SEGMENTS_BYTES_MAX: usize = 4 << 20;
/// The head of a text: most have their key in it.
const HEAD_BYTES: usize = 64;
/// Segments of one head that are compared with.
const HEAD_SEGMENTS_MAX: usize = 8;

type Known = (Arc<str>, Arc<CompiledSegment>);

/// The segments of the lines before.
#[derive(Debug, Default)]
pub(super) struct KnownSegments {
    last: Option<Known>,
    /// Those with a whole head, by it; not all of those that share one.
    by_head: HashMap<[u8; HEAD_BYTES], Vec<Known>>,
    by_text: HashMap<Arc<str>, Arc<CompiledSegment>>,
    /// Of the texts.
    bytes: usize,
}

impl KnownSegments {
    /// The segment that text begins with, if it is known, and the length of its own text.
    pub(super) fn find(&mut self, text: &str) -> Option<(usize, Arc<CompiledSegment>)> {
        let begins = |(raw, _): &&Known| text.starts_with(&**raw);
        if let Some((raw, segment)) = self.last.as_ref().filter(begins) {
            return Some((raw.len(), Arc::clone(segment)));
        }
        let near =
            head(text).and_then(|head| self.by_head.get(head)).and_then(|near| near.iter().find(begins));
        let (raw, segment) = match near {
            Some((raw, segment)) => (raw, segment),
            None => self.by_text.get_key_value(object_text(text)?)?,
        };
        self.last = Some((Arc::clone(raw), Arc::clone(segment)));
        Some((raw.len(), Arc::clone(segment)))
    }

    /// `raw` was read whole, as an object.
    pub(super) fn remember(&mut self, raw: &str, segment: CompiledSegment) -> Arc<CompiledSegment> {
        let segment = Arc::new(segment);
        if raw.len() > SEGMENTS_BYTES_MAX {
            return segment;
        }
        if self.by_text.len() >= SEGMENTS_MAX || self.bytes + raw.len() > SEGMENTS_BYTES_MAX {
            *self = Self::default();
        }
        let known: Known = (raw.into(), Arc::clone(&segment));
        self.bytes += raw.len();
        self.by_text.insert(Arc::clone(&known.0), Arc::clone(&segment));
        if let Some(head) = head(raw) {
            let near = self.by_head.entry(*head).or_default();
            if near.len() < HEAD_SEGMENTS_MAX {
                near.push((Arc::clone(&known.0), Arc::clone(&segment)));
            }
        }
        self.last = Some(known);
        segment
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_text.len()
    }
}

fn head(text: &str) -> Option<&[u8; HEAD_BYTES]> {
    text.as_bytes().first_chunk()
}

/// The text of the object that text begins with, if its brackets and quotes are those of one; it needn't be JSON.
fn object_text(text: &str) -> Option<&str> {
    if !text.starts_with('{') {
        return None;
    }
    let (mut open, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => open += 1,
            b'}' | b']' => {
                open -= 1;
                if open == 0 {
                    return text.get(..=at);
                }
            }
            _ => {}
        }
    }
    None
}
