//! The ways to a server, as a test process meets them.

use std::process::Command;

use shopstream_test_servers::kafka;

/// Asked for by the other test, in a process that has nothing.
#[test]
#[ignore = "for the test below"]
fn ask_for_kafka() {
    println!("found {:?}", kafka::brokers());
}

/// What a test says that asks for Kafka in an environment of these variables alone.
fn asked(variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    command.args(["--exact", "ask_for_kafka", "--ignored", "--nocapture"]).env_clear();
    let said = command.envs(variables.iter().copied()).output().expect("it runs");
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (said.status.success(), text)
}

#[test]
fn a_test_that_has_no_way_to_kafka_fails_and_names_all_three() {
    // An engine that does not answer, whatever this machine has.
    let (passed, said) =
        asked(&[("PATH", "/nonexistent"), ("DOCKER_HOST", "unix:///nonexistent/docker.sock")]);
    assert!(!passed, "{said}");
    for way in ["SHOPSTREAM_TEST_KAFKA = ", "deploy/install test", "no java", "Docker engine", "/nonexistent"]
    {
        assert!(said.contains(way), "{way} is not in:\n{said}");
    }
}

#[test]
fn a_broker_that_is_named_is_taken_as_it_is() {
    let (passed, said) = asked(&[("PATH", "/nonexistent"), ("SHOPSTREAM_TEST_KAFKA", "somewhere:9092")]);
    assert!(passed && said.contains("found Some(\"somewhere:9092\")"), "{said}");
}

#[test]
fn tests_with_kafka_can_be_left_out_loudly() {
    let (passed, said) = asked(&[("PATH", "/nonexistent"), ("SHOPSTREAM_TEST_SKIP", "kafka")]);
    assert!(passed && said.contains("SKIPPED") && said.contains("found None"), "{said}");
}
