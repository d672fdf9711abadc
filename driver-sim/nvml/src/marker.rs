//! The symbol that says what this library is: clients that must not take the simulator for a driver look it up.
//! No driver has it, and no other client asks for it.

/// Present means simulated; the answer is 1 so that the symbol is a function with a meaning.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn gpusim_is_simulated() -> u32 {
    1
}
