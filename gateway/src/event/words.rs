//! The words of a filter. One that nothing is called by passes nothing for ever, which looks like an empty log.

use shopstream_domain::StreamKind;
use shopstream_domain::model::Event;
use shopstream_proto::event::v1::ReadRequest;

use crate::failure::Failure;

/// Every kind of stream and every type of event in a filter is one that there is.
pub(super) fn check(request: &ReadRequest) -> Result<(), Failure> {
    let kinds: Vec<&str> = StreamKind::ALL.iter().map(|kind| kind.name()).collect();
    known("stream_types", &request.stream_types, &kinds)?;
    let mut types: Vec<&str> =
        StreamKind::ALL.iter().flat_map(|kind| Event::types(*kind)).map(|(name, _)| *name).collect();
    types.sort_unstable();
    types.dedup();
    known("event_types", &request.event_types, &types)
}

fn known(field: &str, words: &[String], known: &[&str]) -> Result<(), Failure> {
    match words.iter().position(|word| !known.contains(&word.as_str())) {
        None => Ok(()),
        Some(at) => {
            let there = known.join(", ");
            Err(Failure::invalid(
                format!("{field}[{at}]"),
                format!("nothing is called so: there are {there}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_nothing_is_called_by_is_refused_with_those_there_are() {
        let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let of = |kinds: &[&str], types: &[&str]| ReadRequest {
            stream_types: names(kinds),
            event_types: names(types),
            ..ReadRequest::default()
        };
        assert!(check(&of(&[], &[])).is_ok());
        assert!(check(&of(&["order", "stock"], &["OrderConfirmed"])).is_ok());
        let refused = |request| format!("{:?}", check(&request).expect_err("unknown"));
        let said = refused(of(&["order", "nope"], &[]));
        assert!(said.contains("stream_types[1]") && said.contains("checkout"), "{said}");
        let said = refused(of(&[], &["OrderConfirmd"]));
        assert!(said.contains("event_types[0]") && said.contains("OrderConfirmed"), "{said}");
    }
}
