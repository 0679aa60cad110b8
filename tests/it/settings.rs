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
            &[],
            &[("SHOPSTREAM_HOLD_SECOND", "60")],
            "hold_second is no setting (environment variable SHOPSTREAM_HOLD_SECOND): did you mean hold_seconds?",
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

/// Kubernetes sets such variables for every service that is called like us, and Docker for every link.
#[test]
fn variables_of_an_orchestrator_are_named_and_ignored() {
    let foreign = [
        ("SHOPSTREAM_SERVICE_HOST", "10.0.0.1"),
        ("SHOPSTREAM_SERVICE_PORT", "50051"),
        ("SHOPSTREAM_SERVICE_PORT_GRPC", "50051"),
        ("SHOPSTREAM_PORT", "tcp://10.0.0.1:50051"),
        ("SHOPSTREAM_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("SHOPSTREAM_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("SHOPSTREAM_PORT_50051_TCP_PROTO", "tcp"),
        ("SHOPSTREAM_DB_SERVICE_HOST", "10.0.0.2"),
        ("SHOPSTREAM_DB_PORT_5432_TCP_PORT", "5432"),
        ("SHOPSTREAM_NAME", "/till/shopstream"),
        ("SHOPSTREAM_ENV_LANG", "C.UTF-8"),
    ];
    let mut command = tied(program());
    command.arg("config").envs(foreign);
    let answer = Process::spawn("config", command).finish(Duration::from_secs(60));
    assert!(answer.status.success(), "{answer:?}");
    let told: Vec<&str> = answer.err.lines().filter(|line| line.contains("ignored")).collect();
    assert_eq!(told.len(), 1, "{answer:?}");
    assert!(foreign.iter().all(|(name, _)| told[0].contains(name)), "{told:?}");
}
