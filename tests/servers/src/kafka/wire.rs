//! The few requests of Kafka's protocol that tests of servers need, in their oldest versions: no client's quirks, and
//! no JVM for each.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u32 = 1 << 20;
const METADATA: i16 = 3;

/// The brokers that a node hands out to clients, and the ports at which they would look for them.
pub(super) fn brokers(port: u16) -> Result<Vec<(i32, i32)>> {
    // Version 1, of no topic.
    let mut answer = Connection::open(port)?.ask(METADATA, 1, &0_i32.to_be_bytes())?;
    let count = answer.int32()?;
    let mut brokers = Vec::new();
    for _ in 0..count {
        let (id, _host, port, _rack) = (answer.int32()?, answer.string()?, answer.int32()?, answer.string()?);
        brokers.push((id, port));
    }
    Ok(brokers)
}

/// A connection to a listener without encryption.
#[derive(Debug)]
pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Answer> {
        let mut message = Vec::new();
        message.extend(key.to_be_bytes());
        message.extend(version.to_be_bytes());
        message.extend(1_i32.to_be_bytes()); // the request's number: one is under way at a time
        message.extend((-1_i16).to_be_bytes()); // no client id
        message.extend(body);
        let length = u32::try_from(message.len()).expect("requests of tests are small");
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(&message)?;

        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > ANSWER_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, format!("an answer of {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes)?;
        let mut answer = Answer { bytes, at: 0 };
        answer.int32()?; // the request's number
        Ok(answer)
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).copied();
        self.at += N;
        taken.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))
    }

    pub(super) fn int16(&mut self) -> Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn int32(&mut self) -> Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A string that may be null.
    pub(super) fn string(&mut self) -> Result<Option<String>> {
        let Ok(length) = usize::try_from(self.int16()?) else { return Ok(None) };
        let bytes = self.bytes.get(self.at..self.at + length).ok_or(ErrorKind::UnexpectedEof)?;
        self.at += length;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// What is left, for tests that look for something in it.
    #[cfg(test)]
    pub(super) fn rest_as_text(&self) -> String {
        String::from_utf8_lossy(&self.bytes[self.at..]).into_owned()
    }
}

/// Appends a string as requests have it.
pub(super) fn put_string(body: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("strings of tests are short");
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}
