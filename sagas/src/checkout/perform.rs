//! Carries out one move of a checkout.

use futures::join;
use metrics::counter;
use shopstream_domain::inventory::{ReservationCommand, ReservationStatus};
use shopstream_domain::order::{
    CancelReason, CheckoutAwaitingCustomer, CheckoutCancelled, CheckoutCommand, CheckoutCompensating,
    CheckoutDone, CheckoutNeedsAttention, CheckoutPaymentPending, CheckoutPaymentSecured,
    CheckoutPaymentUnknown, CheckoutReversing, CheckoutStarted, Command, Stage, Step as Fact, Timer,
    TimerKind, Undo,
};
use shopstream_domain::payment::{self, OperationState, PaymentIntent, PaymentStatus, ProviderOperation};
use shopstream_domain::{Refused, StoredEvent, Timestamp};
use tracing::{debug, error, info};

use super::Checkouts;
use super::plan::{Move, Which};
use super::view::{Attempt, Following, View};
use crate::issue::{Step, Unanswered};
use crate::known::Known;
use crate::means::Stuck;
use crate::payments::{Carried, Seen};
use crate::process::Rest;
use crate::stock::HoldRequest;

impl Checkouts {
    /// Carries out `planned`. A rest where the checkout can do nothing more now.
    ///
    /// # Errors
    /// Somebody did not answer. What was done is on the streams.
    pub(super) async fn perform(&self, view: &mut View, planned: &Move) -> Result<Option<Rest>, Stuck> {
        match planned {
            Move::Start => self.start(view).await?,
            Move::Allocate => {
                let keys = view.reservation().keys().to_vec();
                self.stock.allocate(view.hold_mut(), &keys).await?;
            }
            Move::Pay => self.pay(view).await?,
            Move::Adopt => self.adopt(view).await?,
            Move::CarryOut(which) => return self.carry_out(view, *which, Seen::Perhaps).await,
            Move::AwaitCustomer => self.await_customer(view).await?,
            Move::NoteUnknown => self.note_unknown(view).await?,
            Move::AskAgain => self.ask_again(view).await?,
            Move::Secure => self.secure(view).await?,
            Move::Expire => drop(self.stock.expire(view.hold_mut()).await?),
            Move::HoldAgain => self.hold_again(view).await?,
            Move::Follow(Which::This) => self.stock.follow(&mut view.first).await?,
            Move::Follow(Which::Next) => {
                if let Some(again) = &mut view.again {
                    self.stock.follow(again).await?;
                }
            }
            Move::Confirm => {
                let reservation_id = view.hold().id().clone();
                let payments = vec![view.payment.id.clone()];
                self.tell_order(view, "confirm", Command::Confirm { reservation_id, payments }).await?;
            }
            Move::Capture => {
                self.ask_payment(view, Which::This, payment::Command::RequestCapture { amount_minor: None })
                    .await?;
                return self.carry_out(view, Which::This, Seen::Never).await;
            }
            Move::Void(which) => {
                self.ask_payment(view, *which, payment::Command::RequestVoid).await?;
                return self.carry_out(view, *which, Seen::Never).await;
            }
            Move::Refund(which) => {
                self.refund(view, *which).await?;
                return self.carry_out(view, *which, Seen::Never).await;
            }
            Move::GiveUpRest(which) => self.ask_payment(view, *which, payment::Command::GiveUp).await?,
            Move::AcceptLate => self.ask_payment(view, Which::This, payment::Command::AcceptLate).await?,
            Move::SettleCapture => {
                let reason = view.memory.state().money_settled().unwrap_or_default().to_owned();
                self.ask_payment(view, Which::This, payment::Command::SettleCapture { reason }).await?;
            }
            Move::Settle(which) => {
                let reason = view.memory.state().money_settled().unwrap_or_default().to_owned();
                self.ask_payment(view, *which, payment::Command::Settle { reason }).await?;
                // There may be yet another one: all are read again.
                view.memory.set_stale();
            }
            Move::Finish => self.record(view, Fact::Done(CheckoutDone {})).await?,
            Move::Undo(reason) => self.undo(view, *reason).await?,
            Move::GiveUp(reason) => self.stock.give_up(view.hold_mut(), *reason).await?,
            Move::CancelOrder(reason) => {
                self.tell_order(view, "cancel", Command::Cancel { reason: *reason }).await?;
            }
            Move::FinishUndo(reason) => {
                self.record(view, Fact::Cancelled(CheckoutCancelled { reason: *reason })).await?;
            }
            Move::Attention { step } => {
                self.call_for_attention(view, step).await?;
                // Over for now: a resumption may be there already, and what failed before is no word on it.
                return Ok(Some(Rest::Waiting));
            }
            Move::Rest(rest) => return Ok(Some(rest.clone())),
        }
        Ok(None)
    }

