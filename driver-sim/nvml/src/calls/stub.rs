//! Every public name that nothing else implements: NOT_SUPPORTED, arguments ignored.
//!
//! Ignoring the arguments is safe in the C calling convention of the supported machines (the caller cleans
//! up). Injected faults, delays, the call log and the check for initialisation apply as everywhere.

use gpushared_driver_sim::{Code, Function};

use crate::abi::Return;
use crate::entry::call;

macro_rules! stubs {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name() -> Return {
            call(const { Function::new(stringify!($name)) }, None, &mut |_| Err(Code::NOT_SUPPORTED))
        }
    )*};
}

include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
