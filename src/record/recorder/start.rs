//! The start of a recorder, up to where the writer opens the database in its thread.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use super::{Phase, Recorder};
use crate::log::{self, Limit};
use crate::place;
use crate::place::machine::Machine;
use crate::record::notify::Manager;
use crate::record::progress::Exchange;
use crate::record::queue::{Policy, Queue};
use crate::record::sampler::Sampler;
use crate::record::settings::RecordSettings;
use crate::record::staging::Staging;
use crate::record::status::server::Server;
use crate::record::terminal::StatusLine;
use crate::record::writer::Writer;
use crate::source::sockets::Sockets;
use crate::source::spec::SourceSpec;
use crate::store::{Moment, Start};
use crate::sys::{self, Clock, signals};
use crate::time::ClockWatch;

impl Recorder {
    pub(super) fn start(mut settings: RecordSettings) -> Result<Self, String> {
        let mut status = Server::default();
        let place = place::prepare(&settings.db, settings.create, settings.on_damage)?;
        settings.db.clone_from(&place.path);
        // Not before the lock is taken: until then the name may be another recorder's.
        let file = std::fs::metadata(&settings.db).ok();
        if let Some(file) = &file {
            status.set_readers(file);
            status.listen((file.dev(), file.ino()));
        }
        for warning in &place.warnings {
            log::warn(
                "not-lasting",
                &[("db", &settings.db.display()), ("warning", warning)],
            );
        }
        // Before the database is opened, so that nothing is written where not all can be heard; and while
        // there is one thread, because of the umask.
        let sockets = Sockets::bind(&settings.sources, settings.http_wait)?;

        let could_not = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("cannot {what}: {e}")
        };
        let policy = Policy {
            interval: settings.commit_interval,
            // Before the queue is full, so that a source which cannot wait finds room meanwhile.
            rows: settings.commit_rows.min((settings.queue_rows / 2).max(1)),
        };
        let queue = Arc::new(Queue::new(settings.queue_rows, policy));
        let exchange = Arc::new(Exchange::new().map_err(could_not("make an eventfd"))?);
        // Before the other thread starts: it inherits the mask, so that signals come to this one.
        signals::block_signals().map_err(could_not("block signals"))?;
        let writer = Writer {
            path: settings.db.clone(),
            settings: settings.clone(),
            start: Start {
                now_ns: sys::clock_ns(Clock::Real),
                boot_id: sys::boot_id(),
                boot_ns: sys::clock_ns(Clock::Boot),
                machine: Machine::look(file.map(|file| file.dev())),
                may_repeat: settings.sources.iter().any(SourceSpec::may_repeat),
            },
            queue: queue.clone(),
            exchange: exchange.clone(),
            clock: Box::new(Moment::now),
            lock: RefCell::new(place.lock),
            socket_files: sockets.files(),
        };
        sys::spawn("writer", Box::new(|| writer.run())).map_err(could_not("start a thread"))?;
        let now = Instant::now();
        let clock_offset_ns = (0..10).find_map(|_| sys::clock_offset_ns()).unwrap_or(0);
        Ok(Recorder {
            queue,
            exchange,
            phase: Phase::Opening,
            sampler: Sampler::default(),
            stdin: None,
            sockets,
            staging: Staging::new(settings.retain),
            source_failed: false,
            streams_first: false,
            sockets_first: false,
            clock: ClockWatch::new(clock_offset_ns),
            rejections: Limit::default(),
            status_line: StatusLine::new(now, &settings),
            status,
            manager: Manager::new(&|name| std::env::var_os(name), now),
            began: now,
            watches: Vec::new(),
            settings,
        })
    }
}
