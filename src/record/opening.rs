//! The writer's start: from a path to a database that is open, recovered and fit to be recorded to.
//!
//! Sets another database's -wal aside before SQLite sees it, sets a damaged database aside, and retries after errors
//! that may pass. Logs each.

use crate::log;
use crate::place::filesystem::free_bytes;
use crate::place::foreign_wal::Treatment;
use crate::place::identity::inode;
use crate::place::lock::lock;
use crate::place::mark::{self, Mark};
use crate::place::paths::wal_of;
use crate::place::set_aside;
use crate::place::set_aside::OnDamage;
use crate::record::expiry::SizeLimit;
use crate::record::retry::Retry;
use crate::record::stop::Step;
use crate::record::writer::{Writer, warn_of_mark};
use crate::source::spec::SourceSpec;
use crate::store::{self, Cause, Class, Db, Error};
use crate::sys::{self, Clock};

impl Writer {
    pub(super) fn open(&self) -> Result<Db, Error> {
        let settings = &self.settings;
        let mut retry = Retry::begin();
        let mut may_set_aside = settings.on_damage == OnDamage::SetAside;
        self.take_foreign_wal_away()?;
        let mut mark = mark::read(&self.path);
        loop {
            self.exchange.busy();
            let opened = Db::open(
                &self.path,
                settings.busy_timeout,
                settings.wal_autocheckpoint,
                &self.start,
                mark.as_ref(),
            )
            .and_then(|mut db| {
                retry.over("open-resumed");
                self.prepare_expiry(&mut db)?;
                let simulation = self.warning_of_simulation(&mut db)?;
                Ok((db, simulation))
            });
            // Readings are taken from here on. None is committed before this returns.
            let opened = opened.and_then(|(mut db, simulation)| {
                self.announce(&db, simulation);
                self.exchange.busy();
                db.bring_in_start().map(|()| db)
            });
            match opened {
                Ok(db) => return Ok(db),
                // No reading was accepted yet, so a signal need not wait for the file.
                Err(e) if e.class() == Class::Retry && self.queue.stopping().is_none() => {
                    let e = self.name_writer(e);
                    self.exchange.trouble(&e);
                    retry.wait(&self.queue, "open-waiting", &e);
                }
                // Once: if the new file is damaged too, the device cannot be recorded to.
                Err(e) if e.class() == Class::Damaged && std::mem::take(&mut may_set_aside) => {
                    if !store::was_seawall(&self.path) {
                        let message = format!(
                            "{}, and nothing in it shows that it was seawall's",
                            e.message
                        );
                        let cause = Cause::NotSeawall;
                        return Err(Error::new("record to", &self.path, cause, message));
                    }
                    self.set_aside(&e)?;
                    mark = None;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Tells the recorder that the file is open, and logs what was found in it.
    fn announce(&self, db: &Db, simulation: Option<&'static str>) {
        let set_aside = self.tell_set_aside();
        let file = inode(&self.path).ok();
        let free_bytes = free_bytes(&self.path);
        log_recovered(db);
        log_new_device(db);
        if let Some(reason) = simulation {
            log::warn("simulated", &[("reason", &reason)]);
        }
        let mut progress = self.exchange.progress();
        progress.step = Step::Record;
        progress.trouble = None;
        progress.set_aside = set_aside;
        progress.file = file;
        progress.free_bytes = free_bytes;
        progress.device = db.device().to_owned();
        progress.run = db.run();
        progress.wal_frames = db.wal_frames();
        progress.page_bytes = db.page_bytes();
        drop(progress);
        self.exchange.bell.ring();
    }

    /// Finds damage where readings will expire, so that the start can set the file aside. Logs what
    /// `--max-size` cannot do.
    fn prepare_expiry(&self, db: &mut Db) -> Result<(), Error> {
        let settings = &self.settings;
        if settings.retain.is_some() || settings.max_size_bytes.is_some() {
            match db.try_expiry() {
                Err(e) if e.class() != Class::Retry => return Err(e),
                _ => {}
            }
        }
        let Some(limit) = SizeLimit::of(settings, db.page_bytes()) else {
            return Ok(());
        };
        if settings.wal_autocheckpoint == 0 {
            let reason = "with --wal-autocheckpoint 0 the -wal is another tool's to keep small";
            log::warn("max-size-without-wal", &[("reason", &reason)]);
        }
        let pages = db.pages()?.all;
        if pages > limit.pages_max {
            let reason = "the file is longer already and is not shortened: the oldest readings go and their pages are used again; to shrink it, stop the recorder and run: sqlite3 FILE VACUUM";
            log::warn(
                "over-max-size",
                &[("bytes", &(pages * db.page_bytes())), ("reason", &reason)],
            );
        }
        Ok(())
    }

    /// Takes another database's -wal away before SQLite replays it.
    fn take_foreign_wal_away(&self) -> Result<(), Error> {
        let set_aside_failed = |e: std::io::Error| {
            Error::foreign_wal(&self.path, &format!("it cannot be set aside: {e}"))
        };
        match store::look_at_wal(&self.path) {
            Treatment::Leave => {}
            Treatment::Remove { is_blank } => {
                let path = wal_of(&self.path);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        let todo = format!("it cannot be removed: {e}");
                        return Err(Error::foreign_wal(&self.path, &todo));
                    }
                    _ => {}
                }
                if !is_blank {
                    let reason = "a power cut brought it back after a clean stop: all of it is in the database";
                    let path = path.display();
                    log::info("wal-removed", &[("path", &path), ("reason", &reason)]);
                }
            }
            Treatment::SetAside if self.settings.on_damage == OnDamage::Refuse => {
                return Err(Error::foreign_wal(&self.path, "take the -wal away"));
            }
            Treatment::SetAside => {
                let now_ns = sys::clock_ns(Clock::Real);
                let aside =
                    set_aside::set_wal_aside(&self.path, now_ns).map_err(set_aside_failed)?;
                let reason = "the database ended without a -wal; this one is another's, or of another state of this one that a copy was put over after a kill, and would have ruined it";
                let advice = "it may hold acknowledged readings that are nowhere else: keep it, and read it beside the .db that it was written with";
                let path = wal_of(&aside);
                log::error(
                    "wal-foreign",
                    &[
                        ("path", &path.display()),
                        ("reason", &reason),
                        ("advice", &advice),
                    ],
                );
            }
        }
        Ok(())
    }

    /// Creates the mark, by which the next start sees how far this run came.
    pub(super) fn start_mark(&self, db: &Db) -> Option<Mark> {
        let newest_id = db.newest_id();
        let progress = mark::Progress {
            device: db.device().to_owned(),
            run: db.run(),
            started_ns: self.start.now_ns,
            boot_id: self.start.boot_id.clone().unwrap_or_default(),
            committed: newest_id,
            synced: newest_id,
        };
        let mark = Mark::create(&self.path, progress);
        mark.inspect_err(warn_of_mark).ok()
    }

    /// Renames the damaged file and locks the new one.
    fn set_aside(&self, damage: &Error) -> Result<(), Error> {
        log::error("database-damaged", &[("error", damage)]);
        let failed = |message: String| Error {
            message: format!("{}; and it cannot be set aside: {message}", damage.message),
            ..damage.clone()
        };
        set_aside::set_aside(&self.path, sys::clock_ns(Clock::Real))
            .map_err(|e| failed(e.to_string()))?;
        let lock = lock(&self.path).map_err(failed)?;
        self.lock.replace(lock);
        Ok(())
    }

    /// Simulated readings are hardly meant here, and cannot be taken out again.
    fn warning_of_simulation(&self, db: &mut Db) -> Result<Option<&'static str>, Error> {
        let sources = &self.settings.sources;
        let is_simulated = |source: &SourceSpec| matches!(source, SourceSpec::Sim(_));
        if !sources.iter().any(is_simulated) {
            return Ok(None);
        }
        let is_default = SourceSpec::parse("sim").is_ok_and(|sim| *sources == [sim]);
        Ok(if db.has_sensors_beside_sim()? {
            Some(
                "simulated sensors are recorded, and the database holds other ones: unless that is meant, stop, and give --source or another --db",
            )
        } else if is_default && sys::has_input() {
            Some(
                "simulated sensors are recorded, and stdin is not read: give --source stdin to record what comes there",
            )
        } else if is_default {
            Some(
                "simulated sensors are recorded, as always without --source; for those of this machine: --source sysfs",
            )
        } else {
            None
        })
    }

    /// Logs which databases were set aside and are still there. Returns their number.
    fn tell_set_aside(&self) -> usize {
        let aside = set_aside::still_aside(&self.path);
        let reason = "it was found damaged; take it away to end this message";
        for path in &aside.newest {
            let path = path.display();
            log::error("set-aside", &[("path", &path), ("reason", &reason)]);
        }
        if aside.unnamed() > 0 {
            log::error("set-aside", &[("more", &aside.unnamed())]);
        }
        aside.count
    }
}

fn log_new_device(db: &Db) {
    if let Some(before) = db.device_before() {
        let reason = "the file was recorded on another machine before, or is a backup: its readings keep the id of that one, new ones get this";
        log::warn(
            "new-device",
            &[
                ("device", &db.device()),
                ("before", &before),
                ("reason", &reason),
            ],
        );
    }
}

/// Logs the runs that never ended, and what is missing of the last one.
fn log_recovered(db: &Db) {
    for run in db.unclean() {
        match run.lost {
            None => log::warn(
                "recovered",
                &[
                    ("run", &run.run),
                    ("reason", &"unclean"),
                    ("readings", &run.committed),
                ],
            ),
            Some((from_id, to_id)) => log::error(
                "recovered",
                &[
                    ("run", &run.run),
                    ("reason", &"lost"),
                    ("readings", &run.committed),
                    ("missing", &(to_id - from_id + 1)),
                    ("from_id", &from_id),
                    ("to_id", &to_id),
                    (
                        "advice",
                        &"they were committed and were in the -wal, which was taken away or damaged; it does not fit any more, do not bring it back",
                    ),
                ],
            ),
        }
    }
}
