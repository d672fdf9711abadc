//! Names and texts of result codes; they need neither node nor initialisation.

use std::ffi::c_char;

use crate::entry::guarded;
use crate::pointer::Out;
use crate::status::{Status, describe};

/// `cuGetErrorName`.
///
/// # Safety
/// `name` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetErrorName(status: Status, name: Out<*const c_char>) -> Status {
    write(status, name, |(name, _)| name)
}

/// `cuGetErrorString`.
///
/// # Safety
/// `text` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetErrorString(
    status: Status,
    text: Out<*const c_char>,
) -> Status {
    write(status, text, |(_, text)| text)
}

type Described = (&'static std::ffi::CStr, &'static std::ffi::CStr);

/// An unknown number answers INVALID_VALUE and NULL, as the real driver does.
fn write(
    Status(number): Status,
    to: Out<*const c_char>,
    part: fn(Described) -> &'static std::ffi::CStr,
) -> Status {
    guarded(&mut || {
        let found = describe(number).map(part);
        to.set(found.map_or(std::ptr::null(), std::ffi::CStr::as_ptr))?;
        found.map(|_| ()).ok_or(Status::INVALID_VALUE)
    })
}
