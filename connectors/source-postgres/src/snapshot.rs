//! What a snapshot of Postgres sees.

use rollcall_model::Fault;

/// `pg_current_snapshot()`: `xmin:xmax:running,…`, in 64-bit transaction ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// Reads Postgres' text of it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let read = || {
            let mut parts = std::str::from_utf8(text).ok()?.split(':');
            let (xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
            let mut running = running
                .split(',')
                .filter(|xid| !xid.is_empty())
                .map(str::parse)
                .collect::<Result<Vec<u64>, _>>()
                .ok()?;
            running.sort_unstable();
            Some(Self { xmin: xmin.parse().ok()?, xmax: xmax.parse().ok()?, running })
        };
        read().ok_or_else(|| Fault::retry("Postgres gave a snapshot that can't be read"))
    }

    /// Whether a transaction that has committed is visible. Subtransactions count by their top one, which is the id
    /// that both a snapshot and the stream name.
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Every transaction below has ended.
    pub(crate) fn xmin(&self) -> u64 {
        self.xmin
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_runs_or_comes_later_is_not_seen() {
        let snapshot = Snapshot::parse(b"10:20:12,10,15").unwrap();
        let seen: Vec<u64> = (8..23).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 13, 14, 16, 17, 18, 19]);
        assert!(Snapshot::parse(b"10:10:").unwrap().sees(9));
        for bad in ["", "1:2", "a:2:", "1:2:x", "1:2:3,,-4"] {
            assert!(Snapshot::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
