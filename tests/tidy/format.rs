//! `engine/FORMAT.md` agrees with the code: it names every magic number, and the table under its heading "Constants"
//! (`| name | value | where |`) has the values of the constants in the files it names.

use super::files::{File, Finding, Repository};
use super::lexer::{Kind, Token};
use super::source::Source;

const FORMAT: &str = "engine/FORMAT.md";
const STORE: &str = "engine/store/src/";

pub fn check(repository: &Repository) -> Vec<Finding> {
    let Some(format) = repository.get(FORMAT) else {
        return vec![Finding::new(
            FORMAT,
            1,
            "missing: every byte of the store is described there",
        )];
    };
    let mut found = magic_numbers(repository, format);
    found.extend(constants(repository, format));
    found
}

fn magic_numbers(repository: &Repository, format: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, source) in repository
        .sources()
        .filter(|(file, _)| file.path.starts_with(STORE))
    {
        for (token, in_test) in source.tokens.iter().zip(&source.in_test) {
            let magic = byte_string(token).filter(|text| text.starts_with("CAIRN") && !in_test);
            if let Some(magic) = magic.filter(|magic| !format.text().contains(magic)) {
                let reason = format!("{FORMAT} does not name the magic number `{magic}`");
                found.push(Finding::new(&file.path, token.line, reason));
            }
        }
    }
    found
}

fn byte_string(token: &Token) -> Option<&str> {
    let text = token.text.strip_prefix("b\"")?.strip_suffix('"')?;
    (token.kind == Kind::Literal).then_some(text)
}

fn constants(repository: &Repository, format: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut rows = 0;
    let lines = (1..).zip(format.text().lines());
    let numbering = |c: char| c == '#' || c == '.' || c == ' ' || c.is_ascii_digit();
    let title =
        |line: &str| line.starts_with('#') && line.trim_start_matches(numbering) == "Constants";
    let table = lines
        .skip_while(|(_, line)| !title(line))
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('#'));
    for (at, line) in table {
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.replace('`', "").trim().to_string())
            .collect();
        let [_, name, value, place, ..] = cells.as_slice() else {
            continue;
        };
        if name == "name" || name.starts_with('-') || name.starts_with(':') {
            continue;
        }
        rows += 1;
        if let Err(reason) = compare(repository, name, value, place) {
            found.push(Finding::new(FORMAT, at, reason));
        }
    }
    if rows == 0 {
        found.push(Finding::new(
            FORMAT,
            1,
            "a table under the heading \"Constants\" is missing",
        ));
    }
    found
}

fn compare(repository: &Repository, name: &str, stated: &str, place: &str) -> Result<(), String> {
    let path = [
        place.to_string(),
        format!("engine/{place}"),
        format!("{STORE}{place}"),
    ]
    .into_iter()
    .find(|path| repository.get(path).is_some())
    .ok_or_else(|| format!("there is no file `{place}`"))?;
    let source = repository.get(&path).and_then(|file| file.source.as_ref());
    let bodies = source
        .map(|source| bodies(source, name))
        .unwrap_or_default();
    if bodies.is_empty() {
        return Err(format!("{path} has no constant `{name}`"));
    }
    let mut real = Vec::new();
    for body in &bodies {
        if body
            .iter()
            .filter_map(byte_string)
            .any(|magic| magic == stated.trim_matches('"'))
        {
            return Ok(());
        }
        let magic = body.iter().find_map(byte_string).map(String::from);
        let value = magic.or_else(|| {
            Sum::new(repository, &path, body)
                .value()
                .map(|value| value.to_string())
        });
        real.push(value.ok_or_else(|| format!("cannot work out the constant `{name}` of {path}"))?);
    }
    let stated_tokens = Source::parse(&stated.replace(',', "")).tokens;
    let number = Sum::new(repository, &path, &stated_tokens)
        .value()
        .map(|value| value.to_string());
    match number {
        Some(number) if real.contains(&number) => Ok(()),
        _ => Err(format!(
            "`{name}` is {} in {path}, not {stated}",
            real.join(" or ")
        )),
    }
}

/// The expressions of every `const name: type = expression;` outside tests.
fn bodies(source: &Source, name: &str) -> Vec<Vec<Token>> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(2) {
        let named = tokens[at].is("const") && tokens[at + 1].is(name) && !source.in_test[at];
        if !named {
            continue;
        }
        let rest = &tokens[at..];
        if let Some(equals) = rest.iter().position(|token| token.is("="))
            && let Some(body) = rest.get(equals + 1..)
        {
            found.push(
                body.iter()
                    .take_while(|token| !token.is(";"))
                    .cloned()
                    .collect(),
            );
        }
    }
    found
}

