//! Requests that are refused in any mount, also in one whose disks can be written to.

/// Methods that answer with EROFS: their names, the types of what they are told, and that of the reply.
macro_rules! refused {
    ($($name:ident($($what:ty),*) $reply:ty;)*) => {$(
        fn $name(&self, _: &Request, $(_: $what,)* reply: $reply) {
            reply.error(Errno::EROFS);
        }
    )*};
}

pub(super) use refused;
