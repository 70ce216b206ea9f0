//! What the rules want to know of a Rust source: its modules, the paths it names, its functions, and which of it is test.

use super::lexer::{Kind, Token, tokens};

/// One source.
pub struct Source {
    pub tokens: Vec<Token>,
    /// For each token: whether it stands in an item under `#[cfg(test)]` or `#[test]`.
    pub in_test: Vec<bool>,
    /// `#![cfg(test)]`
    pub all_test: bool,
}

/// `mod name;` or `mod name { ... }`.
#[derive(Debug, PartialEq, Eq)]
pub struct ModuleItem {
    pub name: String,
    pub line: usize,
    pub test: bool,
    /// The value of `#[path = "..."]`.
    pub path: Option<String>,
    /// The tokens between the braces; `None` for `mod name;`.
    pub body: Option<(usize, usize)>,
    /// Where the item begins.
    pub at: usize,
}

/// A path such as `crate::error::Kind`, one for each branch of a `use` tree.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath {
    pub segments: Vec<String>,
    /// The name that a `use` gives to it, if it is one.
    pub bound: Option<String>,
    pub line: usize,
    pub at: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    pub fn parse(text: &str) -> Source {
        let tokens = tokens(text);
        let mut source = Source {
            in_test: vec![false; tokens.len()],
            tokens,
            all_test: false,
        };
        source.mark_tests();
        source
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(text))
    }

    fn word(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).filter(|token| token.kind == Kind::Word)
    }

    /// The token after the bracket that closes the one at `at`.
    pub fn after_group(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for (i, token) in self.tokens.iter().enumerate().skip(at) {
            if token.is("(") || token.is("[") || token.is("{") {
                depth += 1;
            } else if token.is(")") || token.is("]") || token.is("}") {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
        }
        self.tokens.len()
    }

    /// Where the item that begins at `at` ends: after its `;`, or after its first braces.
    fn after_item(&self, mut at: usize) -> usize {
        while at < self.tokens.len() {
            if self.is(at, ";") {
                return at + 1;
            }
            let braces = self.is(at, "{");
            if braces || self.is(at, "(") || self.is(at, "[") {
                at = self.after_group(at);
                if braces {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        at
    }

    fn mark_tests(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            let inner = self.is(at, "#") && self.is(at + 1, "!") && self.is(at + 2, "[");
            let outer = self.is(at, "#") && self.is(at + 1, "[");
            if !inner && !outer {
                at += 1;
                continue;
            }
            let open = if inner { at + 2 } else { at + 1 };
            let end = self.after_group(open);
            let names = |name: &str| self.tokens[open..end].iter().any(|token| token.is(name));
            let first = self
                .word(open + 1)
                .map(|token| token.text.clone())
                .unwrap_or_default();
            let test = first == "test" || (first == "cfg" && names("test") && !names("not"));
            if test && inner {
                self.all_test = true;
            } else if test {
                let stop = self.after_item(end).min(self.in_test.len());
                self.in_test[at..stop].fill(true);
            }
            at = end;
        }
    }

    /// Every `mod`, nested ones too.
    pub fn modules(&self) -> Vec<ModuleItem> {
        let mut found = Vec::new();
        let mut path = None;
        let mut at = 0;
        while at < self.tokens.len() {
            if self.is(at, "#") && self.is(at + 1, "[") {
                let end = self.after_group(at + 1);
                if self.is(at + 2, "path") && self.is(at + 3, "=") {
                    path = self
                        .tokens
                        .get(at + 4)
                        .map(|token| token.text.trim_matches('"').to_string());
                }
                at = end;
                continue;
            }
            if self.is(at, "mod")
                && let Some(name) = self.word(at + 1)
                && (self.is(at + 2, ";") || self.is(at + 2, "{"))
            {
                found.push(ModuleItem {
                    name: name.text.clone(),
                    line: name.line,
                    test: self.all_test || self.in_test[at],
                    path: path.take(),
                    body: self
                        .is(at + 2, "{")
                        .then(|| (at + 3, self.after_group(at + 2))),
                    at,
                });
            } else if self.is(at, ";") || self.is(at, "{") || self.is(at, "}") {
                path = None;
            }
            at += 1;
        }
        found
    }

    /// The names of the inline modules around a token, outermost first.
    pub fn inline_modules(&self, modules: &[ModuleItem], at: usize) -> Vec<String> {
        modules
            .iter()
            .filter(|module| {
                module
                    .body
                    .is_some_and(|(start, end)| (start..end).contains(&at))
            })
            .map(|module| module.name.clone())
            .collect()
    }

    /// Every path of a `use`, and every path of two or more segments elsewhere.
    pub fn paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.is(at, "use") && !self.is(at + 1, "<") {
                let mut next = at + 1;
                self.use_tree(&mut next, &[], &mut found);
                at = next.max(at + 1);
            } else if self.word(at).is_some() && self.is(at + 1, "::") {
                let start = at;
                let mut segments = vec![self.tokens[at].text.clone()];
                while self.is(at + 1, "::")
                    && let Some(next) = self.word(at + 2)
                {
                    segments.push(next.text.clone());
                    at += 2;
                }
                let line = self.tokens[start].line;
                // `a.b::<T>()` and `<T as X>::name::other` do not begin a path of their own.
                let inner = start > 0 && (self.is(start - 1, "::") || self.is(start - 1, "."));
                if segments.len() > 1 && !inner {
                    found.push(NamedPath {
                        segments,
                        bound: None,
                        line,
                        at: start,
                    });
                }
                at += 1;
            } else {
                at += 1;
            }
        }
        found
    }

    fn use_tree(&self, at: &mut usize, prefix: &[String], found: &mut Vec<NamedPath>) {
        let mut segments = prefix.to_vec();
        let start = *at;
        if self.is(*at, "::") {
            *at += 1;
        }
        loop {
            if self.is(*at, "{") {
                let end = self.after_group(*at);
                *at += 1;
                while *at + 1 < end {
                    let before = *at;
                    self.use_tree(at, &segments, found);
                    if self.is(*at, ",") || *at == before {
                        *at += 1;
                    }
                }
                *at = end;
                return;
            }
            let Some(token) = self.tokens.get(*at) else {
                return;
            };
            let glob = token.is("*");
            if !glob && token.kind != Kind::Word {
                return;
            }
            segments.push(token.text.clone());
            *at += 1;
            if self.is(*at, "::") && !glob {
                *at += 1;
                continue;
            }
            break;
        }
        // `a::b::{self}` names `a::b`.
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let mut bound = segments.last().cloned();
        if self.is(*at, "as") {
            bound = self.tokens.get(*at + 1).map(|token| token.text.clone());
            *at += 2;
        }
        let line = self.tokens.get(start).map_or(0, |token| token.line);
        found.push(NamedPath {
            segments,
            bound,
            line,
            at: start,
        });
    }

    /// Every function with a body; nested ones count for themselves too.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if !token.is("fn") {
                continue;
            }
            let Some(name) = self.word(at + 1) else {
                continue;
            };
            let end = self.after_item(at);
            let Some(last) = self.tokens.get(end - 1) else {
                continue;
            };
            if last.is("}") {
                found.push(Function {
                    name: name.text.clone(),
                    line: token.line,
                    lines: last.line - token.line + 1,
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        Source::parse(text)
            .paths()
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        assert_eq!(
            named(
                "use crate::{a::{self, B as C}, d::*};\nfn f() { x::y(crate::e::F); a.collect::<Vec<u8>>() }"
            ),
            [
                "crate::a",
                "crate::a::B",
                "crate::d::*",
                "x::y",
                "crate::e::F"
            ]
        );
        let paths = Source::parse("pub use a::B as C;").paths();
        assert_eq!(paths[0].bound.as_deref(), Some("C"));
    }

    #[test]
    fn test_items_are_known() {
        let source = Source::parse(
            "use a::b;\n#[cfg(test)]\nmod tests { use c::d; }\n#[cfg(not(test))]\nuse e::f;\n#[cfg(test)]\nuse g::h;",
        );
        let outside: Vec<_> = source
            .paths()
            .into_iter()
            .filter(|path| !source.in_test[path.at])
            .collect();
        let names: Vec<_> = outside
            .iter()
            .map(|path| path.segments.join("::"))
            .collect();
        assert_eq!(names, ["a::b", "e::f"]);
        assert!(Source::parse("#![cfg(test)]\nuse a::b;").all_test);
    }

    #[test]
    fn modules_inline_and_in_files() {
        let source = Source::parse(
            "#[path = \"../x.rs\"]\npub mod a;\nmod b { mod c; }\n#[cfg(test)]\nmod tests;",
        );
        let modules = source.modules();
        let facts: Vec<_> = modules
            .iter()
            .map(|m| (m.name.as_str(), m.test, m.path.as_deref()))
            .collect();
        assert_eq!(
            facts,
            [
                ("a", false, Some("../x.rs")),
                ("b", false, None),
                ("c", false, None),
                ("tests", true, None)
            ]
        );
        assert_eq!(source.inline_modules(&modules, modules[2].at), ["b"]);
    }

    #[test]
    fn functions_are_measured_to_their_last_brace() {
        let source =
            Source::parse("trait T {\n fn no(&self);\n fn f(x: [u8; 3]) -> u8\n {\n  { 1 }\n }\n}");
        assert_eq!(
            source.functions(),
            [Function {
                name: "f".into(),
                line: 3,
                lines: 4
            }]
        );
    }
}
