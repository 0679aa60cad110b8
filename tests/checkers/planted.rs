//! A fault planted in what the true run left, for every promise; and the promise goes red.

use shopstream_domain::{StreamKind, Version};
use shopstream_eventlog::fold::Void;
use shopstream_eventlog::record::Kind;
use shopstream_eventlog::{CommandId, Position, Snapshot, Verdict};
use shopstream_tests::checkers::history::{CommandCall, Outcome};
use shopstream_tests::checkers::log::{Entry, LogImage};
use shopstream_tests::checkers::{Evidence, Invariant, all};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::client::ACTOR;
use crate::run;

/// The promise is red after `plant`.
#[track_caller]
fn red(invariant: Invariant, plant: impl FnOnce(&mut Evidence)) {
    let Some(evidence) = run::evidence() else { return };
    let mut evidence = evidence.clone();
    plant(&mut evidence);
    let verdicts = all(&evidence);
    let verdict = verdicts.iter().find(|verdict| verdict.invariant == invariant).expect("a verdict");
    assert!(verdict.broken > 0, "{verdict}");
    println!("{verdict}");
}

/// A command that was answered and left a commit, the `nth` of them.
fn answered(evidence: &Evidence, nth: usize) -> (usize, Position) {
    let by_command = evidence.log.by_command();
    let mut found = evidence.history.commands.iter().enumerate().filter_map(|(index, call)| {
        let answer = call.outcome.answer()?;
        by_command.get(&(call.stream.as_str(), call.command_id)).map(|_| (index, answer.position))
    });
    found.nth(nth).expect("commands that were answered")
}

fn entry(log: &mut LogImage, position: Position) -> &mut Entry {
    let records = &mut log.partitions[usize::from(position.partition)];
    records.iter_mut().find(|entry| entry.position == position).expect("a record")
}

/// Where the first event of this name is.
fn event(log: &LogImage, name: &str) -> Position {
    let has = |entry: &&Entry| {
        entry.counted().is_some_and(|commit| commit.events.iter().any(|event| event.event_type == name))
    };
    log.entries().find(has).map(|entry| entry.position).unwrap_or_else(|| panic!("no {name} on the log"))
}

/// Puts a record there once more, behind all others of its partition, as the next version of its stream.
fn again(log: &mut LogImage, position: Position) {
    let mut copy = entry(log, position).clone();
    let stream = copy.counted().expect("a commit").stream.clone();
    let last: Version = log
        .commits()
        .filter(|(_, commit)| commit.stream == stream)
        .map(|(_, commit)| commit.last_version())
        .max()
        .expect("a version");
    let records = &mut log.partitions[usize::from(position.partition)];
    copy.position.offset = records.len() as u64;
    copy.commit.as_mut().expect("a commit").first_version = last + 1;
    records.push(copy);
}

fn remove(log: &mut LogImage, position: Position) {
    log.partitions[usize::from(position.partition)].retain(|entry| entry.position != position);
}

/// All attempts at the command of one.
fn attempts(evidence: &mut Evidence, index: usize) -> impl Iterator<Item = &mut CommandCall> {
    let CommandCall { stream, command_id, .. } = evidence.history.commands[index].clone();
    let same = move |call: &&mut CommandCall| call.stream == stream && call.command_id == command_id;
    evidence.history.commands.iter_mut().filter(same)
}

#[test]
fn i1_an_acknowledged_commit_that_is_not_there() {
    red(Invariant::I1, |evidence| {
        let (_, position) = answered(evidence, 20);
        evidence.log.partitions[usize::from(position.partition)].truncate(position.offset as usize);
    });
}

#[test]
fn i1_an_acknowledged_commit_that_says_something_else() {
    red(Invariant::I1, |evidence| {
        let (_, position) = answered(evidence, 20);
        entry(&mut evidence.log, position).commit.as_mut().expect("a commit").body_hash ^= 1;
    });
}

#[test]
fn i1_readers_that_differ() {
    red(Invariant::I1, |evidence| drop(evidence.second[3].pop()));
}

#[test]
fn i2_an_effect_of_a_command_that_failed() {
    red(Invariant::I2, |evidence| {
        let (index, _) = answered(evidence, 20);
        attempts(evidence, index).for_each(|call| call.outcome = Outcome::Fail("planted".into()));
    });
}

