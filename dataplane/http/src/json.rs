//! JSON strings written into a send buffer (RFC 8259 section 7).

use bytes::BytesMut;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as a JSON string, quotes included.
pub fn string(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(b"\"");
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\"");
}

/// Appends bytes as a JSON string, what is not UTF-8 in them replaced by U+FFFD.
pub fn lossy(out: &mut BytesMut, bytes: &[u8]) {
    string(out, &String::from_utf8_lossy(bytes));
}

/// Appends a number in decimal.
pub fn integer(out: &mut BytesMut, value: i64) {
    crate::response::put_i64(out, value);
}

/// Appends `{"errmsg":…,"code":…}`, the body of every error of every listener.
pub fn error(out: &mut BytesMut, errmsg: &str, code: &str) {
    out.extend_from_slice(b"{\"errmsg\":");
    string(out, errmsg);
    out.extend_from_slice(b",\"code\":");
    string(out, code);
    out.extend_from_slice(b"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_only_where_json_demands_it() {
        let check = |text: &str, expected: &str| {
            let mut out = BytesMut::new();
            string(&mut out, text);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        };
        check("", r#""""#);
        check("plain / text é 漢 \u{2028}", "\"plain / text é 漢 \u{2028}\"");
        check("\"\\\n\r\t", r#""\"\\\n\r\t""#);
        check("\0\u{1f}\u{7f}", "\"\\u0000\\u001f\u{7f}\"");
        check("a\"b", r#""a\"b""#);
    }

    #[test]
    fn errors_have_a_sentence_and_a_code() {
        let mut out = BytesMut::new();
        error(&mut out, "no topic \"x\"", "no_such_topic");
        assert_eq!(&out[..], br#"{"errmsg":"no topic \"x\"","code":"no_such_topic"}"#);
        out.clear();
        lossy(&mut out, b"a\xffb");
        assert_eq!(std::str::from_utf8(&out).unwrap(), "\"a\u{fffd}b\"");
    }
}