    /// Both commands go to one shard, the memory first: the hold cannot count without it.
    async fn start(&self, view: &mut View) -> Result<(), Stuck> {
        let Some(demand) = &view.demand else {
            return Err(Stuck::OutOfPlace { stream: view.order.stream.clone() });
        };
        let started = CheckoutStarted {
            order_id: view.order_id.clone(),
            reservation_id: view.order_id.reservation(),
            total_minor: demand.total_minor,
            currency: demand.currency,
            payment_method_token: demand.method_token.clone(),
            hold_until: None,
            timer: None,
        };
        let keys = demand.keys.clone();
        let (memory, process) = (&mut view.memory, &view.process);
        let is_new = memory.state().stage().is_none();
        let step = Step::new("CheckoutStarted", 0);
        let started = CheckoutCommand::Record(Fact::Started(started));
        let remember =
            async { if is_new { self.means.tell(process, step, memory, started).await } else { Ok(Ok(())) } };
        let request =
            keys.map(|keys| self.request(process.tenant.clone(), view.order_id.reservation(), keys));
        let ask = async {
            match &request {
                Some(request) => self.stock.request(&mut view.first, request).await,
                None => Ok(()),
            }
        };
        let (remembered, asked) = join!(remember, ask);
        // Refused: it started before, and its hold may have ended since; the history is read next.
        drop(remembered?);
        match asked {
            Err(Stuck::Refused { .. }) => Ok(()),
            asked => asked,
        }
    }

    fn request(
        &self,
        tenant: shopstream_domain::TenantId,
        reservation_id: shopstream_domain::ReservationId,
        keys: Vec<shopstream_domain::inventory::StockKey>,
    ) -> HoldRequest {
        let settings = &self.means.settings;
        let (hold_seconds, hard_max_seconds) = (settings.hold_seconds, settings.hard_max_seconds);
        HoldRequest { tenant, reservation_id, keys, hold_seconds, hard_max_seconds }
    }

    /// The memory is written with the first record of the attempt, on the same shard.
    async fn pay(&self, view: &mut View) -> Result<(), Stuck> {
        let Some(demand) = &view.demand else {
            return Err(Stuck::OutOfPlace { stream: view.order.stream.clone() });
        };
        let Attempt { number, id, process, payment } = &mut view.payment;
        let initiate = payment::Command::Initiate {
            payment_id: id.clone(),
            order_id: view.order_id.clone(),
            amount_minor: demand.total_minor,
            currency: demand.currency,
            method_token: view
                .memory
                .state()
                .payment_method_token()
                .unwrap_or(&demand.method_token)
                .to_owned(),
        };
        let is_noted = view.memory.state().attempt() >= *number;
        let pending = pending(id.clone(), *number, None);
        let step = Step::new("CheckoutPaymentPending", *number);
        let memory = &mut view.memory;
        let remember = async {
            if is_noted { Ok(Ok(())) } else { self.means.tell(&view.process, step, memory, pending).await }
        };
        let initiate = self.means.tell(process, Step::new("initiate", 0), payment, initiate);
        let (remembered, initiated) = join!(remember, initiate);
        drop(remembered?);
        initiated?.map_err(|refused| Stuck::Refused { step: "initiate", refused })?;
        self.carry_out(view, Which::This, Seen::Never).await.map(drop)
    }

