//! What has to be true of the files after any fault.

use super::recording::{self, End, Recording, Waited};
use super::trials::Folder;
use super::volume::{Device, Volume};

/// Looks at what a recording has left, as the next start finds it: `first` readings were there before.
/// Gives what is wrong, a line each.
pub fn after(folder: &Folder, end: &End, first: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    // A process that has died holds no locks; one in which the test goes on would.
    let files = folder.image();
    if let Some(name) = files.keys().find(|name| name.contains(".damaged-")) {
        wrong.push(format!("a sound database was set aside as {name}"));
    }
    let copy = Folder::holding(&files);
    let db = copy.db();
    let mut next = 0;
    // Before `found`, which brings the -wal in as any tool would and deletes it.
    let audit = recording::audited(&db);
    match recording::found(&db) {
        Ok(state) => {
            next = state.next;
            if state.first != 0 || next < end.committed.max(end.acked) || next > end.sent {
                wrong.push(format!("found {state:?}"));
            }
            if state.runs > u64::from(first > 0) + 1 {
                wrong.push(format!("one start began more than one run: {state:?}"));
            }
        }
        // Killed before it had made its tables.
        Err(e) if e.contains("no such table") && end.committed == 0 && first == 0 => {}
        Err(e) => wrong.push(e),
    }
    if next > 0 {
        wrong.extend(audit.err());
    }

    // And recording goes on.
    let volume = Volume::mount(copy.path(), Device::REAL);
    let settings = recording::settings(&db, &["--on-damage=refuse"]);
    let mut again = Recording::of(&volume, settings, next);
    let opened = again.until_open();
    let end = if opened == Waited::Done {
        again.send(3, true);
        again.until_committed();
        again.stop();
        again.end()
    } else {
        again.kill()
    };
    if end.status != 0 || end.committed != next + 3 {
        wrong.push(format!("the next start: {opened:?}, {end:?}"));
    }
    wrong.extend(recording::audited(&db).err());
    match recording::found(&db) {
        Ok(state) if state.first == 0 && state.next == next + 3 => {}
        other => wrong.push(format!("after the next start: {other:?}")),
    }
    wrong
}
