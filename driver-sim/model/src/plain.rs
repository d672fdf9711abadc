//! Plain data: types for which every bit pattern is a value, so that they can lie in a mapped file that any
//! process may have written.
//!
//! `Plain` is implemented here for integers and arrays of plain types only; the `plain!` macro makes structs of
//! plain fields and refuses, at compile time, any other field type (no `bool`, no enum, no pointer).

use std::fmt;

use crate::calls::Function;
use crate::ids::mix;

/// Every bit pattern is a valid value and all zeroes is the empty one.
pub trait Plain: Copy + 'static {
    /// The all-zero value.
    const ZERO: Self;

    /// A number that differs for types of different fields, names or order: tells whether two builds mean the same
    /// by a mapped file.
    const SHAPE: u64;
}

/// The shape of something that consists of two parts, in this order.
pub(crate) const fn combine(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b)
}

macro_rules! plain_integers {
    ($($t:ty),*) => { $(impl Plain for $t {
        const ZERO: Self = 0;
        const SHAPE: u64 = Function::id_of(stringify!($t));
    })* };
}
plain_integers!(u8, u16, u32, u64, i32, i64);

impl<T: Plain, const N: usize> Plain for [T; N] {
    const ZERO: Self = [T::ZERO; N];
    const SHAPE: u64 = combine(T::SHAPE, N as u64);
}

/// Declares a `#[repr(C)]` struct whose fields are all [`Plain`].
macro_rules! plain {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl $crate::plain::Plain for $name {
            const ZERO: Self = Self { $($field: <$ty as $crate::plain::Plain>::ZERO,)* };
            const SHAPE: u64 = {
                let mut shape = $crate::calls::Function::id_of(stringify!($name));
                $(
                    let name = $crate::calls::Function::id_of(stringify!($field));
                    let field = $crate::plain::combine(name, <$ty as $crate::plain::Plain>::SHAPE);
                    shape = $crate::plain::combine(shape, field);
                )*
                shape
            };
        }
    };
}
pub(crate) use plain;

/// A text of at most `N` bytes, padded with NUL.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
}

impl<const N: usize> Plain for Text<N> {
    const ZERO: Self = Self { bytes: [0; N] };
    const SHAPE: u64 = combine(Function::id_of("Text"), N as u64);
}

impl<const N: usize> Text<N> {
    /// The text, cut at a character boundary if it is longer than `N` bytes.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let mut len = text.len().min(N);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { bytes }
    }

    /// The text up to the first NUL, or up to the first byte that is not UTF-8.
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|&b| b == 0).unwrap_or(N);
        let bytes = &self.bytes[..end];
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// No text at all.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Plain, Text};

    #[expect(unreachable_pub, reason = "the macro makes public structs")]
    mod one {
        plain! { pub struct Pair { pub a: u32, pub b: u32, } }
    }
    #[expect(unreachable_pub, reason = "the macro makes public structs")]
    mod swapped {
        plain! { pub struct Pair { pub b: u32, pub a: u32, } }
    }

    #[test]
    fn fields_of_equal_size_in_another_order_are_another_shape() {
        assert_ne!(one::Pair::SHAPE, swapped::Pair::SHAPE);
        assert_ne!(<[u8; 4]>::SHAPE, u32::SHAPE);
        assert_eq!(one::Pair::SHAPE, <one::Pair as Plain>::SHAPE);
    }

    #[test]
    fn a_text_is_cut_at_a_character_boundary() {
        assert_eq!(Text::<4>::new("abcä").as_str(), "abc");
        assert_eq!(Text::<4>::new("abcd").as_str(), "abcd");
    }

    #[test]
    fn bytes_that_are_not_text_end_the_text() {
        let text = Text::<3> {
            bytes: [b'a', 0xFF, b'b'],
        };
        assert_eq!(text.as_str(), "a");
    }
}
