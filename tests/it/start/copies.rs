//! Folders: a copy of one, and one of another user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::unistd::{Uid, User};
use shopstream_tests::TestShop;

fn simulator(shop: &TestShop) -> String {
    fs::read_to_string(shop.data().join("provider/address")).expect("the simulator's note")
}

/// Processes are named in a folder, and a copy of it names them too.
#[test]
fn a_copy_of_a_folder_in_use_leaves_the_originals_processes_alone() {
    let mut shop = TestShop::start();
    assert!(shop.verb(&["demo"]).status.success());
    let before = simulator(&shop);
    let mut copy = shop.copied();
    assert_ne!(copy.provider_url(), shop.provider_url(), "the copy pays with the original's money");
    assert!(copy.verb(&["demo"]).status.success());
    copy.verify();
    copy.stop();
    assert_eq!(simulator(&shop), before);
    assert!(shop.is_alive());
    assert!(shop.verb(&["demo"]).status.success(), "{}", shop.complaints());
    shop.finish();
}

/// What root would write into a service's folder, the service could not open any more.
#[test]
fn root_changes_nothing_in_the_folder_of_another_user() {
    let Some(other) = User::from_name("nobody").ok().flatten().filter(|_| Uid::effective().is_root()) else {
        return shopstream_tests::skip("root", "only root can give folders away");
    };
    let mut shop = TestShop::start();
    shop.stop();
    let owner = format!("{}:{}", other.uid, other.gid);
    let given = Command::new("chown").args(["-R", &owner]).arg(shop.data()).status().expect("chown");
    assert!(given.success());
    for verb in [["log", "status"].as_slice(), &["events"], &["verify"], &["log", "repair"]] {
        let said = shop.verb(verb);
        assert!(!said.status.success() && said.err.contains("belongs to user nobody"), "{verb:?}: {said:?}");
    }
    let said = shop.second_node();
    assert!(said.err.contains("run it as nobody") && said.err.contains("nothing was changed"), "{said:?}");
    let listed = Command::new("find").arg(shop.data()).output().expect("find");
    for path in String::from_utf8(listed.stdout).expect("paths").lines() {
        let meta = fs::symlink_metadata(path).expect("still there");
        assert_eq!(meta.uid(), other.uid.as_raw(), "{path} has another owner now");
    }
}