    async fn adopt(&self, view: &mut View) -> Result<(), Stuck> {
        let Some(Following { number, token }) = view.following.clone() else { return Ok(()) };
        let pending = pending(view.order_id.payment(number), number, token);
        let step = Step::new("CheckoutPaymentPending", number);
        drop(self.means.tell(&view.process, step, &mut view.memory, pending).await?);
        // The attempt after this one is now the one that runs: all are read from their streams.
        view.memory.set_stale();
        Ok(())
    }

    async fn carry_out(&self, view: &mut View, which: Which, seen: Seen) -> Result<Option<Rest>, Stuck> {
        let Attempt { process, payment, .. } = attempt(view, which);
        if payment.is_stale() {
            // What is open there may be another operation by now: nobody acts on what is known to be old.
            return Ok(None);
        }
        let Some(operation) = payment.state().open_operation().cloned() else { return Ok(None) };
        let carried = self.payments.carry_out(process, payment, seen).await?;
        if payment.is_stale() {
            // What became of the operation is read, so that a failure is seen as one and not tried again at once.
            self.means.load(payment, &crate::known::Reached::default()).await?;
        }
        let state = payment.state().operation(&operation.key).map(|operation| operation.state);
        let authorizing = payment.state().authorization_key() == Some(&operation.key);
        let given_up = payment.state().is_given_up();
        if which == Which::Next && !view.next_payment.holds_money() {
            // There may be yet another one: all are read again.
            view.memory.set_stale();
        }
        match carried {
            // The answer will be on the log; but what the other one is at may be what was open there before.
            Carried::ByAnother => {
                let at = self.means.look_again_at(view.tries);
                return Ok(Some(Rest::Until { at, tries: view.tries }));
            }
            // An authorisation that is declined or unknown has branches of its own.
            Carried::Through | Carried::Unknown if authorizing && !given_up => {}
            Carried::Through if authorizing => {}
            // A void of nobody knew what: the provider is asked next what there is.
            Carried::Through if operation.blind => {}
            Carried::Unknown => view.setback = Some(format!("the outcome of {} is not known", operation.key)),
            Carried::Through if state == Some(OperationState::Failed) => {
                view.setback = Some(format!("{} failed", operation.key));
            }
            Carried::Through => {}
        }
        Ok(None)
    }

    async fn await_customer(&self, view: &mut View) -> Result<(), Stuck> {
        let (code, until) = (view.payment.decline().0.to_owned(), view.until());
        let payment_id = view.payment.id.clone();
        let timer = Some(Timer { kind: TimerKind::CustomerAction, due_at: until });
        let awaiting =
            CheckoutAwaitingCustomer { payment_id: payment_id.clone(), code: code.clone(), until, timer };
        self.tell_order(view, "await_payment", Command::RecordAwaitingPayment { payment_id, code }).await?;
        self.record(view, Fact::AwaitingCustomer(awaiting)).await
    }

    async fn note_unknown(&self, view: &mut View) -> Result<(), Stuck> {
        let check_at = self.means.look_again_at(view.tries);
        view.tries += 1;
        self.hold_on(view, check_at).await?;
        self.record_unknown(view, check_at).await
    }

    async fn record_unknown(&self, view: &mut View, check_at: Timestamp) -> Result<(), Stuck> {
        let timer = Some(Timer { kind: TimerKind::PaymentCheck, due_at: check_at });
        let unknown = CheckoutPaymentUnknown { payment_id: view.payment.id.clone(), check_at, timer };
        self.record(view, Fact::PaymentUnknown(unknown)).await
    }

