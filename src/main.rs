//! The program: signals first, then the settings, then one command.

use std::io::Write;

use seawall::VERSION;
use seawall::cli::{self, Invocation};
use seawall::commands;
use seawall::exit::Status;
use seawall::record::recorder;
use seawall::record::status;
use seawall::store;
use seawall::sys;

fn main() -> std::process::ExitCode {
    // Before anything else: as process 1 of a container there is no default action to fall back on.
    if let Err(e) = sys::handle_signals() {
        eprintln!("seawall: cannot handle signals: {e}");
        return Status::Failed.into();
    }
    let arguments = std::env::args_os().skip(1);
    let invocation = match cli::parse(arguments, &|name| std::env::var_os(name)) {
        Ok(invocation) => invocation,
        Err(usage) => {
            let _ = writeln!(std::io::stderr(), "seawall: {usage}");
            return Status::Usage.into();
        }
    };
    if !invocation.handles_signals()
        && let Err(e) = sys::give_up_on_signals()
    {
        eprintln!("seawall: cannot handle signals: {e}");
        return Status::Failed.into();
    }
    let status = match invocation {
        Invocation::Help(text) => commands::print(text.trim_end()),
        Invocation::Version => commands::print(format_args!(
            "seawall {VERSION} sqlite {}",
            store::version()
        )),
        Invocation::Check(settings) => commands::check(&settings),
        Invocation::Show(settings) => commands::show(&settings),
        Invocation::Export(settings) => commands::export(&settings),
        Invocation::Backup(settings) => commands::backup(&settings),
        Invocation::Checkpoint(settings) => commands::checkpoint(&settings),
        Invocation::Status(settings) => status::status(&settings),
        // The writer may hang in a disk that stalls; nobody waits for it here.
        Invocation::Record(settings) => sys::leave(recorder::record(settings) as u8),
    };
    status.into()
}
