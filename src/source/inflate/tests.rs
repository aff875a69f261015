//! Three small members, cut and damaged at every byte.

use super::*;

/// With everything that a header can have.
const STORED: &[u8] = b"\x1f\x8b\x08\x1f\x00\x00\x00\x00\x00\x00\x02\x00abname\x00said\x00'\xa5\x01\x06\x00\xf9\xffm v=1\
    \x0a\x0c\xf5\x06\x80\x06\x00\x00\x00";
/// With a copy that overlaps itself.
const FIXED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbU(\xb35\xe4\xcaE\x22\x01\xa1X\x9b%\x12\x00\x00\x00";
/// Forty lines.
const DYNAMIC: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03e\xd0;\x0a\xc3@\x0cE\xd1\xde\xab\xc8\x02\x82\xd0g4\x9f\
    \xc2\x8bq\xe9\x22\x18L\xf6Op&\xc1B\xaf\x15\x5c\xf48\xdb~>\xcf\xe3x\xad\xfcx\xaf\xca\xc4\xcb\xf6\
    \xbf\xc8u\x11j\xf7E\xaf\x8bR\xb9/\xdf\xcaHRU\xa8\xa7\xca\xc9SUIS\xc54R%TS\xa5d\xa9\xb2\xb8Y\xe7\
    \xf7\x96*\x8f\x9be~\x97Tq\xdc\xcc\xf3\xbb\xa7J\xe3f\x9d\xdfG\xaaJ\xdc,\xf3\xbb\xa5\xaa\xc6\xcd?\
    \xf9\x06\xf2\x05\xe4\x05\xe4;\xc8;\xc8+\xc8\x0f\x90\xaf o \xcf \xdf@\xbe\x80\xbc\x80|\x07y\x07y\
    \x05\xf9\x01\xf2\x15\xe4m\xf9\x006j\xd6)\xd0\x02\x00\x00";

fn inflated(pieces: &[&[u8]], room: usize) -> Result<String, &'static str> {
    let (mut inflate, mut out, mut text) = (Inflate::new(), vec![0; room], Vec::new());
    for mut piece in pieces.iter().copied() {
        let mut written = room;
        while written == room {
            let used;
            (used, written) = inflate.inflate(piece, &mut out)?;
            piece = &piece[used..];
            text.extend_from_slice(&out[..written]);
        }
        assert!(piece.is_empty());
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    inflate.is_whole().then_some(text).ok_or("cut")
}

fn texts() -> [(&'static [u8], String); 3] {
    let line = |n| format!("air,room={} t={}.{}\n", n % 3, 20 + n % 7, n * 7 % 10);
    let lines = (0..40).map(line).collect();
    [
        (STORED, "m v=1\n".into()),
        (FIXED, "m v=1\n".repeat(3)),
        (DYNAMIC, lines),
    ]
}

#[test]
fn members_are_read_however_they_are_cut() {
    for (member, text) in texts() {
        let members = [member, FIXED].concat();
        let both = text.clone() + &"m v=1\n".repeat(3);
        for at in 0..=members.len() {
            let (a, b) = members.split_at(at);
            for room in [1, 7, 1000] {
                assert_eq!(inflated(&[a, b], room).as_ref(), Ok(&both));
            }
            let is_whole = at == member.len() || at == members.len();
            assert_eq!(inflated(&[a], 9).is_ok(), is_whole);
        }
        let bytes: Vec<_> = member.chunks(1).collect();
        assert_eq!(inflated(&bytes, 1), Ok(text));
    }
}

#[test]
fn a_damaged_byte_is_an_error_or_does_not_matter() {
    for (member, text) in texts() {
        for (at, bit) in (0..member.len() * 8).map(|n| (n / 8, n % 8)) {
            let mut damaged = member.to_vec();
            damaged[at] ^= 1 << bit;
            let (a, b) = damaged.split_at(at);
            let found = inflated(&[a, b], 50);
            assert_eq!(found, inflated(&[&damaged], 1000));
            assert!(found.is_err() || found == Ok(text.clone()), "{at} {bit}");
        }
    }
}

#[test]
fn an_error_stays() {
    let (mut inflate, mut out) = (Inflate::new(), [0; 10]);
    assert!(inflate.inflate(b"m v=1", &mut out).is_err());
    assert_eq!(
        inflate.inflate(FIXED, &mut out),
        Err("gzip: this is no gzip")
    );
}
