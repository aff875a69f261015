//! Guards against an argument that is no option and is taken for something else than its writer meant.

use crate::support::arguments::*;
use seawall::cli::{Invocation, table};

/// Guards against `seawall chekc` recording into the database that it was to check.
#[test]
fn an_unknown_command_or_a_stray_argument_is_refused_by_name() {
    for args in [&["chekc"][..], &[""], &["help", "chekc"]] {
        let (text, word) = (error(args, &[]), args[args.len() - 1]);
        assert!(text.contains(&format!("{word:?}")), "{text}");
        assert!(text.contains("record, status, check, "), "{text}");
    }
    assert!(error(&["--ack", "true"], &[]).contains(r#"unexpected argument "true""#));
    assert!(error(&["check", "x.db", "y.db"], &[]).contains(r#"unexpected argument "y.db""#));
    assert!(error(&["--ack", "check"], &[]).contains(r#"unexpected argument "check""#));
    assert!(error(&["backup", "x.db", "y.db"], &[]).contains(r#"unexpected argument "y.db""#));
}

/// Guards against `seawall check copy.db` that looks at another database, or at none.
#[test]
fn a_path_alone_is_the_database_of_a_command_that_has_one() {
    for (command, _) in table().unwrap() {
        let error = |args: &[&str]| error(&[&[command], args].concat(), &[]);
        if ["record", "backup"].contains(&command) {
            let text = error(&["x.db", "y.db"]);
            assert!(text.contains("unexpected argument"), "{text}");
            continue;
        }
        let by_flag = run(&[command, "--db", "x.db"], &[]);
        assert!(by_flag.is_ok() && by_flag != run(&[command], &[]));
        let variable = [("SEAWALL_DB", "of-the-container.db")];
        assert_eq!(run(&[command, "x.db"], &variable), by_flag);
        assert_eq!(error(&["x.db", "--db=y.db"]), "--db is given twice");
        let twice = error(&["--db=y.db", "x.db"]);
        assert!(twice.contains(r#"unexpected argument "x.db""#), "{twice}");
        let Ok(Invocation::Help(help)) = run(&[command, "-h"], &[]) else {
            panic!("no help of {command}");
        };
        assert!(help.contains(&format!("seawall {command} [PATH] ")));
    }
    let record = error(&["record", "x.db"], &[]);
    assert!(record.contains("a database is given by --db"), "{record}");
    let export = error(&["export", "out.csv"], &[]);
    assert_eq!(export, "export writes to stdout: seawall export > out.csv");
    assert!(run(&["export", "--db", "out.csv"], &[]).is_ok());
}

/// Guards against a backup at a place that nobody named.
#[test]
fn backup_takes_one_destination_and_a_dash_is_stdout() {
    let dest = |args: &[&str]| match run(args, &[]) {
        Ok(Invocation::Backup(backup)) => backup.dest,
        other => panic!("{args:?} gave {other:?}"),
    };
    assert_eq!(dest(&["backup", "--db=x", "y.db"]), Some("y.db".into()));
    assert_eq!(dest(&["backup", "-"]), None);
    assert!(error(&["backup"], &[]).starts_with("seawall backup needs a DEST"));
    assert!(error(&["backup", ""], &[]).starts_with(r#"DEST: "" is not a path"#));
}
