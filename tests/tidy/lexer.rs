//! Rust sources as tokens: enough to see names, paths and braces without being fooled by comments and strings.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword; `r#` is left away.
    Word,
    /// A string, character or number.
    Literal,
    /// `'a`
    Lifetime,
    /// `::`, or a single character.
    Mark,
}

/// One token.
#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// From 1.
    pub line: usize,
}

impl Token {
    /// Whether this is the given name, keyword or mark.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == text
    }
}

struct Lexer<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

/// All tokens of `text`. A source that does not parse gives some tokens, never a panic.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        bytes: text.as_bytes(),
        text,
        at: 0,
        line: 1,
        tokens: Vec::new(),
    };
    while lexer.at < lexer.bytes.len() {
        lexer.step();
    }
    lexer.tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts(&self, with: &str) -> bool {
        self.bytes[self.at..].starts_with(with.as_bytes())
    }

    fn step(&mut self) {
        match self.peek(0) {
            byte if byte.is_ascii_whitespace() => self.skip(1),
            b'/' if self.starts("//") => {
                while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                    self.at += 1;
                }
            }
            b'/' if self.starts("/*") => self.block_comment(),
            b'"' => self.string(0),
            b'\'' => self.quote(),
            byte if byte.is_ascii_digit() => self.number(),
            byte if is_word(byte) => self.word(),
            b':' if self.starts("::") => self.push(Kind::Mark, 2),
            _ => self.push(Kind::Mark, 1),
        }
    }

    /// Steps over `count` bytes and counts their lines.
    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.bytes.len());
        self.line += self.bytes[self.at..end]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        self.at = end;
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let end = (self.at + length).min(self.bytes.len());
        let text = self.text.get(self.at..end).unwrap_or_default().to_string();
        self.tokens.push(Token {
            kind,
            text,
            line: self.line,
        });
        self.skip(end - self.at);
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.bytes.len() {
            if self.starts("/*") {
                depth += 1;
                self.skip(2);
            } else if self.starts("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.skip(1);
            }
        }
    }

    /// A string whose quote stands `prefix` bytes ahead.
    fn string(&mut self, prefix: usize) {
        let mut length = prefix + 1;
        loop {
            match self.peek(length) {
                b'\\' => length += 2,
                b'"' => break,
                _ if self.at + length >= self.bytes.len() => break,
                _ => length += 1,
            }
        }
        self.push(Kind::Literal, length + 1);
    }

    /// `r"..."`, `br#"..."#`: the first `#` or quote stands `prefix` bytes ahead.
    fn raw_string(&mut self, prefix: usize) {
        let mut hashes = 0;
        while self.peek(prefix + hashes) == b'#' {
            hashes += 1;
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix + hashes + 1;
        let rest = self.text.get(self.at + body..).unwrap_or_default();
        let length = rest
            .find(&end)
            .map_or(rest.len(), |found| found + end.len());
        self.push(Kind::Literal, body + length);
    }

    /// A character or a lifetime.
    fn quote(&mut self) {
        if self.peek(1) == b'\\' {
            let mut length = 3;
            while self.peek(length) != b'\'' && self.at + length < self.bytes.len() {
                length += 1;
            }
            return self.push(Kind::Literal, length + 1);
        }
        let first = self.text[self.at + 1..]
            .chars()
            .next()
            .map_or(1, char::len_utf8);
        if self.peek(1 + first) == b'\'' {
            return self.push(Kind::Literal, first + 2);
        }
        let mut length = 1;
        while is_word(self.peek(length)) {
            length += 1;
        }
        self.push(Kind::Lifetime, length);
    }

    fn number(&mut self) {
        let mut length = 1;
        loop {
            let next = self.peek(length);
            // `1.5` is one number, `0..5` and `1.max(2)` are not.
            let point = next == b'.' && self.peek(length + 1).is_ascii_digit();
            if !point && !is_word(next) {
                break;
            }
            length += 1;
        }
        self.push(Kind::Literal, length);
    }

    fn word(&mut self) {
        let mut length = 1;
        while is_word(self.peek(length)) {
            length += 1;
        }
        let word = self.text.get(self.at..self.at + length).unwrap_or_default();
        let next = self.peek(length);
        match (word, next) {
            ("r" | "br" | "cr", b'"') => self.raw_string(length),
            ("r" | "br" | "cr", b'#') if matches!(self.peek(length + 1), b'"' | b'#') => {
                self.raw_string(length)
            }
            ("b" | "c", b'"') => self.string(length),
            ("b", b'\'') => {
                self.at += 1;
                self.quote();
            }
            ("r", b'#') => {
                self.at += 2;
                self.word();
            }
            _ => self.push(Kind::Word, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_left_away_and_strings_kept_whole() {
        let source = "a /* x /* y */ z */ \"// no \\\" comment\" // end {\nb";
        assert_eq!(texts(source), ["a", "\"// no \\\" comment\"", "b"]);
        assert_eq!(tokens(source).last().unwrap().line, 2);
    }

    #[test]
    fn raw_strings_characters_and_lifetimes() {
        assert_eq!(texts(r##"r#"a"b"# x"##), [r##"r#"a"b"#"##, "x"]);
        assert_eq!(
            texts("'{' b'}' '\\'' '\\u{7d}' &'a str"),
            ["'{'", "'}'", "'\\''", "'\\u{7d}'", "&", "'a", "str"]
        );
        assert_eq!(texts("b\"CAIRN\" r#type"), ["b\"CAIRN\"", "type"]);
    }

    #[test]
    fn ranges_are_not_numbers_with_points() {
        assert_eq!(
            texts("0..5 1.5 1.max"),
            ["0", ".", ".", "5", "1.5", "1", ".", "max"]
        );
    }

    #[test]
    fn lines_count_through_long_strings() {
        let all = tokens("\"a\nb\"\nc");
        assert_eq!((all[0].line, all[1].line), (1, 3));
    }
}