    async fn ask_again(&self, view: &mut View) -> Result<(), Stuck> {
        self.carry_out(view, Which::This, Seen::Perhaps).await?;
        let unknown = view.payment.status() == Some(PaymentStatus::OutcomeUnknown);
        if !unknown || view.is_stale() {
            return Ok(());
        }
        let check_at = self.means.look_again_at(view.tries);
        view.tries += 1;
        self.hold_on(view, check_at).await?;
        if check_at < view.until() {
            self.record_unknown(view, check_at).await
        } else {
            self.undo(view, CancelReason::PaymentUnknown).await
        }
    }

    /// Keeps the stock until the next look and a while longer, as far as the hard maximum allows.
    async fn hold_on(&self, view: &mut View, check_at: Timestamp) -> Result<(), Stuck> {
        if view.reservation().status() != ReservationStatus::Held || check_at < view.until() {
            return Ok(());
        }
        let hold = view.hold_mut();
        let longer = shopstream_domain::Duration::from_seconds(self.means.settings.check_after_seconds_max);
        let step = Step::new("extend", hold.reservation.attempt());
        let extend = ReservationCommand::Extend { until: check_at + longer };
        // Refused: it ran out. What follows from that is for the plan.
        drop(self.means.tell(&hold.process, step, &mut hold.reservation, extend).await?);
        if hold.reservation.is_stale() {
            self.means.load(&mut hold.reservation, &crate::known::Reached::default()).await?;
        }
        Ok(())
    }

    /// The pivot, with the memory of the money before it. Refused: the hold ran out, or somebody cancelled; the
    /// plan looks again.
    async fn secure(&self, view: &mut View) -> Result<(), Stuck> {
        let (payment_id, amount_minor) = (view.payment.id.clone(), view.total_minor());
        let secured = CheckoutPaymentSecured { payment_id, amount_minor, timer: None };
        let secured = CheckoutCommand::Record(Fact::PaymentSecured(secured));
        let is_noted = view.memory.state().stage() == Some(Stage::PaymentSecured);
        let step = Step::new("CheckoutPaymentSecured", view.memory.attempt());
        let (memory, process) = (&mut view.memory, &view.process);
        let hold = view.again.as_mut().unwrap_or(&mut view.first);
        let remember = async {
            if is_noted { Ok(Ok(())) } else { self.means.tell(process, step, memory, secured).await }
        };
        let (remembered, committed) = join!(remember, self.stock.commit(hold));
        drop(remembered?);
        drop(committed?);
        Ok(())
    }

    async fn hold_again(&self, view: &mut View) -> Result<(), Stuck> {
        let Some(demand) = &view.demand else {
            return Err(Stuck::OutOfPlace { stream: view.order.stream.clone() });
        };
        let keys = demand.keys.clone().unwrap_or_default();
        let mut hold = view.again.take().unwrap_or_else(|| view.second_hold());
        let request = self.request(view.tenant().clone(), hold.id().clone(), keys);
        info!(order = %view.order_id, "the hold of {} ran out under a secured payment: taking another", view.order_id);
        let asked = self.stock.request(&mut hold, &request).await;
        view.again = Some(hold);
        asked
    }

    async fn refund(&self, view: &mut View, which: Which) -> Result<(), Stuck> {
        let attempt = attempt(view, which);
        let refunds = attempt.payment.state().operations().iter();
        let refunds = refunds.filter(|known| known.operation == ProviderOperation::Refund).count();
        // Each try is a refund of its own: of what is left by then, which somebody may have made less since the last.
        let refund_id = format!("{}.reversal.{}", attempt.id, refunds + 1);
        self.ask_payment(view, which, payment::Command::RequestReversal { refund_id }).await
    }

    /// Begins to undo; what there is to undo is in the record, what is left is on the streams.
    pub(super) async fn undo(&self, view: &mut View, reason: CancelReason) -> Result<(), Stuck> {
        let undo = undo_list(view);
        let past = matches!(view.hold().status(), ReservationStatus::Committed)
            || view.memory.state().stage() == Some(Stage::Done);
        let fact = if past {
            Fact::Reversing(CheckoutReversing { reason, undo, timer: None })
        } else {
            Fact::Compensating(CheckoutCompensating { reason, undo, timer: None })
        };
        // What is short of stock or declined is a shop's everyday life: counted, and told in the order's timeline.
        counter!("shopstream_saga_undos_total", "saga" => "checkout", "reason" => reason.name()).increment(1);
        debug!(order = %view.order_id, reason = reason.name(), "undoing the checkout of {}: {}", view.order_id, reason.name());
        self.record(view, fact).await
    }

