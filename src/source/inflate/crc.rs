//! The checksum of gzip, four bytes a step. Tables by half a byte are half a KiB; those by a byte would be 4 KiB, and
//! hardly faster.

static CRC: [[u32; 16]; 8] = crc_tables();

/// By half a byte of a word, what that half makes of the sum behind the word.
const fn crc_tables() -> [[u32; 16]; 8] {
    let mut tables = [[0; 16]; 8];
    let mut n = 0;
    while n < 8 * 16 {
        let (mut sum, mut bit) = ((n as u32 % 16) << (n / 16 * 4), 0);
        while bit < 32 {
            sum = (sum >> 1) ^ (0xedb8_8320 * (sum & 1));
            bit += 1;
        }
        tables[n / 16][n % 16] = sum;
        n += 1;
    }
    tables
}

/// The sum of some bytes and, behind them, these.
pub fn crc32(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = !sum;
    let (words, rest) = bytes.as_chunks();
    for word in words {
        let word = sum ^ u32::from_le_bytes(*word);
        let of = |half: usize| CRC[half][(word >> (half * 4)) as usize % 16];
        sum = of(0) ^ of(1) ^ of(2) ^ of(3) ^ of(4) ^ of(5) ^ of(6) ^ of(7);
    }
    for byte in rest {
        let byte = usize::from(sum as u8 ^ byte);
        sum = (sum >> 8) ^ CRC[6][byte % 16] ^ CRC[7][byte / 16];
    }
    !sum
}
