//! Settings that are wrong, as the program says it.

use std::time::Duration;

use shopstream_tests::{Process, program, tied};

#[test]
fn a_wrong_setting_is_said_with_the_place_where_it_was_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.toml");
    std::fs::write(&file, "tail_mb = 'much'").expect("written");
    let file = file.to_str().expect("a path");
    let none: &[(&str, &str)] = &[];
    for (flags, variables, said) in [
        (
            [].as_slice(),
            [("SHOPSTREAM_PARTITIONS", "many")].as_slice(),
            "partitions is \"many\" (environment variable SHOPSTREAM_PARTITIONS), but it takes a whole number from 1 to 1024",
        ),
        (
            &[],
            &[("SHOPSTREAM_COLOUR", "red")],
            "colour is no setting (environment variable SHOPSTREAM_COLOUR): there are data, listen,",
        ),
        (
            &["--log", "redis://h/t"],
            none,
            "log is \"redis://h/t\" (flag --log), but it takes `local` or `kafka://HOST:PORT,…/TOPIC`",
        ),
        (
            &["--config", file],
            none,
            &format!("tail_mb is \"much\" (file {file}), but it takes a whole number"),
        ),
    ] {
        let mut command = tied(program());
        command.arg("config").args(flags).envs(variables.iter().copied());
        let answer = Process::spawn("config", command).finish(Duration::from_secs(60));
        assert!(!answer.status.success(), "{answer:?}");
        assert!(answer.err.contains(said), "{said}\n{answer:?}");
        assert!(!answer.err.contains(".rs"), "an inner place is shown: {answer:?}");
    }
}
