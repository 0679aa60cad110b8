//! Verbs answer for the shop that was meant, and make none by mistake.

use anyhow::{Result, ensure};
use shopstream_proto::admin::v1::DescribeNodeRequest;
use shopstream_tests::{Process, TestShop, program, tied};

use super::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_names_a_folder_is_not_answered_by_another_shop() -> Result<()> {
    let shop = tokio::task::spawn_blocking(TestShop::start).await?;
    let described =
        shop.client().await.shop().admin.describe_node(DescribeNodeRequest {}).await?.into_inner();
    ensure!(described.data == shop.data().display().to_string(), "{described:?}");
    ensure!(described.provider_url == shop.provider_url(), "{described:?}");
    tokio::task::spawn_blocking(move || {
        let other = tempfile::tempdir().expect("a folder");
        let (other, listen) = (other.path().display().to_string(), shop.door().to_string());
        for verb in [["log", "status"].as_slice(), &["events"], &["verify"], &["demo"]] {
            let said = run(&[verb, &["--listen", &listen, "--data", &other]].concat());
            assert!(!said.status.success(), "{verb:?}: {said:?}");
            let ours = shop.data().display().to_string();
            assert!(said.err.contains(&ours) && said.err.contains(&other), "{verb:?} names both: {said:?}");
            assert!(said.out.is_empty(), "{verb:?}: {said:?}");
            // By another name it is the same folder, and unnamed it is nobody's business.
            let roundabout = format!("{ours}/../{}", shop.data().file_name().expect("a name").display());
            let said = run(&[verb, &["--listen", &listen, "--data", &roundabout]].concat());
            assert!(said.status.success(), "{verb:?}: {said:?}");
        }
        assert!(run(&["verify", "--listen", &listen]).status.success());
        shop.finish();
    })
    .await?;
    Ok(())
}

#[test]
fn a_verb_without_a_shop_makes_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("nothing");
    let place = ["--listen", "127.0.0.1:1", "--data", data.to_str().expect("a path")];
    let verbs: [&[&str]; 7] = [
        &["events"],
        &["verify"],
        &["log", "status"],
        &["log", "repair"],
        &["parked", "list"],
        &["attention", "list"],
        &["attention", "resume", "chk_1", "--reason", "r"],
    ];
    for verb in verbs {
        let said = run(&[verb, &place].concat());
        assert!(!said.status.success() && said.err.contains("there is no shop in"), "{verb:?}: {said:?}");
        assert!(!data.exists(), "{verb:?} made {}", data.display());
    }
}

#[test]
fn a_word_that_nothing_is_called_by_is_refused() {
    let mut shop = TestShop::start();
    assert!(shop.verb(&["demo"]).status.success());
    for (filter, there) in
        [(["--kind", "nope"], "reservation"), (["--type", "OrderConfirmd"], "OrderConfirmed")]
    {
        let said = shop.verb(&["events", filter[0], filter[1]]);
        assert!(!said.status.success() && said.err.contains(there), "{said:?}");
    }
    let said = shop.verb(&["events", "--json", "--type", "OrderSubmitted"]);
    let event: serde_json::Value =
        serde_json::from_str(said.out.lines().next().expect("a line")).expect("JSON");
    for field in ["traceparent", "body_hash", "correlation_id", "effective_at"] {
        assert!(event.get(field).is_some(), "no {field}: {event}");
    }
    // A verb's own node ends as quietly as it began.
    shop.stop();
    let said = shop.verb(&["log", "status"]);
    assert!(said.status.success() && ends_quietly(&said.err), "{said:?}");
    let said = shop.verb(&["log", "repair"]);
    assert!(said.status.success() && ends_quietly(&said.err), "{said:?}");
    shop.restart();
    shop.finish();
}

/// It stops its own Postgres, and does not complain that it is gone.
fn ends_quietly(said: &str) -> bool {
    !["was lost", "was closed", "cannot be reached", "nothing is heard"]
        .iter()
        .any(|word| said.contains(word))
}

/// Each would know nothing of the money of the others.
#[test]
fn nodes_that_share_a_log_must_share_a_provider() {
    let log = ["--log", "kafka://127.0.0.1:1/t"];
    let database = ["--database", "postgres://127.0.0.1:1/d"];
    // With a private database too: whoever takes the log over would know nothing of what was paid before.
    for flags in [log.to_vec(), [log, database].concat()] {
        let said = TestShop::refused(&flags);
        assert!(!said.status.success() && said.err.contains("--provider"), "{said:?}");
        let said = run(&[["config"].as_slice(), &flags].concat());
        assert!(said.status.success() && said.err.contains("--provider"), "{said:?}");
    }
}

fn run(arguments: &[&str]) -> shopstream_tests::Said {
    let mut command = tied(program());
    command.args(arguments);
    Process::spawn(&arguments.join(" "), command).finish(PATIENCE)
}
