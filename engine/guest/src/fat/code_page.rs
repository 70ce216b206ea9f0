//! Code pages: which characters the bytes of 8.3 names are. Which one a volume was written with is nowhere on it.
//!
//! Those of one byte that MS-DOS had come from `tables`; those of Windows and of East Asia from the crate `encoding_rs`.

mod tables;

use encoding_rs::Encoding;
use std::fmt;
use std::str::FromStr;

/// A code page: the encoding of 8.3 names and labels of FAT.
#[derive(Clone, Copy)]
pub struct CodePage {
    number: u16,
    letters: Letters,
}

#[derive(Clone, Copy)]
enum Letters {
    /// Of the bytes 80 to FF.
    Table(&'static str),
    Encoding(&'static Encoding),
}

/// Those that `encoding_rs` has.
const ENCODINGS: &[(u16, &Encoding)] = &[
    (874, encoding_rs::WINDOWS_874),
    (932, encoding_rs::SHIFT_JIS),
    (936, encoding_rs::GBK),
    (949, encoding_rs::EUC_KR),
    (950, encoding_rs::BIG5),
    (1250, encoding_rs::WINDOWS_1250),
    (1251, encoding_rs::WINDOWS_1251),
    (1252, encoding_rs::WINDOWS_1252),
    (1253, encoding_rs::WINDOWS_1253),
    (1254, encoding_rs::WINDOWS_1254),
    (1255, encoding_rs::WINDOWS_1255),
    (1256, encoding_rs::WINDOWS_1256),
    (1257, encoding_rs::WINDOWS_1257),
    (1258, encoding_rs::WINDOWS_1258),
];

impl CodePage {
    /// The code page of that number, if it is one of [`numbers`](CodePage::numbers).
    pub fn new(number: u16) -> Option<CodePage> {
        let table = tables::TABLES.iter().find(|(of, _)| *of == number);
        let encoding = ENCODINGS.iter().find(|(of, _)| *of == number);
        let letters = match (table, encoding) {
            (Some((_, letters)), _) => Letters::Table(letters),
            (None, Some((_, encoding))) => Letters::Encoding(encoding),
            (None, None) => return None,
        };
        Some(CodePage { number, letters })
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.number
    }

    /// All that are known.
    pub fn numbers() -> impl Iterator<Item = u16> {
        let tables = tables::TABLES.iter().map(|(number, _)| *number);
        tables.chain(ENCODINGS.iter().map(|(number, _)| *number))
    }

    /// `bytes` in UTF-16. A byte that has no character becomes one of the private characters U+F080 to U+F0FF.
    pub fn decode(self, bytes: &[u8]) -> Vec<u16> {
        if let Letters::Encoding(encoding) = self.letters
            && let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes)
        {
            return text.encode_utf16().collect();
        }
        bytes.iter().map(|&byte| self.unit(byte)).collect()
    }

    fn unit(self, byte: u8) -> u16 {
        let Some(index) = byte.checked_sub(0x80) else {
            return u16::from(byte);
        };
        let letter = match self.letters {
            Letters::Table(letters) => letters.chars().nth(usize::from(index)),
            Letters::Encoding(_) => None,
        };
        letter
            .filter(|&letter| letter != char::REPLACEMENT_CHARACTER)
            .and_then(|letter| u16::try_from(u32::from(letter)).ok())
            .unwrap_or(0xF000 | u16::from(byte))
    }
}

impl Default for CodePage {
    /// 437, that of MS-DOS in the United States.
    fn default() -> CodePage {
        CodePage::new(437).unwrap_or(CodePage {
            number: 1252,
            letters: Letters::Encoding(encoding_rs::WINDOWS_1252),
        })
    }
}

impl PartialEq for CodePage {
    fn eq(&self, other: &CodePage) -> bool {
        self.number == other.number
    }
}

impl Eq for CodePage {}

impl fmt::Debug for CodePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodePage({})", self.number)
    }
}

impl fmt::Display for CodePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl FromStr for CodePage {
    type Err = String;

    /// A number, such as `850`; `cp850` will do.
    fn from_str(text: &str) -> Result<CodePage, String> {
        let digits = text.strip_prefix("cp").unwrap_or(text);
        let number = digits.parse().ok();
        number.and_then(CodePage::new).ok_or_else(|| {
            let known: Vec<String> = CodePage::numbers().map(|page| page.to_string()).collect();
            format!("one of {} is needed", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: u16, bytes: &[u8]) -> String {
        String::from_utf16(&CodePage::new(page).unwrap().decode(bytes)).unwrap()
    }

    #[test]
    fn bytes_are_the_letters_of_their_code_page() {
        assert_eq!(text(437, b"A\x8E\xE1\xFB"), "AÄß√");
        assert_eq!(text(850, b"\x9D\xB5"), "ØÁ");
        assert_eq!(text(852, b"\x9D\xFC"), "ŁŘ");
        assert_eq!(text(866, b"\x8F\xA0\xE0\xF0"), "ПарЁ");
        assert_eq!(text(1252, b"\x80\xC4"), "€Ä");
        assert_eq!(text(932, b"\x93\xFA\x96\x7B\xB1"), "日本ｱ");
        // What cannot be is kept apart, byte for byte.
        assert_eq!(text(932, b"A\x81"), "A\u{F081}");
        assert_eq!(text(857, b"\xD5"), "\u{F0D5}");
        assert_eq!("cp866".parse::<CodePage>().unwrap().number(), 866);
        assert!("65001".parse::<CodePage>().unwrap_err().contains("437"));
        assert_eq!(CodePage::default().number(), 437);
    }

    #[test]
    fn every_table_has_128_letters() {
        for (number, letters) in tables::TABLES {
            assert_eq!(letters.chars().count(), 128, "{number}");
        }
    }

    #[test]
    fn tables_are_those_of_the_system() {
        let high: Vec<u8> = (0x80..=0xFF).collect();
        for (page, _) in tables::TABLES {
            let Some(expected) = iconv(*page) else {
                println!("SKIPPED: iconv does not know code page {page}");
                continue;
            };
            for (byte, expected) in high.iter().zip(expected) {
                let ours = CodePage::new(*page).unwrap().decode(&[*byte]);
                let expected = expected.unwrap_or(0xF000 | u16::from(*byte));
                assert_eq!(ours, [expected], "{page} {byte:#x}");
            }
        }
    }

    /// What `iconv` makes of each byte from 80 on.
    fn iconv(page: u16) -> Option<Vec<Option<u16>>> {
        use std::io::Write;
        let run = |bytes: &[u8]| {
            let mut child = std::process::Command::new("iconv")
                .args(["-f", &format!("CP{page}"), "-t", "UTF-16LE"])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .ok()?;
            child.stdin.take()?.write_all(bytes).ok()?;
            let output = child.wait_with_output().ok()?;
            output.status.success().then_some(output.stdout)
        };
        run(b"A")?;
        let unit = |byte: u8| match run(&[byte])?[..] {
            [low, high] => Some(u16::from_le_bytes([low, high])),
            _ => None,
        };
        Some((0x80..=0xFF).map(unit).collect())
    }
}
