//! ClickHouse's compressed blocks (`compress=1`, `decompress=1`) and LZ4 frames (`Accept-Encoding: lz4`).
//!
//! ```text
//! block: │ CityHash128 of the rest, 16 B │ method, 1 B │ size of method..end, u32 │ raw size, u32 │ data … │
//! ```

use std::io::Write as _;

use bytes::{Buf, BytesMut};
use lz4_flex::frame::FrameEncoder;

use crate::exception::Exception;

const HASH_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;
/// A server takes no larger block either; without a bound four bytes of a request would reserve 4 GiB.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// The hash in the order in which a block carries it.
fn hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}

/// Takes a stream of blocks, cut anywhere, apart.
#[derive(Debug, Default)]
pub(crate) struct BlockReader {
    pending: BytesMut,
}

impl BlockReader {
    /// Adds a piece and hands every block that is now complete to `take`, unpacked.
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        self.pending.extend_from_slice(piece);
        while let Some(header) = self.pending.get(HASH_BYTES..HASH_BYTES + HEADER_BYTES) {
            let size = |at: usize| {
                let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
                usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
            };
            let (method, packed, raw) = (header[0], size(1), size(5));
            if !(HEADER_BYTES..=BLOCK_BYTES_MAX).contains(&packed) || raw > BLOCK_BYTES_MAX {
                return Err(Exception::new(
                    271,
                    "CANNOT_DECOMPRESS",
                    "a compressed block says it is larger than 1 GiB or empty",
                ));
            }
            let Some(block) = self.pending.get(HASH_BYTES..HASH_BYTES + packed) else {
                return Ok(());
            };
            if hash(block) != self.pending[..HASH_BYTES] {
                return Err(Exception::new(
                    40,
                    "CHECKSUM_DOESNT_MATCH",
                    "a compressed block was changed on its way",
                ));
            }
            let data = &block[HEADER_BYTES..];
            match method {
                METHOD_LZ4 => {
                    let raw = lz4_flex::block::decompress(data, raw)
                        .map_err(|error| Exception::new(271, "CANNOT_DECOMPRESS", error.to_string()))?;
                    take(&raw)?;
                }
                METHOD_NONE => take(data)?,
                method => {
                    let what =
                        format!("compression method {method:#04x} of a block is not taken here: use lz4");
                    return Err(Exception::new(89, "UNKNOWN_COMPRESSION_METHOD", what));
                }
            }
            self.pending.advance(HASH_BYTES + packed);
        }
        Ok(())
    }

    /// Refuses a stream that ends in the middle of a block.
    pub(crate) fn finish(&self) -> Result<(), Exception> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(Exception::new(33, "CANNOT_READ_ALL_DATA", "the compressed body ends in the middle of a block"))
    }
}

/// Packs one block.
fn pack(data: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(data);
    let mut block = vec![0; HASH_BYTES];
    block.push(METHOD_LZ4);
    for size in [packed.len() + HEADER_BYTES, data.len()] {
        block.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    }
    block.extend_from_slice(&packed);
    let hash = hash(&block[HASH_BYTES..]);
    block[..HASH_BYTES].copy_from_slice(&hash);
    block
}

/// How a reply's body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is.
    None,
    /// ClickHouse's blocks: `compress=1`.
    Blocks,
    /// One LZ4 frame: `Accept-Encoding: lz4`.
    Frame,
}

/// Packs a reply piece by piece.
#[derive(Debug)]
pub(crate) enum Packer {
    /// As it is.
    None,
    /// A block for each piece.
    Blocks,
    /// A frame over all of them.
    Frame(Box<FrameEncoder<Vec<u8>>>),
}

/// Blocks are cut to this, so that a reader needs no large buffer.
const PACKED_PIECE_BYTES: usize = 1 << 20;

impl Packer {
    pub(crate) fn new(packing: Packing) -> Self {
        match packing {
            Packing::None => Self::None,
            Packing::Blocks => Self::Blocks,
            Packing::Frame => Self::Frame(Box::new(FrameEncoder::new(Vec::new()))),
        }
    }

    /// Packs a piece; everything given so far can be unpacked from what was returned so far.
    pub(crate) fn pack(&mut self, piece: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(piece),
            Self::Blocks => Ok(piece.chunks(PACKED_PIECE_BYTES).flat_map(pack).collect()),
            Self::Frame(encoder) => {
                encoder.write_all(&piece)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// What closes the packing, after the last piece.
    pub(crate) fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None | Self::Blocks => Ok(Vec::new()),
            Self::Frame(encoder) => Ok(encoder.finish()?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(reader: &mut BlockReader, piece: &[u8]) -> Result<Vec<u8>, Exception> {
        let mut out = Vec::new();
        reader.push(piece, |data| {
            out.extend_from_slice(data);
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn blocks_cut_anywhere_come_back_as_they_were() {
        let (one, two) = (b"first block first block".to_vec(), vec![7u8; 70_000]);
        let stream = [pack(&one), pack(&two)].concat();
        for cut in [1, 15, 24, 25, 26, 60, stream.len() - 1] {
            let mut reader = BlockReader::default();
            let mut out = read(&mut reader, &stream[..cut]).unwrap();
            out.extend(read(&mut reader, &stream[cut..]).unwrap());
            reader.finish().unwrap();
            assert_eq!(out, [one.clone(), two.clone()].concat(), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_cut_or_foreign_block_is_refused() {
        let good = pack(b"some bytes of a block");
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(read(&mut BlockReader::default(), &damaged).unwrap_err().code, 40);

        let mut reader = BlockReader::default();
        read(&mut reader, &good[..good.len() - 1]).unwrap();
        assert_eq!(reader.finish().unwrap_err().code, 33);

        let mut zstd = good.clone();
        zstd[HASH_BYTES] = 0x90;
        let hash = hash(&zstd[HASH_BYTES..]);
        zstd[..HASH_BYTES].copy_from_slice(&hash);
        assert_eq!(read(&mut BlockReader::default(), &zstd).unwrap_err().code, 89);

        let mut huge = good;
        huge[HASH_BYTES + 5..HASH_BYTES + 9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&mut BlockReader::default(), &huge).unwrap_err().code, 271);
    }

    #[test]
    fn a_frame_can_be_read_up_to_each_piece() {
        let mut packer = Packer::new(Packing::Frame);
        let mut wire = packer.pack(b"one ".to_vec()).unwrap();
        wire.extend(packer.pack(b"two".to_vec()).unwrap());
        wire.extend(packer.finish().unwrap());
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(wire.as_slice()), &mut out)
            .unwrap();
        assert_eq!(out, b"one two");
    }
}
