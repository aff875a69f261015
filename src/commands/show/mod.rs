//! `show`: the sensors for people, as a table, a chart or a page. Reads every reading of the window once, in short
//! snapshots, so that no checkpoint waits for it.

mod axis;
mod chart;
mod names;
mod page;
mod sums;
mod table;
mod values;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::{complain, no_sensor, print, print_part, warn_of_missing};
use crate::exit::Status;
use crate::order;
use crate::place::follow_links;
use crate::reading::glob;
use crate::reading::stream::AFTER_1970_NS;
use crate::store::{self, Error, Names, Position, Reader, Reading, Times};
use crate::sys::{self, Clock};
use crate::time::{When, timestamp};
use crate::units;
use crate::words::words;
use names::natural;
use page::Page;
use sums::{ShownSeries, Sums, Window};
use table::Style;

/// A page of one moment has times beside it.
const PAGE_NS_MIN: i64 = 10_000_000_000;
/// Size at which a part of the page is written.
const PIECE_BYTES: usize = 32 * 1024;

words!(ShowFormat: Text = "text", Html = "html");

#[derive(Clone, Debug, PartialEq)]
pub struct ShowSettings {
    pub db: PathBuf,
    pub format: ShowFormat,
    /// None: from the oldest reading on.
    pub since: Option<When>,
    pub sensor: String,
    pub busy_timeout: Duration,
}

/// Result of reading the database.
struct Found {
    now_ns: i64,
    window: Window,
    /// How long the window is, in words.
    over: String,
    /// In the order of their names.
    series: Vec<ShownSeries>,
    /// Time and step: of a run that began the step is 0.
    marks: Vec<(i64, i64)>,
    /// Notes below the table or on the page, one a line.
    notes: String,
}

pub fn run(settings: &ShowSettings) -> Status {
    let columns =
        sys::is_terminal(sys::STDOUT).then(|| sys::terminal_columns(sys::STDOUT).unwrap_or(80));
    match (gather(settings, columns), settings.format) {
        (Err(e), _) => complain(e),
        (Ok(found), ShowFormat::Text) => print(text(&found, columns).trim_end_matches('\n')),
        (Ok(found), ShowFormat::Html) => print_page(settings, &found),
    }
}

fn text(found: &Found, columns: Option<usize>) -> String {
    let style = Style {
        columns,
        colours: columns.is_some() && wants_colours(),
    };
    let mut text = match found.series.is_empty() {
        true => String::new(),
        false => table::table(&found.series, &found.over, style),
    };
    if let (Some(_), [series]) = (columns.and_then(chart::parts), &found.series[..]) {
        text += &chart::chart(series, &found.window, style);
    }
    text + &found.notes
}

fn print_page(settings: &ShowSettings, found: &Found) -> Status {
    let file = settings.db.file_name().unwrap_or_default();
    let page = Page {
        title: &file.to_string_lossy(),
        now_ns: found.now_ns,
        window: &found.window,
        marks: &found.marks,
        series: &found.series,
        notes: &found.notes,
    };
    let mut piece = page.head();
    for series in &found.series {
        page.section(&mut piece, series);
        if piece.len() > PIECE_BYTES {
            match print_part(&piece) {
                Status::Done => piece.clear(),
                status => return status,
            }
        }
    }
    print_part(&(piece + page::END))
}

/// Parts of the window for so many series.
fn parts(settings: &ShowSettings, columns: Option<usize>, series: usize) -> usize {
    match (settings.format, columns.and_then(chart::parts)) {
        (ShowFormat::Html, _) => page::parts(series),
        (ShowFormat::Text, Some(parts)) if series == 1 => parts,
        _ => table::BLOCKS_MAX,
    }
}

/// The times to show, and how long they are, in words.
fn window(
    settings: &ShowSettings,
    now_ns: i64,
    parts: usize,
    reader: &mut Reader,
) -> Result<(Times, Window, String), Error> {
    let (from_ns, to_ns, mut over) = match settings.since {
        None => {
            let times = reader.oldest_and_newest_time()?;
            let (oldest, newest) = times.unwrap_or((now_ns, now_ns));
            (oldest, newest, "all".to_owned())
        }
        Some(when @ When::Ago(ago)) => {
            let over = format!("last {}", units::duration(ago));
            (when.ns(now_ns), now_ns, over)
        }
        Some(when @ When::At(at)) => (when.ns(now_ns), now_ns, format!("since {}", timestamp(at))),
    };
    let times = Times {
        from_ns,
        ..Times::ALL
    };
    let mut window = Window {
        from_ns,
        to_ns,
        parts,
    };
    // The beginning of a recording would be one block at the end.
    let oldest = reader.oldest_since(from_ns)?.unwrap_or(from_ns);
    let [there, whole] = [oldest, from_ns].map(|from| to_ns.saturating_sub(from));
    if there > 0 && there < whole / 2 {
        // Rounded up, so that it is never 0.
        let seconds = (there as u64).div_ceil(1_000_000_000);
        over = format!("last {}", values::age(Duration::from_secs(seconds)));
        window.from_ns = oldest;
    }
    if settings.format == ShowFormat::Html {
        window.from_ns = window.from_ns.min(to_ns.saturating_sub(PAGE_NS_MIN));
    }
    Ok((times, window, over))
}

