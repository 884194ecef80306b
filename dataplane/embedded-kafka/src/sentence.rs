//! What a peer said, before it is said again: cut to a length that every answer can carry.

/// The text, or as many of its characters as fit.
pub fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        for (text, bytes_max, cut) in [("abc", 3, "abc"), ("abc", 2, "ab"), ("a\u{e9}z", 2, "a"), ("\u{e9}", 1, "")] {
            assert_eq!(bounded(text.to_owned(), bytes_max), cut);
        }
    }
}
