//! Every method of the API is tried by a test against the running program.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use shopstream_proto::FILE_DESCRIPTOR_SET;

use crate::tree;

/// What the tests make of an answer that is to be there.
const SUCCEEDED: [&str; 2] = [".await?", ".await.expect("];
/// And of one that is to be a refusal.
const REFUSED: [&str; 4] = ["refusal(", "reused(", "_err(", "Err("];

#[test]
fn every_rpc_is_called_with_success_by_a_test_of_the_running_shop() {
    let tests: String = tree::files()
        .iter()
        .filter(|path| path.starts_with("tests/it") || path.starts_with("tests/src"))
        .filter_map(|path| tree::text(path))
        .collect();
    let has = |statement: &str, words: &[&str]| words.iter().any(|word| statement.contains(word));
    let successes: String = tests
        .split(';')
        .filter(|statement| has(statement, &SUCCEEDED) && !has(statement, &REFUSED))
        .collect();
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut methods = BTreeSet::new();
    let mut untried = Vec::new();
    for service in set.file.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            methods.insert(method.name());
            // The client's function: `.create_order(`.
            if !successes.contains(&format!(".{}(", snake_case(method.name()))) {
                untried.push(format!("{}.{}", service.name(), method.name()));
            }
        }
    }
    assert!(methods.len() >= 25, "only {} methods were found", methods.len());
    assert!(untried.is_empty(), "no test calls {untried:?} with success");
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}
