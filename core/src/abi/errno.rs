//! The error numbers of hypercalls, returned negated.

use core::fmt;

/// A positive error number from Xen. Source: `xen/include/public/errno.h`. The set is open: an unknown number is kept
/// and printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct XenErrno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $c_name:literal, $text:literal;)*) => {
        impl XenErrno {
            $(
                #[doc = $text]
                #[doc(alias = $c_name)]
                pub const $name: Self = Self($value);
            )*

            /// Returns the header's name without `XEN_`, and its meaning, or `None` if the number is unknown.
            pub const fn known(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some(($c_name, $text)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    PERM = 1, "EPERM", "operation not permitted";
    NOENT = 2, "ENOENT", "no such entry";
    SRCH = 3, "ESRCH", "no such domain";
    IO = 5, "EIO", "input or output error";
    NXIO = 6, "ENXIO", "no such device or address";
    TOO_BIG = 7, "E2BIG", "argument list too long";
    AGAIN = 11, "EAGAIN", "try again";
    NOMEM = 12, "ENOMEM", "out of memory";
    ACCES = 13, "EACCES", "permission denied";
    FAULT = 14, "EFAULT", "bad address";
    BUSY = 16, "EBUSY", "busy";
    EXIST = 17, "EEXIST", "exists already";
    XDEV = 18, "EXDEV", "cross-device link";
    NODEV = 19, "ENODEV", "no such device";
    INVAL = 22, "EINVAL", "invalid argument";
    NOSPC = 28, "ENOSPC", "no space left";
    RANGE = 34, "ERANGE", "result out of range";
    NOSYS = 38, "ENOSYS", "not implemented";
    NODATA = 61, "ENODATA", "no data";
    OVERFLOW = 75, "EOVERFLOW", "value too large";
    OPNOTSUPP = 95, "EOPNOTSUPP", "operation not supported";
}

impl fmt::Display for XenErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, text)) => write!(f, "{text} ({name}, -{})", self.0),
            None => write!(f, "unknown Xen error -{}", self.0),
        }
    }
}

impl fmt::Debug for XenErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for XenErrno {}
