//! The JSON grammar (RFC 8259) over one line, without building values.
//!
//! Hand-written because the shape of a record is fixed and a line should cost one pass: a general parser allocates the
//! strings and cannot say where a raw value stood. `tests/properties.rs` holds it against serde_json.
//!
//! No recursion: nesting is a stack of bits, so its depth is bounded by the line, not by the thread's stack.

/// The line is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// A `\u` escape names half of a surrogate pair: JSON, but no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoneSurrogate;

/// A string's bytes between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted<'l> {
    pub raw: &'l [u8],
    pub escaped: bool,
}

/// Open arrays and objects, a bit each: one for an object.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    words: Vec<u64>,
    depth: usize,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.words.len() {
            self.words.push(0);
        }
        self.words[word] = self.words[word] & !(1 << bit) | u64::from(is_object) << bit;
        self.depth += 1;
    }

    /// Whether the innermost is an object; `None` at the top.
    fn innermost(&self) -> Option<bool> {
        let at = self.depth.checked_sub(1)?;
        Some(self.words[at / 64] >> (at % 64) & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }
}

/// A place in a line of UTF-8.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'l> {
    line: &'l [u8],
    at: usize,
}

impl<'l> Scanner<'l> {
    pub fn new(line: &'l [u8]) -> Scanner<'l> {
        Scanner { line, at: 0 }
    }

    /// The next byte that is no white space, not taken.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.line.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    /// Takes `expected` if it is next.
    pub fn take(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, expected: u8) -> Result<(), NotJson> {
        if self.take(expected) { Ok(()) } else { Err(NotJson) }
    }

    /// Takes a string.
    pub fn string(&mut self) -> Result<Quoted<'l>, NotJson> {
        self.expect(b'"')?;
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.line[self.at..]);
            match self.line.get(self.at) {
                Some(b'"') => {
                    let raw = &self.line[from..self.at];
                    self.at += 1;
                    return Ok(Quoted { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 2;
        match self.line.get(self.at - 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.line.get(self.at..self.at + 4).ok_or(NotJson)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(NotJson) }
            }
            _ => Err(NotJson),
        }
    }

    /// Takes any value and gives its bytes as sent.
    pub fn value(&mut self, nesting: &mut Nesting) -> Result<&'l [u8], NotJson> {
        self.peek();
        let from = self.at;
        nesting.depth = 0;
        loop {
            if self.begin_value(nesting)? && self.end_values(nesting)? {
                return Ok(&self.line[from..self.at]);
            }
        }
    }

    /// Takes a scalar, an empty array or object, or the beginning of a filled one. True when a value is complete.
    fn begin_value(&mut self, nesting: &mut Nesting) -> Result<bool, NotJson> {
        match self.peek().ok_or(NotJson)? {
            b'"' => self.string().map(|_| true),
            b'{' => {
                self.at += 1;
                if self.take(b'}') {
                    return Ok(true);
                }
                self.name()?;
                nesting.push(true);
                Ok(false)
            }
            b'[' => {
                self.at += 1;
                if self.take(b']') {
                    return Ok(true);
                }
                nesting.push(false);
                Ok(false)
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number().map(|_| true),
        }
    }

    /// Behind a complete value: closes what ends here. True when nothing is open any more.
    fn end_values(&mut self, nesting: &mut Nesting) -> Result<bool, NotJson> {
        while let Some(is_object) = nesting.innermost() {
            if self.take(b',') {
                if is_object {
                    self.name()?;
                }
                return Ok(false);
            }
            self.expect(if is_object { b'}' } else { b']' })?;
            nesting.pop();
        }
        Ok(true)
    }

    fn name(&mut self) -> Result<(), NotJson> {
        self.string()?;
        self.expect(b':')
    }

    fn literal(&mut self, word: &[u8]) -> Result<bool, NotJson> {
        if !self.line[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(true)
    }

    /// Takes `null` if it is next. Another value that begins like it is left to [`Scanner::value`] to refuse.
    pub fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.literal(b"null").is_ok()
    }

    /// Takes a number and gives its bytes.
    fn number(&mut self) -> Result<&'l [u8], NotJson> {
        let from = self.at;
        self.at += usize::from(self.line.get(self.at) == Some(&b'-'));
        match self.line.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(NotJson),
        }
        if self.line.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.line.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.line.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.line[from..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let count = self.line[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(NotJson) } else { Ok(()) }
    }

    /// Nothing but white space is left.
    pub fn end(&mut self) -> Result<(), NotJson> {
        if self.peek().is_none() { Ok(()) } else { Err(NotJson) }
    }
}

/// Length of the run of bytes that stand for themselves in a string: no quote, no backslash, no control character.
///
/// Eight bytes at a time: for a byte `b` of `x`, `(x - 1) & !x` has its high bit set first where `b` is zero, and
/// `(x - 0x20) & !x` where `b < 0x20`. Borrows only spoil bytes above the first hit, which is all we look at.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if hits & HIGHS != 0 {
            return at + (hits & HIGHS).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    at + chunks.remainder().iter().position(special).unwrap_or(chunks.remainder().len())
}

/// Appends what the bytes between the quotes of a scanned string mean.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), LoneSurrogate> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (escape, behind) = rest[at + 1..].split_first().unwrap_or((&b'\\', &[]));
        rest = behind;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, behind) = code_point(rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = behind;
            }
            itself => out.push(*itself),
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The character that begins with these four hexadecimal digits, and what stands behind it.
fn code_point(digits: &[u8]) -> Result<(char, &[u8]), LoneSurrogate> {
    let (first, rest) = hex4(digits).ok_or(LoneSurrogate)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, rest));
    }
    let second = rest.strip_prefix(b"\\u").and_then(hex4);
    match (first, second) {
        (0xd800..=0xdbff, Some((second @ 0xdc00..=0xdfff, rest))) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(code).map(|character| (character, rest)).ok_or(LoneSurrogate)
        }
        _ => Err(LoneSurrogate),
    }
}

fn hex4(digits: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = digits.split_at_checked(4)?;
    let value = digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | (*digit as char).to_digit(16)?))?;
    Some((value, rest))
}

/// A number that is written as an integer and fits; `None` for any other JSON value.
pub(super) fn integer(raw: &[u8]) -> Option<i64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}
