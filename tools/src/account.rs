//! Users and groups of this machine, by number or by name.

use nix::unistd;
use std::str::FromStr;

/// A user's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u32);

/// A group's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(pub u32);

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<User, String> {
        let find = || unistd::User::from_name(text).map(|user| user.map(|user| user.uid.as_raw()));
        number(text, "user", find).map(User)
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Group, String> {
        let find =
            || unistd::Group::from_name(text).map(|group| group.map(|group| group.gid.as_raw()));
        number(text, "group", find).map(Group)
    }
}

/// A number as it is; a name is looked up where the machine keeps them.
fn number(
    text: &str,
    what: &str,
    find: impl FnOnce() -> nix::Result<Option<u32>>,
) -> Result<u32, String> {
    if let Ok(number) = text.parse::<u32>() {
        // The last number stands for no user or group in the kernel.
        return if number == u32::MAX {
            Err(format!("{number} is no {what}"))
        } else {
            Ok(number)
        };
    }
    match find() {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(format!("this machine has no {what} `{text}`")),
        Err(error) => Err(format!("the {what} `{text}` cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_number_and_name() {
        assert_eq!("0".parse(), Ok(User(0)));
        assert_eq!("root".parse(), Ok(User(0)));
        assert_eq!("1000".parse(), Ok(Group(1000)));
        assert_eq!("root".parse(), Ok(Group(0)));
        for wrong in ["no such user", "-1", "4294967295", ""] {
            assert!(wrong.parse::<User>().is_err(), "{wrong}");
            assert!(wrong.parse::<Group>().is_err(), "{wrong}");
        }
    }
}
