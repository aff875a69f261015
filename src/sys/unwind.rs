//! Replaces the unwinder in the binary of the image.
//!
//! A panic aborts there, so nothing unwinds, and its backtrace has no frames: the binary is stripped, so there are
//! no names to print. What the standard library brings along to look for some (readers of DWARF, of compressed
//! sections, of mangled names) is a quarter of the binary. Without frames the linker leaves that out, and the tables of
//! unwinding with it.

// SAFETY: to answer `_URC_END_OF_STACK` without having called back is open to every implementation.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const libc::c_void, _: *mut libc::c_void) -> libc::c_int {
    const END_OF_STACK: libc::c_int = 5;
    END_OF_STACK
}

macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: only an unwinder calls these, or what it calls, and there is none.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}
never_called! {
    _Unwind_Resume _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart
    _Unwind_GetTextRelBase _Unwind_GetDataRelBase _Unwind_SetGR _Unwind_SetIP
}
