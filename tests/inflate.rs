//! Guards against an inflater that reads a body as something other than what its sender wrote, or takes a damaged one
//! for whole. Python's zlib is asked about every stream, and what is made up here is as odd as zlib lets it be.

use std::io::{BufReader, Read};
use std::process::Stdio;

use seawall::source::inflate::Inflate;

use crate::support::{python3, stop};

/// Writes streams, each behind its length, and what zlib says: whether it is whole, and the text, or the reason, behind
/// its length.
const STREAMS: &str = r#"
import random, struct, sys, zlib
r = random.Random(int(sys.argv[1]))
out = sys.stdout.buffer

def text():
    n = r.choice((0, 1, 2, 100, 1000, 3000, 3000, 40000)) + r.randrange(50)
    kind = r.randrange(5)
    if kind == 0:
        return r.randbytes(n)
    if kind == 1:
        return bytes([r.randrange(256)]) * (n * r.choice((1, 1, 3)))
    if kind == 2:
        lines = (f'weather,station={r.randrange(9)} t={r.random()*40:.{r.randrange(1, 6)}f},n={r.randrange(99)}i {1700000000000000000 + i * 10**9}\n'
                 for i in range(n // 50 + 1))
        return ''.join(lines).encode()
    if kind == 3:
        # Codes of all lengths up to 15 bits.
        return bytes(min(255, int(r.expovariate(0.3))) for _ in range(n))
    piece = r.randbytes(r.choice((1, 2, 3, 7, 300, 300, 32768)))
    return (piece * (n // len(piece) + 2))[:n + len(piece)]

def deflated(data):
    c = zlib.compressobj(r.randrange(10), zlib.DEFLATED, -15, r.randrange(1, 10), r.randrange(5))
    raw = b''
    while data and r.random() < 0.5:
        n = r.randrange(len(data) + 1)
        raw += c.compress(data[:n]) + c.flush(r.choice((1, 2, 3, 5)))
        data = data[n:]
    return raw + c.compress(data) + c.flush()

def lengths(count, holes):
    # Codes that are complete, but for a length changed now and then.
    leaves = [0]
    used = r.choice((1, 2, 2, 3, 10, 30, 200, count))
    while len(leaves) < min(used, count):
        n = r.randrange(len(leaves)) if r.random() < 0.7 else len(leaves) - 1
        if leaves[n] < 15:
            leaves += [leaves.pop(n) + 1] * 2
    if leaves == [0]:
        leaves = [1]
    all = leaves + [0] * (count - len(leaves))
    r.shuffle(all)
    if r.random() < holes:
        all[r.randrange(count)] = r.randrange(16)
    return all

def made():
    # Dynamic blocks of random codes and random symbols, as far as zlib takes them.
    bits = []
    def put(value, count):
        bits.extend(value >> n & 1 for n in range(count))
    literals, distances = r.choice((257, 270, 286, r.randrange(257, 289))), r.choice((1, 2, 30, r.randrange(1, 33)))
    put(4 | r.randrange(2), 3); put(literals - 257, 5); put(distances - 1, 5); put(15, 4)
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    repeats = r.random() < 0.15
    # Either the sixteen lengths in four bits, or these and the repeats in five and fewer.
    of = {n: 4 for n in range(16)}
    if repeats:
        of.update({16: 5, 17: 5, 18: 5, 15: 5, 14: 5, 13: 5})
    for n in order:
        put(of.get(n, 0), 3)
    codes, code = {}, 0
    for length in range(1, 8):
        code <<= 1
        for n in sorted(of):
            if of[n] == length:
                codes[n] = format(code, f'0{length}b'); code += 1
    if repeats:
        for _ in range(r.randrange(1, 320)):
            bits.extend(map(int, codes[r.choice(list(codes))]))
    else:
        both = lengths(literals, 0.1)
        if not both[256] and r.random() < 0.95:
            n = r.choice([n for n in range(literals) if both[n]])
            both[256], both[n] = both[n], 0
        both += lengths(distances, 0.1)
        for n in both:
            bits.extend(map(int, codes[n]))
    # A text before it gives the distances something to reach.
    bits.extend(r.randrange(2) for _ in range(r.choice((100, 3000))))
    head = r.randbytes(r.choice((0, 1, 1000, 1000, 1000, 40000)))
    start = b''
    while head:
        n = min(len(head), 65535)
        start += b'\0' + struct.pack('<HH', n, n ^ 65535) + head[:n]
        head = head[n:]
    raw = start + bytes(sum(bit << n for n, bit in enumerate(bits[at:at + 8])) for at in range(0, len(bits), 8))
    # It ends where zlib sees the end; where it sees none, in a block that is stored.
    for end in (b'', b'\1\0\0\xff\xff'):
        d = zlib.decompressobj(-15)
        try:
            got = d.decompress(raw + end)
        except zlib.error:
            continue
        if d.eof:
            return (raw + end)[:len(raw + end) - len(d.unused_data)], got
    return raw, b''

def member():
    if r.random() < 0.3:
        raw, data = made()
    else:
        data = text()
        raw = deflated(data)
    flags = r.randrange(32) if r.random() < 0.5 else 0
    head = bytes((31, 139, 8, flags)) + r.randbytes(6)
    if flags & 4:
        n = r.choice((0, 1, 300))
        head += struct.pack('<H', n) + r.randbytes(n)
    for flag in (8, 16):
        if flags & flag:
            head += r.randbytes(r.randrange(20)).replace(b'\0', b'x') + b'\0'
    if flags & 2:
        head += struct.pack('<H', zlib.crc32(head) & 65535)
    return head + raw + struct.pack('<II', zlib.crc32(data), len(data))

def damage(stream):
    stream = bytearray(stream)
    for _ in range(r.choice((1, 1, 3))):
        at = r.randrange(min(len(stream), r.choice((4, 60, len(stream)))) + 1)
        if r.random() < 0.1:
            at = max(0, len(stream) - r.randrange(1, 9))
        kind = r.randrange(5)
        if kind == 0:
            del stream[at:]
        elif kind == 1:
            stream += r.choice((r.randbytes(1 + at % 40), b'\0', b'\x1f', b'\x1f\x8b\x08'))
        elif kind == 2:
            del stream[at:at + r.randrange(4)]
        elif at < len(stream):
            stream[at] ^= 1 << r.randrange(8)
    return bytes(stream)

# What the reason begins with here. Where zlib waits for more, an error that is plain already may be told.
REASONS = {
    'incorrect header check': 'this is no gzip',
    'unknown compression method': 'the method is unknown',
    'unknown header flags set': 'the flags are unknown',
    'header crc mismatch': "the header's checksum differs",
    'invalid block type': 'the kind of a block is unknown',
    'invalid stored block lengths': 'the length of a stored block',
    'too many length or distance symbols': 'a block has too many symbols',
    'invalid code lengths set': "a block's code",
    'invalid bit length repeat': 'a block',
    # Also of a block without any code for its lengths, which zlib finds out later.
    'invalid code -- missing end-of-block': 'a block',
    'invalid literal/lengths set': "a block's code",
    'invalid distances set': "a block's code",
    'invalid literal/length code': 'a symbol is unknown',
    'invalid distance code': 'a distance is unknown',
    'invalid distance too far back': 'a distance goes back before the beginning',
    'incorrect data check': 'the checksum differs',
    'incorrect length check': 'the length differs',
}

def said(stream):
    text = b''
    while True:
        d = zlib.decompressobj(wbits=31)
        try:
            text += d.decompress(stream)
        except zlib.error as error:
            return False, b'gzip: ' + REASONS[str(error).split(': ')[1]].encode()
        if not d.eof:
            return False, b''
        stream = d.unused_data
        if not stream:
            return True, text

for _ in range(int(sys.argv[2])):
    stream = b''.join(member() for _ in range(r.choice((1, 1, 1, 2, 5))))
    if r.random() < 0.5:
        stream = damage(stream)
    is_whole, answer = said(stream)
    out.write(struct.pack('<I', len(stream)) + stream + struct.pack('<?I', is_whole, len(answer)) + answer)
"#;
const STREAMS_COUNT: usize = 800;

/// In pieces of random sizes, into room of random sizes.
fn inflated(stream: &[u8], random: &mut fastrand::Rng) -> Result<Vec<u8>, &'static str> {
    let mut inflate = Inflate::new();
    let mut text = Vec::new();
    let (room, pieces) = (random.u32(0..17), random.u32(0..20));
    let (mut out, pieces) = (vec![0; 1 << room], 1 << pieces);
    let mut rest = stream;
    while !rest.is_empty() {
        let mut piece = &rest[..random.usize(1..=pieces).min(rest.len())];
        rest = &rest[piece.len()..];
        loop {
            let room = random.usize(1..=out.len());
            let (used, written) = inflate.inflate(piece, &mut out[..room])?;
            text.extend_from_slice(&out[..written]);
            piece = &piece[used..];
            if written < room {
                assert!(piece.is_empty(), "it waits for input that is there");
                break;
            }
        }
    }
    inflate.is_whole().then_some(text).ok_or("cut")
}

#[test]
fn every_stream_is_read_as_zlib_reads_it() {
    let seed = stop::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut python = python3()
        .args(["-c", STREAMS, &seed.to_string(), &STREAMS_COUNT.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run python3");
    let mut from = BufReader::new(python.stdout.take().unwrap());
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).expect("what python3 writes");
        bytes
    };
    let mut accepted = 0;
    for n in 0..STREAMS_COUNT {
        let count = u32::from_le_bytes(read(4).try_into().unwrap()) as usize;
        let stream = read(count);
        let is_whole = read(1) == [1];
        let length = u32::from_le_bytes(read(4).try_into().unwrap()) as usize;
        let expected = read(length);
        let found = inflated(&stream, &mut random);
        let is_same = match &found {
            Ok(text) => is_whole && *text == expected,
            Err(reason) => !is_whole && reason.as_bytes().starts_with(&expected),
        };
        assert!(
            is_same,
            "stream {n} of {count} bytes: zlib says {is_whole} {length} {}, here is {:?}: {}",
            String::from_utf8_lossy(&expected[..length.min(60)]),
            found.map(|text| text.len()),
            stream[..count.min(2000)].escape_ascii()
        );
        accepted += usize::from(is_whole);
    }
    assert!(python.wait().unwrap().success());
    // Streams that are all refused, or none, would compare nothing.
    let few = STREAMS_COUNT / 5;
    assert!((few..STREAMS_COUNT - few).contains(&accepted), "{accepted}");
}

#[test]
fn a_stream_that_was_refused_stays_refused() {
    let member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    let (mut inflate, mut out) = (Inflate::new(), [0; 10]);
    assert_eq!(inflate.inflate(member, &mut out), Ok((member.len(), 0)));
    let refused = Err("gzip: this is no gzip");
    assert_eq!(inflate.inflate(b"m v=1", &mut out), refused);
    assert_eq!(inflate.inflate(member, &mut out), refused);
}
