//! Pieces of a streamed SELECT → one document.
//!
//! The engine writes every piece of a stream as a document of its own. In formats that have a beginning or an end these
//! must be cut where the pieces meet; formats for which that can't be told are not streamed.

/// How the pieces of a format meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seam {
    /// Rows and nothing else.
    Rows,
    /// So many lines of names and types come first.
    Lines(usize),
    /// A count, so many names, and perhaps so many types come first, each with its length.
    RowBinaryHeader {
        /// Types come after the names.
        types: bool,
    },
    /// A schema message comes first and an end mark last.
    ArrowStream,
}

/// The end mark of an Arrow stream: continuation and a length of zero.
const ARROW_END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

impl Seam {
    /// The seam of a format; None for one that is not streamed.
    pub(crate) fn of(format: &str) -> Option<Self> {
        match format {
            "RowBinary"
            | "Native"
            | "TabSeparated"
            | "TSV"
            | "TabSeparatedRaw"
            | "TSVRaw"
            | "CSV"
            | "JSONEachRow"
            | "JSONLines"
            | "NDJSON"
            | "JSONStringsEachRow"
            | "JSONCompactEachRow"
            | "JSONCompactStringsEachRow"
            | "LineAsString"
            | "Null" => Some(Self::Rows),
            "TabSeparatedWithNames" | "TSVWithNames" | "JSONCompactEachRowWithNames" => Some(Self::Lines(1)),
            "TabSeparatedWithNamesAndTypes"
            | "TSVWithNamesAndTypes"
            | "JSONCompactEachRowWithNamesAndTypes" => Some(Self::Lines(2)),
            "RowBinaryWithNames" => Some(Self::RowBinaryHeader { types: false }),
            "RowBinaryWithNamesAndTypes" => Some(Self::RowBinaryHeader { types: true }),
            "ArrowStream" => Some(Self::ArrowStream),
            _ => None,
        }
    }

    /// How many bytes at the beginning of a piece repeat in every piece; None if the piece is not of this shape.
    fn head(self, piece: &[u8]) -> Option<usize> {
        match self {
            Self::Rows => Some(0),
            Self::Lines(lines) => {
                let ends = piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                Some(ends.map(|(at, _)| at + 1).nth(lines - 1)?)
            }
            Self::RowBinaryHeader { types } => {
                let mut at = 0;
                let columns = varint(piece, &mut at)?;
                for _ in 0..columns.checked_mul(if types { 2 } else { 1 })? {
                    let length = varint(piece, &mut at)?;
                    at = at.checked_add(length).filter(|at| *at <= piece.len())?;
                }
                Some(at)
            }
            Self::ArrowStream => {
                let length = piece.get(4..8)?;
                let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
                let end = usize::try_from(length).ok()?.checked_add(8)?;
                (piece.starts_with(&ARROW_END[..4]) && end <= piece.len()).then_some(end)
            }
        }
    }

    /// What a stream ends with, which only its last piece may.
    fn tail(self) -> &'static [u8] {
        match self {
            Self::ArrowStream => &ARROW_END,
            Self::Rows | Self::Lines(_) | Self::RowBinaryHeader { .. } => &[],
        }
    }
}

/// An unsigned number in groups of seven bits.
fn varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut number = 0usize;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Joins the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Joiner {
    seam: Seam,
    head: Option<Vec<u8>>,
}

impl Joiner {
    pub(crate) fn new(seam: Seam) -> Self {
        Self { seam, head: None }
    }

    /// A piece as it stands in the whole; None if it isn't what the pieces before it were.
    pub(crate) fn join(&mut self, mut piece: Vec<u8>) -> Option<Vec<u8>> {
        let tail = self.seam.tail();
        if !tail.is_empty() {
            let end = piece.len().checked_sub(tail.len()).filter(|end| piece[*end..] == *tail)?;
            piece.truncate(end);
        }
        match &self.head {
            None => self.head = Some(piece[..self.seam.head(&piece)?].to_vec()),
            Some(head) if piece.starts_with(head) => {
                piece.drain(..head.len());
            }
            Some(_) => return None,
        }
        Some(piece)
    }

    /// What closes the whole.
    pub(crate) fn end(&self) -> &'static [u8] {
        if self.head.is_some() { self.seam.tail() } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn join(format: &str, pieces: &[&[u8]]) -> Vec<u8> {
        let mut joiner = Joiner::new(Seam::of(format).unwrap());
        let mut whole: Vec<u8> =
            pieces.iter().flat_map(|piece| joiner.join(piece.to_vec()).unwrap()).collect();
        whole.extend_from_slice(joiner.end());
        whole
    }

    #[test]
    fn what_begins_every_piece_stands_once_in_the_whole() {
        assert_eq!(join("TSV", &[b"1\n", b"2\n"]), b"1\n2\n");
        assert_eq!(join("TSVWithNamesAndTypes", &[b"a\nUInt8\n1\n", b"a\nUInt8\n2\n"]), b"a\nUInt8\n1\n2\n");
        assert_eq!(
            join("RowBinaryWithNamesAndTypes", &[b"\x01\x01a\x05UInt8\x01", b"\x01\x01a\x05UInt8\x02"]),
            b"\x01\x01a\x05UInt8\x01\x02"
        );
        let schema = [&ARROW_END[..4], &[2, 0, 0, 0], b"ss"].concat();
        let piece = |batch: &[u8]| [schema.as_slice(), batch, &ARROW_END].concat();
        let whole = [schema.as_slice(), b"b1", b"b2", &ARROW_END].concat();
        assert_eq!(join("ArrowStream", &[&piece(b"b1"), &piece(b"b2")]), whole);
        assert!(join("ArrowStream", &[]).is_empty());
    }

    #[test]
    fn a_piece_of_another_shape_is_refused() {
        let mut joiner = Joiner::new(Seam::of("TSVWithNames").unwrap());
        joiner.join(b"a\n1\n".to_vec()).unwrap();
        assert_eq!(joiner.join(b"b\n2\n".to_vec()), None);
        assert_eq!(Joiner::new(Seam::ArrowStream).join(b"short".to_vec()), None);
        assert_eq!(Joiner::new(Seam::RowBinaryHeader { types: true }).join(vec![0xFF; 12]), None);
        assert_eq!(Seam::of("JSON"), None);
    }
}
