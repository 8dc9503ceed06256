use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use rollcall_model::{FaultKind, ItemState};

use super::*;

const READING: Reading = Reading { form: Form::Full, key: "k", page_items: 3 };

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"Item\":{{\"k\":{{\"S\":\"{n}\"}}}}}}\n")).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn read(raw: &[u8], said: u64, skip: u64) -> Result<Vec<Batch>, Fault> {
    let mut batches = Vec::new();
    decode(raw, "f.gz", said, skip, READING, |batch| {
        batches.push(batch);
        true
    })?;
    Ok(batches)
}

#[test]
fn batches_are_bounded_and_the_last_is_said() {
    let batches = read(&gzip(&lines(7)), 7, 0).unwrap();
    let shape: Vec<_> = batches.iter().map(|b| (b.items.len(), b.lines, b.last)).collect();
    assert_eq!(shape, [(3, 3, false), (3, 6, false), (1, 7, true)]);
    let batches = read(&gzip(&lines(3)), 3, 0).unwrap();
    let shape: Vec<_> = batches.iter().map(|b| (b.items.len(), b.lines, b.last)).collect();
    assert_eq!(shape, [(3, 3, false), (0, 3, true)]);
}

#[test]
fn a_page_ends_with_the_line_that_reaches_its_bytes() {
    let long =
        format!("{{\"Item\":{{\"k\":{{\"S\":\"a\"}},\"x\":{{\"S\":\"{}\"}}}}}}\n", "y".repeat(3 << 20));
    let batches = read(&gzip(&long.repeat(3)), 3, 0).unwrap();
    let shape: Vec<_> = batches.iter().map(|b| b.items.len()).collect();
    assert_eq!(shape, [2, 1]);
    assert!(batches.iter().all(|b| b.bytes as usize <= PAGE_BYTES_MAX + LINE_BYTES_MAX));
}

#[test]
fn what_was_done_is_skipped() {
    for skip in 0..=7 {
        let batches = read(&gzip(&lines(7)), 7, skip).unwrap();
        let ids: Vec<_> = batches.iter().flat_map(|b| b.items.iter().map(|i| i.id.to_string())).collect();
        assert_eq!(ids, (skip..7).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(batches.last().map(|b| (b.lines, b.last)), Some((7, true)));
    }
}

#[test]
fn a_partition_without_items_is_an_empty_file() {
    for raw in [Vec::new(), gzip("")] {
        let batches = read(&raw, 0, 0).unwrap();
        assert_eq!(batches, [Batch { items: Vec::new(), lines: 0, bytes: 0, last: true }]);
    }
    assert!(read(&[], 1, 0).unwrap_err().what.contains("truncated"));
}

#[test]
fn several_gzip_members_are_one_file_and_the_last_line_needs_no_end() {
    let raw = [gzip(&lines(2)), gzip(lines(2).trim_end())].concat();
    assert_eq!(read(&raw, 4, 0).unwrap().last().unwrap().lines, 4);
}

#[test]
fn damage_is_refused_where_it_is() {
    let whole = gzip(&lines(1_000));
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    for byte in &mut flipped[middle..middle + 16] {
        *byte ^= 0x5a;
    }
    let mut bad_crc = whole.clone();
    let end = bad_crc.len();
    bad_crc[end - 6] ^= 1;
    let long = gzip(&"y".repeat(LINE_BYTES_MAX + 1));
    for (raw, said) in [
        (&whole[..whole.len() / 2], "in the middle of its gzip"),
        (&whole[..whole.len() - 1], "in the middle of its gzip"),
        (&b"{\"Item\":{}}"[..], "no sound gzip"),
        (&bad_crc, "no sound gzip"),
        (&[&whole[..], b"rubbish that is long"].concat(), "no sound gzip"),
        (&long, "f.gz:1: a line of more than"),
        (&gzip(&format!("{}{{\"Item\":", lines(4))), "f.gz:5: it is no JSON"),
        (&gzip(&format!("{}{{\"Item\":{{}}}}\n", lines(4))), "f.gz:5: the item has no key attribute 'k'"),
        (&gzip(&lines(999)), "has 999 items, the manifest says 1000"),
        (&gzip(&lines(1_001)), "has 1001 items, the manifest says 1000"),
    ] {
        let fault = read(raw, 1_000, 0).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
        assert!(fault.what.contains(said), "{said}: {fault}");
        assert!(fault.repair.is_some(), "{fault}");
    }
    // Where the damage shows depends on the compressor; that it shows does not.
    assert_eq!(read(&flipped, 1_000, 0).unwrap_err().kind, FaultKind::Refused);
}

#[test]
fn an_unreadable_item_with_a_key_is_passed_on_as_broken() {
    let text = format!("{}{{\"Item\":{{\"k\":{{\"S\":\"b\"}},\"x\":{{\"N\":7}}}}}}\n", lines(1));
    let batches = read(&gzip(&text), 2, 0).unwrap();
    assert!(matches!(&batches[0].items[1].state, ItemState::Broken(why) if why.contains("can't be read")));
}

#[test]
fn nobody_listening_ends_it() {
    let mut told = 0;
    decode(&gzip(&lines(100))[..], "f", 100, 0, READING, |_| {
        told += 1;
        false
    })
    .unwrap();
    assert_eq!(told, 1);
}