#[test]
fn i2_an_effect_of_nobodys_command() {
    red(Invariant::I2, |evidence| {
        let (index, _) = answered(evidence, 20);
        let id = evidence.history.commands[index].command_id;
        evidence.history.commands.retain(|call| call.command_id != id);
    });
    red(Invariant::I2, |evidence| {
        let position = event(&evidence.log, "OrderConfirmed");
        entry(&mut evidence.log, position).commit.as_mut().expect("a commit").actor = "mallory".into();
    });
    red(Invariant::I2, |evidence| {
        let position = event(&evidence.log, "OrderConfirmed");
        let commit = entry(&mut evidence.log, position).commit.as_mut().expect("a commit");
        commit.causation_id = "default/order/ord_never@1".into();
    });
}

#[test]
fn i3_a_command_that_was_carried_out_twice() {
    red(Invariant::I3, |evidence| {
        let (_, position) = answered(evidence, 20);
        again(&mut evidence.log, position);
    });
}

/// A request that was answered more than once.
fn repeated(evidence: &mut Evidence) -> &mut CommandCall {
    let commands = &evidence.history.commands;
    let is_again = |(index, call): (usize, &CommandCall)| {
        let before = &commands[..index];
        let same =
            |other: &&CommandCall| (&other.stream, &other.request_id) == (&call.stream, &call.request_id);
        let again = call.outcome.answer().is_some()
            && before.iter().filter(same).any(|other| other.outcome.answer().is_some());
        again.then_some(index)
    };
    let index = commands.iter().enumerate().find_map(is_again).expect("a request that was repeated");
    &mut evidence.history.commands[index]
}

#[test]
fn i3_two_answers_to_one_request() {
    red(Invariant::I3, |evidence| {
        if let Outcome::Ok(answer) = &mut repeated(evidence).outcome {
            answer.body.push(0);
        }
    });
}

#[test]
fn i3_another_wish_under_the_same_request_id() {
    red(Invariant::I3, |evidence| repeated(evidence).meant ^= 1);
}

#[test]
fn i4_a_version_that_is_left_out() {
    red(Invariant::I4, |evidence| {
        let (_, position) = answered(evidence, 20);
        entry(&mut evidence.log, position).commit.as_mut().expect("a commit").first_version += 1;
    });
    red(Invariant::I4, |evidence| {
        let position = event(&evidence.log, "ReservationRequested");
        remove(&mut evidence.log, position);
    });
}

#[test]
fn i5_a_restart_on_the_same_epoch() {
    red(Invariant::I5, |evidence| {
        let records = &mut evidence.log.partitions[0];
        let claims = records.iter().enumerate().filter(|(_, entry)| entry.record.header.kind == Kind::Claim);
        let places: Vec<usize> = claims.map(|(place, _)| place).collect();
        let [first, second, ..] = places[..] else { panic!("the killed node claims again") };
        records[second].record.header.epoch = records[first].record.header.epoch;
    });
}

#[test]
fn i5_a_void_record_that_was_acknowledged() {
    red(Invariant::I5, |evidence| {
        let (_, position) = answered(evidence, 20);
        entry(&mut evidence.log, position).verdict = Verdict::Void(Void::Fenced);
    });
}

#[test]
fn i5_a_late_record_of_a_fenced_owner_that_counts() {
    red(Invariant::I5, |evidence| {
        let (_, position) = answered(evidence, 0);
        again(&mut evidence.log, position);
    });
}

#[test]
fn i6_two_commands_that_took_one_version() {
    red(Invariant::I6, |evidence| {
        let expecting =
            |call: &&mut CommandCall| call.expected_version.is_some() && call.outcome.answer().is_some();
        let mut calls = evidence.history.commands.iter_mut().filter(expecting);
        let (first, second) = (calls.next().expect("one"), calls.next().expect("another"));
        second.expected_version = first.expected_version;
    });
}

