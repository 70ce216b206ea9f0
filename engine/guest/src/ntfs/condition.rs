//! Conditions and resource attributes of access control entries, as SDDL writes them ([MS-DTYP] sections 2.4.4.17, 2.4.10.1 and 2.5.1.1).

use super::attribute::units;
use super::sid::Sid;
use cairn_base::{Error, Result, View};
use std::fmt::Write;

/// Values on the stack, and in a list. No policy of Windows has so many.
const MAX_VALUES: usize = 4096;
/// Longest text of one condition. Each operator copies what its operands have become, so that hostile ones would take long.
const MAX_TEXT: usize = 256 << 10;
/// Text that may be copied for one condition.
const MAX_COPIED: usize = 4 << 20;

/// How strongly an expression holds together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// A value, or a comparison.
    Term,
    /// `&&` or `||`: needs parentheses in another one.
    Logical,
}

/// A condition, in the order of a stack machine on disk, as an expression. `view` begins behind `artx`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is none; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it is longer than any of Windows.
pub fn expression(view: View<'_>) -> Result<String> {
    let mut stack: Vec<(String, Rank)> = Vec::new();
    let (mut at, mut copied) = (0usize, 0usize);
    while at < view.len() {
        let token = view.u8(at)?;
        if token == 0 {
            // Pads to four bytes.
            at = at.saturating_add(1);
            continue;
        }
        let made = match operator(token) {
            Some(Operator::Unary(name)) => {
                at = at.saturating_add(1);
                let (operand, _) = pop(&mut stack, view, at)?;
                if name == "!" {
                    (format!("!({operand})"), Rank::Term)
                } else {
                    (format!("{name} {operand}"), Rank::Term)
                }
            }
            Some(Operator::Binary(name)) => {
                at = at.saturating_add(1);
                let (right, right_rank) = pop(&mut stack, view, at)?;
                let (left, left_rank) = pop(&mut stack, view, at)?;
                let rank = if matches!(name, "&&" | "||") {
                    Rank::Logical
                } else {
                    Rank::Term
                };
                let (left, right) = (closed(left, left_rank), closed(right, right_rank));
                (format!("{left} {name} {right}"), rank)
            }
            None => {
                let (value, length) = value(view.tail(at)?, true)?;
                at = at.saturating_add(length);
                (value, Rank::Term)
            }
        };
        copied = copied.saturating_add(made.0.len());
        if made.0.len() > MAX_TEXT || copied > MAX_COPIED || stack.len() >= MAX_VALUES {
            return Err(too_long());
        }
        stack.push(made);
    }
    let (whole, _) = pop(&mut stack, view, 0)?;
    if stack.is_empty() {
        Ok(whole)
    } else {
        Err(view.damaged(0, "a condition leaves several values"))
    }
}

fn too_long() -> Error {
    Error::unsupported("a condition is too long to be written as text")
}

fn pop(stack: &mut Vec<(String, Rank)>, view: View<'_>, at: usize) -> Result<(String, Rank)> {
    let missing = || view.damaged(at, "a condition lacks an operand");
    stack.pop().ok_or_else(missing)
}

fn closed(text: String, rank: Rank) -> String {
    match rank {
        Rank::Term => text,
        Rank::Logical => format!("({text})"),
    }
}

