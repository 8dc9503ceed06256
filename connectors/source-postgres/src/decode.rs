//! The bytes of one pgoutput message in, a [`Message`] that borrows from them out.
//!
//! Protocol version 1. Versions 2 to 4 add the transaction's id after the tag of a message inside a streamed block
//! and some message kinds; both belong into [`Message::parse`] and nowhere else.
//!
//! Every length is checked against what is there: rubbish gives [`Rubbish`], never a panic.

/// A message that is not what the protocol says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a pgoutput message of kind '{}' can't be read: {what}", char::from(*kind))]
pub(crate) struct Rubbish {
    kind: u8,
    what: &'static str,
}

impl Rubbish {
    /// A message that was taken for a row and is none.
    pub(crate) fn no_row(payload: &[u8]) -> Self {
        Self { kind: payload.first().copied().unwrap_or(b' '), what: "it is no row" }
    }
}

/// One column of a `Relation` message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ColumnMessage {
    /// Whether it belongs to the replica identity.
    pub(crate) key: bool,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
}

/// A table as the stream announces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RelationMessage {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<ColumnMessage>,
}

/// How much of the old row came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Old {
    /// The columns of the replica identity; the others stand as NULL and mean nothing.
    Key,
    /// All.
    Full,
}

/// A value of a tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Field<'a> {
    Null,
    Unchanged,
    Text(&'a [u8]),
}

/// The values of a row, checked to be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message<'a> {
    Begin {
        commit: u64,
        commit_us: i64,
        xid: u32,
    },
    Commit {
        end: u64,
    },
    Relation(RelationMessage),
    Insert {
        oid: u32,
        new: Tuple<'a>,
    },
    Update {
        oid: u32,
        old: Option<(Old, Tuple<'a>)>,
        new: Tuple<'a>,
    },
    Delete {
        oid: u32,
        old: (Old, Tuple<'a>),
    },
    Truncate {
        oids: Vec<u32>,
    },
    /// `pg_logical_emit_message`.
    Emitted {
        prefix: &'a [u8],
        content: &'a [u8],
    },
    /// Origins and types, which nothing here needs.
    Other,
}

struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bad(&self, what: &'static str) -> Rubbish {
        Rubbish { kind: self.kind, what }
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Rubbish> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.bad("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Rubbish> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.bad("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Rubbish> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Rubbish> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Rubbish> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Rubbish> {
        self.array().map(u64::from_be_bytes)
    }

    fn time_us(&mut self) -> Result<i64, Rubbish> {
        let since_2000 = self.array().map(i64::from_be_bytes)?;
        Ok(since_2000.saturating_add(rollcall_postgres_wire::replication::POSTGRES_EPOCH_US))
    }

    fn zero_ended(&mut self) -> Result<&'a [u8], Rubbish> {
        let end =
            self.rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.bad("a text has no end"))?;
        let text = self.bytes(end)?;
        self.rest = &self.rest[1..];
        Ok(text)
    }

    fn name(&mut self) -> Result<String, Rubbish> {
        self.zero_ended().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Rubbish> {
        let columns = self.u16()?;
        let from = self.rest;
        for _ in 0..columns {
            match self.u8()? {
                b'n' | b'u' => {}
                b't' => {
                    let len = self.u32()?;
                    self.bytes(usize::try_from(len).map_err(|_| self.bad("a value is too long"))?)?;
                }
                _ => return Err(self.bad("a value of unknown form")),
            }
        }
        Ok(Tuple { columns, bytes: &from[..from.len() - self.rest.len()] })
    }

    fn old(&mut self, tag: u8) -> Result<(Old, Tuple<'a>), Rubbish> {
        let old = match tag {
            b'K' => Old::Key,
            b'O' => Old::Full,
            _ => return Err(self.bad("neither an old row nor a new one")),
        };
        Ok((old, self.tuple()?))
    }

    fn relation(&mut self) -> Result<RelationMessage, Rubbish> {
        let (oid, schema, name) = (self.u32()?, self.name()?, self.name()?);
        self.u8()?; // replica identity: the key flags of the columns say what matters
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let key = self.u8()? & 1 == 1;
            let (name, type_oid) = (self.name()?, self.u32()?);
            self.u32()?; // type modifier
            columns.push(ColumnMessage { key, name, type_oid });
        }
        Ok(RelationMessage { oid, schema, name, columns })
    }
}

impl<'a> Message<'a> {
    /// Reads one message.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Rubbish> {
        let Some((&kind, rest)) = bytes.split_first() else {
            return Err(Rubbish { kind: b' ', what: "it is empty" });
        };
        let mut r = Reader { kind, rest };
        let message = match kind {
            b'B' => Self::Begin { commit: r.u64()?, commit_us: r.time_us()?, xid: r.u32()? },
            b'C' => {
                r.u8()?; // flags
                r.u64()?; // start of the commit record
                let end = r.u64()?;
                r.time_us()?;
                Self::Commit { end }
            }
            b'R' => Self::Relation(r.relation()?),
            b'I' => {
                let oid = r.u32()?;
                if r.u8()? != b'N' {
                    return Err(r.bad("no new row"));
                }
                Self::Insert { oid, new: r.tuple()? }
            }
            b'U' => {
                let oid = r.u32()?;
                let (old, tag) = match r.u8()? {
                    b'N' => (None, b'N'),
                    tag => (Some(r.old(tag)?), r.u8()?),
                };
                if tag != b'N' {
                    return Err(r.bad("no new row"));
                }
                Self::Update { oid, old, new: r.tuple()? }
            }
            b'D' => {
                let oid = r.u32()?;
                let tag = r.u8()?;
                Self::Delete { oid, old: r.old(tag)? }
            }
            b'T' => {
                let count = r.u32()?;
                r.u8()?; // CASCADE, RESTART IDENTITY
                let mut oids = Vec::new();
                for _ in 0..count {
                    oids.push(r.u32()?);
                }
                Self::Truncate { oids }
            }
            b'M' => {
                r.u8()?; // transactional
                r.u64()?; // where
                let prefix = r.zero_ended()?;
                let len = r.u32()?;
                let content = r.bytes(usize::try_from(len).map_err(|_| r.bad("it is too long"))?)?;
                Self::Emitted { prefix, content }
            }
            b'O' | b'Y' => return Ok(Self::Other),
            _ => return Err(r.bad("its kind is unknown")),
        };
        if r.rest.is_empty() { Ok(message) } else { Err(r.bad("something follows its end")) }
    }
}

impl<'a> Tuple<'a> {
    /// How many values it has.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// The values in column order.
    pub(crate) fn fields(&self) -> Fields<'a> {
        Fields { rest: self.bytes }
    }

    /// One value.
    pub(crate) fn field(&self, column: usize) -> Option<Field<'a>> {
        self.fields().nth(column)
    }
}

/// Iterates over the values of a [`Tuple`].
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (form, rest) = self.rest.split_first()?;
        self.rest = rest;
        match form {
            b'n' => Some(Field::Null),
            b'u' => Some(Field::Unchanged),
            _ => {
                let (len, rest) = rest.split_first_chunk()?;
                let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
                self.rest = rest;
                Some(Field::Text(value))
            }
        }
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