    pub(super) async fn call_for_attention(&self, view: &mut View, step: &str) -> Result<(), Stuck> {
        let detail = view.setback.clone().unwrap_or_else(|| "it keeps failing".to_owned());
        error!(order = %view.order_id, step, detail, "the checkout of {} needs attention: {step}: {detail}", view.order_id);
        counter!("shopstream_saga_needs_attention_total", "saga" => "checkout").increment(1);
        let fact = CheckoutNeedsAttention { step: step.to_owned(), detail };
        self.record(view, Fact::NeedsAttention(fact)).await
    }

    /// Writes a fact into the memory. Each record is the attempt of the next, so the same one is written once.
    async fn record(&self, view: &mut View, fact: Fact) -> Result<(), Stuck> {
        let name = fact.event_type();
        let step = Step::new(name, view.memory.attempt());
        let told =
            self.means.tell(&view.process, step, &mut view.memory, CheckoutCommand::Record(fact)).await?;
        told.map_err(|refused| Stuck::Refused { step: name, refused })
    }

    /// Refused: a cancellation was faster. The plan looks again.
    async fn tell_order(&self, view: &mut View, step: &str, command: Command) -> Result<(), Unanswered> {
        let step = Step::new(step, view.memory.attempt());
        let told: Result<(), Refused> =
            self.means.tell(&view.process, step, &mut view.order, command).await?;
        drop(told);
        Ok(())
    }

    async fn ask_payment(
        &self,
        view: &mut View,
        which: Which,
        command: payment::Command,
    ) -> Result<(), Stuck> {
        let Attempt { process, payment, .. } = attempt(view, which);
        let name = match command {
            payment::Command::RequestCapture { .. } => "capture",
            payment::Command::RequestVoid => "void",
            payment::Command::GiveUp => "give_up",
            payment::Command::AcceptLate => "accept_late",
            payment::Command::SettleCapture { .. } | payment::Command::Settle { .. } => "settle",
            _ => "refund",
        };
        let known: &mut Known<PaymentIntent> = payment;
        let step = Step::new(name, known.attempt());
        let asked = self.means.tell(process, step, known, command).await?;
        // Refused: something else is open there, or it is so already. The plan looks again.
        drop(asked);
        Ok(())
    }
}

fn attempt(view: &mut View, which: Which) -> &mut Attempt {
    match which {
        Which::This => &mut view.payment,
        Which::Next => &mut view.next_payment,
    }
}

fn pending(
    payment_id: shopstream_domain::PaymentId,
    attempt: u32,
    payment_method_token: Option<String>,
) -> CheckoutCommand {
    let pending = CheckoutPaymentPending { payment_id, attempt, payment_method_token, timer: None };
    CheckoutCommand::Record(Fact::PaymentPending(pending))
}

/// What there is to undo, in the order in which it is undone.
fn undo_list(view: &View) -> Vec<Undo> {
    let money = [&view.next_payment, &view.payment].into_iter().filter(|attempt| attempt.holds_money());
    let mut list: Vec<Undo> = money
        .map(|attempt| {
            let payment_id = attempt.id.clone();
            match attempt.payment.state().captured_minor() - attempt.payment.state().refunded_minor() {
                0 => Undo::VoidPayment { payment_id },
                amount_minor => Undo::RefundPayment { payment_id, amount_minor },
            }
        })
        .collect();
    match view.hold().status() {
        ReservationStatus::Requested | ReservationStatus::Held | ReservationStatus::Committed => {
            list.push(Undo::ReleaseStock);
        }
        ReservationStatus::Missing | ReservationStatus::Rejected | ReservationStatus::Released { .. } => {}
    }
    list
}