/// A constant expression of whole numbers: `+ - * <<`, brackets, names of other constants, KiB, MiB, GiB.
struct Sum<'a> {
    repository: &'a Repository,
    path: &'a str,
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Sum<'a> {
    fn new(repository: &'a Repository, path: &'a str, tokens: &'a [Token]) -> Sum<'a> {
        Sum {
            repository,
            path,
            tokens,
            at: 0,
            depth: 0,
        }
    }

    fn value(mut self) -> Option<u128> {
        let value = self.shift()?;
        (self.at == self.tokens.len()).then_some(value)
    }

    fn take(&mut self, text: &str) -> bool {
        let there = self.tokens.get(self.at).is_some_and(|token| token.is(text));
        self.at += usize::from(there);
        there
    }

    fn shift(&mut self) -> Option<u128> {
        let mut value = self.sum()?;
        while self.take("<") {
            if !self.take("<") {
                return None;
            }
            value = value.checked_shl(u32::try_from(self.sum()?).ok()?)?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<u128> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.checked_add(self.product()?)?;
            } else if self.take("-") {
                value = value.checked_sub(self.product()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<u128> {
        let mut value = self.atom()?;
        while self.take("*") {
            value = value.checked_mul(self.atom()?)?;
        }
        for (unit, size) in [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("bytes", 1),
        ] {
            if self.take(unit) {
                value = value.checked_mul(size)?;
            }
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<u128> {
        if self.take("(") {
            let value = self.shift()?;
            return self.take(")").then_some(value);
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token.kind {
            Kind::Literal => number(&token.text),
            Kind::Word => {
                let mut name = token.text.as_str();
                while self.take("::") {
                    name = &self.tokens.get(self.at)?.text;
                    self.at += 1;
                }
                self.named(name)
            }
            _ => None,
        }
    }

    /// The constant of that name in the same file, else the only one in the store.
    fn named(&self, name: &'a str) -> Option<u128> {
        if self.depth > 8 {
            return None;
        }
        let all = |file: &'a File| {
            let found = file.source.iter().flat_map(|source| bodies(source, name));
            found.map(|body| (file.path.as_str(), body))
        };
        let here = self.repository.get(self.path);
        let mut places: Vec<(&str, Vec<Token>)> = here.into_iter().flat_map(all).collect();
        if places.is_empty() {
            let store = self.repository.files.iter();
            let store = store.filter(|file| file.path.starts_with(STORE));
            places = store.flat_map(all).collect();
        }
        let [(path, body)] = places.as_slice() else {
            return None;
        };
        Sum {
            depth: self.depth + 1,
            ..Sum::new(self.repository, path, body)
        }
        .value()
    }
}

fn number(text: &str) -> Option<u128> {
    let plain = text.replace('_', "");
    let digits = ["u8", "u16", "u32", "u64", "u128", "usize"]
        .iter()
        .find_map(|suffix| plain.strip_suffix(suffix))
        .unwrap_or(&plain);
    match digits.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "const MAGIC: [u8; 8] = *b\"CAIRNABC\";\npub const A: usize = 64 << 10;\n\
                        const B: u64 = 2 * (REGION + 0x10) - 1_0;\n\
                        #[cfg(test)] mod tests { const T: &[u8] = b\"CAIRNTST\"; }";

    fn run(format: &str) -> Vec<String> {
        let repository = Repository::of(&[
            (FORMAT, format),
            ("engine/store/src/a.rs", CODE),
            ("engine/store/src/b.rs", "pub const REGION: u64 = 4 << 20;"),
        ]);
        check(&repository).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_format_that_agrees_is_quiet() {
        let found = run(
            "CAIRNABC\n## Constants\n| name | value | where |\n|---|---|---|\n\
                         | `MAGIC` | `CAIRNABC` | `engine/store/src/a.rs` |\n| A | 65,536 | store/src/a.rs |\n\
                         | A | 64 KiB | a.rs |\n| `B` | 8388630 | a.rs |\n## Next\n| x | 1 | y |",
        );
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_wrong_value_name_file_or_magic_number_rings() {
        let found = run("# 16. Constants\n| name | value | where |\n|---|---|---|\n\
                         | A | 65537 | a.rs |\n| C | 1 | a.rs |\n| A | 1 | c.rs |\n| MAGIC | CAIRNABD | a.rs |");
        assert_eq!(
            found,
            [
                "engine/store/src/a.rs:1: engine/FORMAT.md does not name the magic number `CAIRNABC`",
                "engine/FORMAT.md:4: `A` is 65536 in engine/store/src/a.rs, not 65537",
                "engine/FORMAT.md:5: engine/store/src/a.rs has no constant `C`",
                "engine/FORMAT.md:6: there is no file `c.rs`",
                "engine/FORMAT.md:7: `MAGIC` is CAIRNABC in engine/store/src/a.rs, not CAIRNABD",
            ]
        );
    }

    #[test]
    fn a_format_without_a_table_or_no_format_rings() {
        assert_eq!(
            run("CAIRNABC\n"),
            ["engine/FORMAT.md:1: a table under the heading \"Constants\" is missing"]
        );
        let nothing = check(&Repository::of(&[]));
        assert_eq!(nothing.len(), 1);
    }
}