#[test]
fn i6_a_command_that_took_effect_before_it_was_asked_for() {
    red(Invariant::I6, |evidence| {
        let on_stock = |call: &&mut CommandCall| {
            call.stream.ends_with("/CHECK-1@main") && call.outcome.answer().is_some()
        };
        let mut calls = evidence.history.commands.iter_mut().filter(on_stock);
        let (first, later) = (calls.next().expect("one"), calls.next().expect("another"));
        first.span.called = later.span.returned + 1;
        first.span.returned = later.span.returned + 2;
    });
}

#[test]
fn i7_units_given_out_twice() {
    red(Invariant::I7, |evidence| {
        let position = event(&evidence.log, "StockCommitted");
        again(&mut evidence.log, position);
    });
}

#[test]
fn i8_money_that_moved_twice_or_in_another_amount() {
    let capture = |evidence: &Evidence| {
        let is_capture = |call: &shopstream_tests::Call| call.effective && call.operation == "capture";
        evidence.provider.iter().position(is_capture).expect("a capture")
    };
    red(Invariant::I8, |evidence| evidence.provider.push(evidence.provider[capture(evidence)].clone()));
    red(Invariant::I8, |evidence| {
        let capture = capture(evidence);
        evidence.provider[capture].amount_minor += 1;
    });
}

#[test]
fn i9_a_checkout_that_never_ends() {
    red(Invariant::I9, |evidence| {
        let position = event(&evidence.log, "CheckoutDone");
        remove(&mut evidence.log, position);
    });
}

#[test]
fn i9_stock_given_back_before_the_money() {
    red(Invariant::I9, |evidence| {
        // Of an order that was called off after it had been paid.
        let back = event(&evidence.log, "RefundSucceeded");
        let partition = &mut evidence.log.partitions[usize::from(back.partition)];
        let payment = partition.iter().position(|entry| entry.position == back).expect("the refund");
        let stream = partition[payment].counted().expect("a commit").stream.id().to_owned();
        let root = stream.trim_start_matches("pay_").rsplit_once('.').expect("an attempt").0.to_owned();
        let is_release = |entry: &Entry| {
            entry.counted().is_some_and(|commit| {
                commit.stream.id() == format!("res_{root}.1")
                    && commit.events[0].event_type == "ReservationReleased"
            })
        };
        let release = partition.iter().position(is_release).expect("the release");
        assert!(release > payment, "in truth the money comes first");
        (partition[release].position, partition[payment].position) =
            (partition[payment].position, partition[release].position);
        partition.swap(release, payment);
    });
}

#[test]
fn i10_a_row_that_is_not_its_replay() {
    red(Invariant::I10, |evidence| {
        evidence.database.tables.get_mut("order_detail.orders").expect("the orders")[7].push('x');
    });
    red(Invariant::I10, |evidence| {
        drop(evidence.database.tables.get_mut("stock_level.stock").expect("the stock").pop());
    });
    red(Invariant::I10, |evidence| drop(evidence.replay.remove("order_detail.orders")));
}

#[test]
fn i11_a_checkpoint_beside_its_rows() {
    red(Invariant::I11, |evidence| {
        evidence.database.cursors.get_mut("order_detail").expect("its cursors")[2].next -= 1;
    });
    red(Invariant::I11, |evidence| {
        evidence.database.cursors.get_mut("stock_level").expect("its cursors")[2].digest ^= 1;
    });
    red(Invariant::I11, |evidence| drop(evidence.database.journal.remove(40)));
    red(Invariant::I11, |evidence| evidence.database.journal[40].payload.push(' '));
}

#[test]
fn i12_an_event_that_is_left_out_or_comes_twice() {
    let longest = |evidence: &Evidence| {
        let sessions = &evidence.history.subscriptions[0].sessions;
        (0..sessions.len()).max_by_key(|session| sessions[*session].heard.len()).expect("sessions")
    };
    red(Invariant::I12, |evidence| {
        let session = longest(evidence);
        drop(evidence.history.subscriptions[0].sessions[session].heard.remove(0));
    });
    red(Invariant::I12, |evidence| {
        let session = longest(evidence);
        let heard = &mut evidence.history.subscriptions[0].sessions[session].heard;
        heard.insert(1, heard[0].clone());
    });
}

