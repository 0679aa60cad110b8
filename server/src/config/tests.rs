//! Settings: what is taken, and what is said of what is not.

use super::*;

#[test]
fn a_log_url_reads_back_as_it_was_written() {
    for text in ["local", "kafka://127.0.0.1:9092,127.0.0.1:9093/shopstream.core"] {
        assert_eq!(text.parse::<LogUrl>().unwrap().to_string(), text);
    }
    for text in ["", "kafka://", "kafka://h:1", "kafka:///t", "redis://h/t"] {
        assert!(text.parse::<LogUrl>().is_err(), "{text}");
    }
}

#[test]
fn what_is_printed_holds_no_secret() {
    let config = Config { database: Some(Secret("postgres://u:hunter2@h/d".into())), ..Config::default() };
    let shown = config.render().unwrap() + &format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("listen = \"127.0.0.1:50051\""), "{shown}");
}

#[test]
fn a_flag_wins_over_the_default() {
    let flags = ConfigFlags { log: Some("kafka://h:1/t".into()), ..ConfigFlags::default() };
    let config = Config::load(&flags).unwrap();
    assert_eq!(config.log.to_string(), "kafka://h:1/t");
}

#[test]
fn roles_apart_need_a_log_and_a_database_that_are_shared() {
    let flags = |roles: &[&str], log: Option<&str>, database: Option<&str>| ConfigFlags {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        log: log.map(str::to_owned),
        database: database.map(str::to_owned),
        ..ConfigFlags::default()
    };
    let (kafka, postgres) = (Some("kafka://h:1/t"), Some("postgres://h/d"));
    let some = ["commands", "sagas"];
    let shared = Config::load(&flags(&some, kafka, postgres)).unwrap();
    assert_eq!(shared.roles, [Role::Commands, Role::Sagas].into());
    for alone in [flags(&some, None, None), flags(&some, kafka, None), flags(&some, None, postgres)] {
        assert!(matches!(refused(&alone), ConfigError::Value { key, .. } if key == "roles"), "{alone:?}");
    }
}

fn refused(flags: &ConfigFlags) -> ConfigError {
    let refused = Config::load(flags).unwrap_err();
    let text = format!("{refused:#}");
    assert!(!text.contains(".rs") && !text.contains("figment"), "an inner place is shown: {text}");
    refused.downcast().expect("an error of the settings")
}

/// What the settings say of a file of this text.
fn refused_file(text: &str) -> (ConfigError, Place) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    std::fs::write(&path, text).unwrap();
    let flags = ConfigFlags { config: Some(path.clone()), ..ConfigFlags::default() };
    (refused(&flags), Place::File(path))
}

#[test]
fn a_flag_that_is_wrong_is_named_with_what_it_takes() {
    let flag = |key: &str| Place::Flag(format!("--{key}"));
    for (flags, key, found) in [
        (ConfigFlags { log: Some("redis://h/t".into()), ..Default::default() }, "log", "\"redis://h/t\""),
        (ConfigFlags { roles: vec!["cook".into()], ..Default::default() }, "roles", "[\"cook\"]"),
        (ConfigFlags { roles: vec!["gateway".into()], ..Default::default() }, "roles", "[\"gateway\"]"),
    ] {
        let (key, found) = (key.to_owned(), found.to_owned());
        let (place, allowed) = (flag(&key), error::allowed(&key));
        assert_eq!(refused(&flags), ConfigError::Value { key, found, place, allowed });
    }
}

#[test]
fn a_setting_in_a_file_is_named_with_the_file() {
    for (text, key, found) in [
        ("listen = 'everywhere'", "listen", "\"everywhere\""),
        ("partitions = 0", "partitions", "0"),
        ("partitions = 'many'", "partitions", "\"many\""),
        ("queue = -1", "queue", "-1"),
        ("database = 5", "database", "*****"),
        ("log = 'kafka://h'", "log", "\"kafka://h\""),
    ] {
        let (refused, place) = refused_file(text);
        let (key, found) = (key.to_owned(), found.to_owned());
        assert_eq!(
            refused,
            ConfigError::Value { allowed: error::allowed(&key), key, found, place },
            "{text}"
        );
    }
    let (refused, place) = refused_file("colour = 'red'");
    assert!(refused.to_string().contains("data, listen, advertise, admin, log"), "{refused}");
    assert!(matches!(refused, ConfigError::Unknown { key, place: at, .. } if key == "colour" && at == place));
    let (refused, place) = refused_file("data = = 1");
    assert!(matches!(&refused, ConfigError::Unreadable { place: at, .. } if *at == place), "{refused}");
}

#[test]
fn every_setting_says_what_it_takes() {
    let figment::value::Value::Dict(_, settings) =
        figment::value::Value::serialize(Config::default()).unwrap()
    else {
        panic!("settings are a table")
    };
    for key in settings.keys() {
        assert_ne!(error::allowed(key), error::allowed("no setting"), "{key}");
    }
}

#[test]
fn a_node_has_room_for_one_at_least() {
    for key in ["queue", "calls", "connections", "streams", "cache_mb", "tail_mb"] {
        for wrong in ["0", "-1", "9223372036854775807"] {
            let (error, _) = refused_file(&format!("{key} = {wrong}\n"));
            assert!(error.to_string().contains(&format!("{key} ")), "{error}");
        }
    }
}