fn gather(settings: &ShowSettings, columns: Option<usize>) -> Result<Found, Error> {
    let now_ns = sys::clock_ns(Clock::Real);
    let db = follow_links(&settings.db);
    let beside = store::look_before_reading(&db)?;
    let mut reader = Reader::open(&db, settings.busy_timeout)?;
    warn_of_missing(&db, reader.missing(&beside));
    let newest = reader.newest()?;
    let recorded = reader.recorded()?;
    let mut matching = 0;
    reader.series(|sensor, _, _| {
        matching += usize::from(glob::matches(&settings.sensor, sensor));
    })?;
    let parts = parts(settings, columns, matching);
    let (times, window, over) = window(settings, now_ns, parts, &mut reader)?;
    let newest_id = newest.map_or(0, |(id, _)| id);
    let mut sums = sum_up(settings, times, &window, newest_id, &mut reader)?;
    // Sensors without a reading in the window are listed too: one that fell silent is worth seeing.
    reader.series(|sensor, field, kind| {
        if let Some(kind) = kind
            && glob::matches(&settings.sensor, sensor)
        {
            sums.place(sensor, field, kind, parts);
        }
    })?;
    // Readings of 1970 are in no window that begins later.
    let of_1970 = match window.from_ns >= AFTER_1970_NS {
        true => reader.sensor_of_1970()?,
        false => String::new(),
    };
    let marks = match settings.format {
        ShowFormat::Text => Vec::new(),
        ShowFormat::Html => reader.marks(Times {
            from_ns: window.from_ns,
            to_ns: window.to_ns,
        })?,
    };
    drop(reader);

    let (is_cut, left_out) = (sums.is_cut, sums.left_out);
    let mut series = sums.shown(now_ns);
    order::sort_by(&mut series, &|a, b| {
        natural(&a.sensor, &b.sensor).then_with(|| natural(&a.field, &b.field))
    });
    let mut notes = String::new();
    if is_cut {
        let shown = series.len();
        let what = match settings.format {
            ShowFormat::Text => "table",
            ShowFormat::Html => "page",
        };
        notes += &format!(
            "the {what} ends after {shown} series; {left_out} readings of others are not shown: choose with --sensor\n"
        );
    }
    notes += &match newest {
        None if recorded > 0 => format!(
            "no reading is left: {recorded} were recorded and have gone with --retain or --max-size\n"
        ),
        None => "no reading has been recorded\n".to_owned(),
        Some(_) if series.is_empty() => no_sensor(&settings.sensor) + "\n",
        Some((_, time_ns)) if series.iter().all(|series| series.last.is_none()) => format!(
            "no reading since {}; the last one that was recorded is of {} (--since none: all)\n",
            timestamp(times.from_ns),
            timestamp(time_ns)
        ),
        Some(_) => String::new(),
    };
    if !of_1970.is_empty() && glob::matches(&settings.sensor, &of_1970) {
        notes += &format!(
            "{} sent times of 1970 (--since none shows these readings; the log has why: event=old-times)\n",
            values::visible(&of_1970)
        );
    }
    Ok(Found {
        now_ns,
        window,
        over,
        series,
        marks,
        notes,
    })
}

fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Adds up every reading of these times.
fn sum_up(
    settings: &ShowSettings,
    times: Times,
    window: &Window,
    newest_id: i64,
    reader: &mut Reader,
) -> Result<Sums, Error> {
    let part_ns = window.part_ns();
    // Both closures need it, and never at once.
    let sums = RefCell::new(Sums::default());
    let mut names = Names::new(|sensor, field, kind| {
        glob::matches(&settings.sensor, sensor)
            .then(|| sums.borrow_mut().place(sensor, field, kind, window.parts))
    });
    let mut at = Position::default();
    let mut each = |reading: &Reading<'_>, place: &Option<usize>| {
        let sums = &mut *sums.borrow_mut();
        match sums.at(*place) {
            Some(sum) => {
                let part = window.part(part_ns, reading.time_ns);
                sum.add(reading.time_ns, reading.value, part);
            }
            None => sums.left_out += 1,
        }
        true
    };
    while reader.chunk(&mut at, newest_id, times, &mut names, &mut each)? {}
    drop(names);
    Ok(sums.into_inner())
}