#[test]
fn i12_a_place_past_what_was_given() {
    red(Invariant::I12, |evidence| {
        let sessions = &mut evidence.history.subscriptions[0].sessions;
        let kept =
            sessions.iter_mut().find(|session| session.kept != session.from).expect("one that came on");
        kept.heard.clear();
    });
    red(Invariant::I12, |evidence| evidence.history.subscriptions[0].sessions[1].from[0] += 1);
    red(Invariant::I12, |evidence| evidence.history.subscriptions[0].sessions.truncate(1));
}

#[test]
fn i13_an_older_answer_and_one_that_never_was() {
    for shown in [0, 1_000_000] {
        red(Invariant::I13, |evidence| {
            let asks = |query: &&mut shopstream_tests::checkers::history::QueryCall| {
                !query.min_position.is_empty() && query.outcome.answer().is_some()
            };
            evidence.history.queries.iter_mut().find(asks).expect("a question").outcome = Outcome::Ok(shown);
        });
    }
}

#[test]
fn i17_an_event_that_no_longer_reads() {
    let change = |evidence: &mut Evidence, change: fn(&mut shopstream_eventlog::EventData)| {
        let position = event(&evidence.log, "OrderSubmitted");
        change(&mut entry(&mut evidence.log, position).commit.as_mut().expect("a commit").events[0]);
    };
    red(Invariant::I17, |evidence| change(evidence, |event| event.payload = "{}".into()));
    red(Invariant::I17, |evidence| change(evidence, |event| event.schema_version += 1));
    red(Invariant::I17, |evidence| {
        change(evidence, |event| {
            let text = String::from_utf8_lossy(&event.payload).replacen('{', "{\"unknown\":1,", 1);
            event.payload = text.into();
        });
    });
    red(Invariant::I17, |evidence| {
        evidence.corpus.retain(|golden| golden.event.event_type != "OrderSubmitted");
    });
    red(Invariant::I17, |evidence| evidence.corpus[5].event.payload = "[]".into());
}

/// A snapshot of a stock item, its bytes changed in the state and sealed again as the product does.
fn change_stock(evidence: &mut Evidence, change: impl FnOnce(&mut [u8])) {
    let is_stock = |it: &&mut Snapshot| it.stream.kind() == StreamKind::Stock;
    let snapshot = evidence.database.snapshots.iter_mut().find(is_stock).expect("a stock item's");
    let mut bytes = snapshot.bytes.to_vec();
    let (sum, rest) = bytes.split_at_mut(8);
    change(rest);
    let seed = xxh3_64(snapshot.stream.as_str().as_bytes());
    sum.copy_from_slice(&xxh3_64_with_seed(rest, seed).to_le_bytes());
    snapshot.bytes = bytes.into();
}

#[test]
fn i18_a_snapshot_that_is_not_its_history() {
    red(Invariant::I18, |evidence| {
        change_stock(evidence, |bytes| {
            let digit = bytes.windows(10).position(|at| at == b"\"on_hand\":").expect("JSON") + 10;
            bytes[digit] ^= 1;
        });
    });
    red(Invariant::I18, |evidence| {
        // The number of the format.
        change_stock(evidence, |bytes| bytes[0] += 1);
    });
    red(Invariant::I18, |evidence| {
        // Of a command that it has, another was made.
        let stream = evidence.database.snapshots[0].stream.clone();
        let of_it = |entry: &&mut Entry| entry.counted().is_some_and(|commit| commit.stream == stream);
        let entry = evidence.log.partitions.iter_mut().flatten().find(of_it).expect("its first commit");
        entry.commit.as_mut().expect("a commit").command_id = CommandId::derive(&["planted"]);
    });
    red(Invariant::I18, |evidence| evidence.database.snapshots[0].position.offset += 1);
    red(Invariant::I18, |evidence| evidence.database.snapshots[0].from -= 1);
    red(Invariant::I18, |evidence| evidence.database.snapshots[0].bytes = Default::default());
}

#[test]
fn every_commit_of_the_clients_is_known_to_be_theirs() {
    let Some(evidence) = run::evidence() else { return };
    let theirs = evidence.log.commits().filter(|(_, commit)| commit.actor == ACTOR).count();
    assert!(theirs > 100, "only {theirs}");
}
