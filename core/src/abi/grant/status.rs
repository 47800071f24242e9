//! The status returned by a grant operation.

use core::fmt;

/// The status of one operation: zero for success, or a negative error. The set is open: a number unknown to
/// the header is kept and printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(pub i16);

macro_rules! statuses {
    ($($name:ident = $value:literal, $alias:literal, $text:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!("Xen's words: ", $text, ".")]
                #[doc(alias = $alias)]
                pub const $name: Self = Self($value);
            )*

            /// Every status in the header, with its name there.
            pub const ALL: &[(&str, Self)] = &[$(($alias, Self::$name)),*];

            /// Returns Xen's message for the status, or `None` if the header doesn't have it.
            #[doc(alias = "GNTTABOP_error_msgs")]
            pub const fn message(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    OKAY = 0, "GNTST_okay", "okay";
    GENERAL_ERROR = -1, "GNTST_general_error", "undefined error";
    BAD_DOMAIN = -2, "GNTST_bad_domain", "unrecognised domain id";
    BAD_GNTREF = -3, "GNTST_bad_gntref", "invalid grant reference";
    BAD_HANDLE = -4, "GNTST_bad_handle", "invalid mapping handle";
    BAD_VIRT_ADDR = -5, "GNTST_bad_virt_addr", "invalid virtual address";
    BAD_DEV_ADDR = -6, "GNTST_bad_dev_addr", "invalid device address";
    NO_DEVICE_SPACE = -7, "GNTST_no_device_space", "no spare translation slot in the I/O MMU";
    PERMISSION_DENIED = -8, "GNTST_permission_denied", "permission denied";
    BAD_PAGE = -9, "GNTST_bad_page", "bad page";
    BAD_COPY_ARG = -10, "GNTST_bad_copy_arg", "copy arguments cross page boundary";
    ADDRESS_TOO_BIG = -11, "GNTST_address_too_big", "page address size too large";
    EAGAIN = -12, "GNTST_eagain", "operation not done; try again";
    NO_SPACE = -13, "GNTST_no_space", "out of space";
}

impl Status {
    /// The initial value of a status before the call, to detect one left unwritten by Xen. Xen has no such
    /// status.
    pub const UNANSWERED: Self = Self(i16::MIN);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "{message} (status {})", self.0),
            None => write!(f, "unknown status {}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Status;
    use std::string::ToString;

    #[test]
    fn every_number_prints_known_or_not() {
        assert_eq!(Status::EAGAIN.to_string(), "operation not done; try again (status -12)");
        for unknown in [1, -14, i16::MIN, i16::MAX] {
            assert_eq!(Status(unknown).to_string(), std::format!("unknown status {unknown}"));
        }
    }
}
