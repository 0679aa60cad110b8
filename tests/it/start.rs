//! What a node says when it starts and nothing is wrong: what it is, and no word of warning.

use shopstream_tests::TestShop;

#[test]
fn a_normal_start_warns_of_nothing() {
    let mut shop = TestShop::start();
    shop.verify();
    assert_eq!(warnings(&shop), Vec::<String>::new(), "the first start");
    shop.stop();
    shop.restart();
    shop.verify();
    assert_eq!(warnings(&shop), Vec::<String>::new(), "a start on a log that is there");
    shop.finish();
}

fn warnings(shop: &TestShop) -> Vec<String> {
    let said = shop.complaints();
    assert!(said.contains("INFO"), "the node says nothing at all: {said}");
    said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).map(str::to_owned).collect()
}
