//! SQLite's own allocator, with a look before each call. It has to be put in place before SQLite is used at all,
//! so that a test that does has a process of its own.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

struct Real {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    reallocate: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    may_have: fn() -> bool,
}

static REAL: OnceLock<Real> = OnceLock::new();

fn real() -> &'static Real {
    REAL.get().expect("the allocator is installed")
}

unsafe extern "C" fn allocate(bytes: c_int) -> *mut c_void {
    if !(real().may_have)() {
        return ptr::null_mut();
    }
    // SAFETY: SQLite's own allocator, called as SQLite called this one.
    unsafe { (real().allocate)(bytes) }
}

unsafe extern "C" fn reallocate(old: *mut c_void, bytes: c_int) -> *mut c_void {
    if !(real().may_have)() {
        return ptr::null_mut();
    }
    // SAFETY: as above; `old` came from it.
    unsafe { (real().reallocate)(old, bytes) }
}

/// Asks `may_have` before each call for memory whether it shall be given, from any thread.
pub fn install(may_have: fn() -> bool) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // SAFETY: SQLite is not initialised yet, as `sqlite3_config` demands and checks; each option is
        // given the argument that it takes. SQLite copies the methods.
        unsafe {
            let mut methods: ffi::sqlite3_mem_methods = std::mem::zeroed();
            let code = ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods);
            assert_eq!(code, ffi::SQLITE_OK);
            REAL.get_or_init(|| Real {
                allocate: methods.xMalloc.replace(allocate).unwrap(),
                reallocate: methods.xRealloc.replace(reallocate).unwrap(),
                may_have,
            });
            let code = ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw mut methods);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
}
