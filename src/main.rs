//! The program: signals first, then the settings, then one command.

use std::io::Write;

use seawall::VERSION;
use seawall::cli::{self, Invocation};
use seawall::commands::{answer, backup, check, checkpoint, export, show, status};
use seawall::exit::Status;
use seawall::log;
use seawall::record::recorder;
use seawall::store;
use seawall::sys::{self, bus_error, signals};

fn main() -> std::process::ExitCode {
    // Before anything else: as process 1 of a container there is no default action to fall back on.
    if let Err(e) = signals::handle_signals().and_then(|()| bus_error::handle()) {
        eprintln!("seawall: cannot handle signals: {e}");
        return Status::Failed.into();
    }
    log::find_journal(std::env::var_os("JOURNAL_STREAM"));
    let arguments = std::env::args_os().skip(1);
    let invocation = match cli::parse(arguments, &|name| std::env::var_os(name)) {
        Ok(invocation) => invocation,
        Err(usage) => {
            let _ = writeln!(std::io::stderr(), "seawall: {usage}");
            return Status::Usage.into();
        }
    };
    if !invocation.handles_signals()
        && let Err(e) = signals::give_up_on_signals()
    {
        eprintln!("seawall: cannot handle signals: {e}");
        return Status::Failed.into();
    }
    let status = match invocation {
        Invocation::Help(text) => answer::print(text.trim_end()),
        Invocation::Version => answer::print(format_args!(
            "seawall {VERSION} sqlite {}",
            store::version()
        )),
        Invocation::Check(settings) => check::run(&settings),
        Invocation::Show(settings) => show::run(&settings),
        Invocation::Export(settings) => export::run(&settings),
        Invocation::Backup(settings) => backup::run(&settings),
        Invocation::Checkpoint(settings) => checkpoint::run(&settings),
        Invocation::Status(settings) => status::run(&settings),
        Invocation::Record(settings) => {
            bus_error::is_of_recorder();
            log::set_level(settings.log_level);
            let names = std::env::vars_os().map(|(name, _)| name);
            for name in cli::unknown_variables(names) {
                log::warn("unknown-variable", &[("name", &name)]);
            }
            if let Some(reason) = cli::doubt_of(&settings.db) {
                let db = settings.db.display();
                log::warn("doubtful-path", &[("db", &db), ("reason", &reason)]);
            }
            // The writer may hang in a disk that stalls; nobody waits for it here.
            sys::leave(recorder::record(settings) as u8)
        }
    };
    status.into()
}