enum Operator {
    Unary(&'static str),
    Binary(&'static str),
}

/// [MS-DTYP] 2.4.4.17.6 and 2.4.4.17.7.
fn operator(token: u8) -> Option<Operator> {
    use Operator::{Binary, Unary};
    Some(match token {
        0x80 => Binary("=="),
        0x81 => Binary("!="),
        0x82 => Binary("<"),
        0x83 => Binary("<="),
        0x84 => Binary(">"),
        0x85 => Binary(">="),
        0x86 => Binary("Contains"),
        0x87 => Unary("Exists"),
        0x88 => Binary("Any_of"),
        0x89 => Unary("Member_of"),
        0x8A => Unary("Device_Member_of"),
        0x8B => Unary("Member_of_Any"),
        0x8C => Unary("Device_Member_of_Any"),
        0x8D => Unary("Not_Exists"),
        0x8E => Binary("Not_Contains"),
        0x8F => Binary("Not_Any_of"),
        0x90 => Unary("Not_Member_of"),
        0x91 => Unary("Not_Device_Member_of"),
        0x92 => Unary("Not_Member_of_Any"),
        0x93 => Unary("Not_Device_Member_of_Any"),
        0xA0 => Binary("&&"),
        0xA1 => Binary("||"),
        0xA2 => Unary("!"),
        _ => return None,
    })
}

/// A literal or the name of an attribute ([MS-DTYP] 2.4.4.17.5 and 2.4.4.17.8), and how many bytes it takes. Lists hold no lists (`may_list`).
fn value(view: View<'_>, may_list: bool) -> Result<(String, usize)> {
    let token = view.u8(0)?;
    if matches!(token, 1..=4) {
        return Ok((integer(view)?, 11));
    }
    let length = usize::try_from(view.u32_le(1)?).unwrap_or(usize::MAX);
    let bytes = view.slice(5, length)?;
    let text = match token {
        0x10 => quoted(&units(bytes)),
        0x18 => format!("#{}", hex(bytes)),
        0x50 if may_list => list(view.part(5, length, "list in a condition")?)?,
        0x51 => {
            let sid = Sid::parse(view.part(5, length, "security identifier")?)?;
            format!("SID({})", sid.to_sddl())
        }
        0xF8 => name("", bytes),
        0xF9 => name("@User.", bytes),
        0xFA => name("@Resource.", bytes),
        0xFB => name("@Device.", bytes),
        _ => return Err(view.damaged(0, "an unknown token in a condition")),
    };
    Ok((text, length.saturating_add(5)))
}

fn integer(view: View<'_>) -> Result<String> {
    let (value, sign, base) = (view.i64_le(1)?, view.u8(9)?, view.u8(10)?);
    let mark = match sign {
        1 => "+",
        2 => "-",
        _ => "",
    };
    let size = value.unsigned_abs();
    Ok(match base {
        1 => format!("{mark}0{size:o}"),
        3 => format!("{mark}{size:#x}"),
        _ if value < 0 => format!("-{size}"),
        _ => format!("{mark}{size}"),
    })
}

fn list(view: View<'_>) -> Result<String> {
    let (mut text, mut at) = (String::from("{"), 0usize);
    while at < view.len() {
        let (value, length) = value(view.tail(at)?, false)?;
        at = at.saturating_add(length);
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(&value);
    }
    text.push('}');
    Ok(text)
}

fn quoted(units: &[u16]) -> String {
    let mut text = String::from("\"");
    for character in char::decode_utf16(units.iter().copied()) {
        match character.unwrap_or(char::REPLACEMENT_CHARACTER) {
            '"' => text.push_str("%0022"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

/// Letters and digits as they are, anything else as `%` and four hexadecimal digits.
fn name(prefix: &str, bytes: &[u8]) -> String {
    let mut text = prefix.to_string();
    for unit in units(bytes) {
        let plain = u8::try_from(unit).ok().map(char::from);
        match plain.filter(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '/' | '_')) {
            Some(character) => text.push(character),
            // Writing to a string cannot fail.
            None => drop(write!(text, "%{unit:04X}")),
        }
    }
    text
}

/// A resource attribute: `"Project",TS,0x0,"one","two"`. `view` is a CLAIM_SECURITY_ATTRIBUTE_RELATIVE_V1.
///
/// # Errors
/// As [`expression`].
pub fn attribute(view: View<'_>) -> Result<String> {
    let offset = |at: usize| -> Result<usize> {
        Ok(usize::try_from(view.u32_le(at)?).unwrap_or(usize::MAX))
    };
    let (kind, flags, count) = (view.u16_le(4)?, view.u32_le(8)?, offset(12)?);
    let code = match kind {
        1 => "TI",
        2 => "TU",
        3 => "TS",
        5 => "TD",
        6 => "TB",
        0x10 => "TX",
        _ => return Err(view.damaged(4, "an unknown type of resource attribute")),
    };
    if count > MAX_VALUES {
        return Err(too_long());
    }
    let mut text = quoted(&ended(view.tail(offset(0)?)?));
    let _ = write!(text, ",{code},{flags:#x}");
    for number in 0..count {
        let at = offset(number.saturating_mul(4).saturating_add(16))?;
        let sized = || -> Result<View<'_>> {
            let length = usize::try_from(view.u32_le(at)?).unwrap_or(usize::MAX);
            view.part(at.saturating_add(4), length, "resource attribute")
        };
        let value = match kind {
            1 => view.i64_le(at)?.to_string(),
            2 | 6 => view.u64_le(at)?.to_string(),
            3 => quoted(&ended(view.tail(at)?)),
            5 => Sid::parse(sized()?)?.to_sddl(),
            _ => hex(sized()?.bytes()),
        };
        let _ = write!(text, ",{value}");
        if text.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    Ok(text)
}

/// A string up to its NUL; what stands behind that is not looked at.
fn ended(view: View<'_>) -> Vec<u16> {
    let pairs = view.bytes().chunks_exact(2);
    let units = pairs.map(|pair| u16::from_le_bytes(pair.try_into().unwrap_or_default()));
    units.take_while(|unit| *unit != 0).collect()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
