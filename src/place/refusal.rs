//! The wording of a refused place: what failed, on which path, as which user, and what helps.

use std::io;
use std::path::Path;

use crate::sys;

pub fn refused(verb: &str, path: &Path, error: &io::Error) -> String {
    let (uid, gid) = sys::user_and_group();
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; let this user write there (chown), or run as the user who may"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount a volume that may be written",
        _ => "",
    };
    format!(
        "cannot {verb} {}: {error} (uid {uid}, gid {gid}){advice}",
        std::path::absolute(path)
            .as_deref()
            .unwrap_or(path)
            .display()
    )
}
