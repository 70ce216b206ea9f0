//! Text of images and guests on the screen.

/// The text with `?` for what could play with the screen or pass for lines of ours: control characters, ends of lines, and what turns the direction of writing.
pub fn tame(text: &str) -> String {
    let is_wild = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let tamed = |c: char| if is_wild(c) { '?' } else { c };
    text.chars().map(tamed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_plays_with_the_screen() {
        assert_eq!(tame("a\x1b[31mb\nc\u{9b}d\u{202e}e"), "a?[31mb?c?d?e");
        assert_eq!(tame("Grüße, שלום"), "Grüße, שלום");
    }
}
