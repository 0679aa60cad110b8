//! What a query waits for before it is answered, so that nobody is shown less than it was told before.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{Offset, Position};
use shopstream_projections::Projection;
use shopstream_proto::r#type::v1 as wire;
use tokio::time::{Instant, timeout};

use super::Shop;
use crate::call::Call;
use crate::failure::Failure;
use crate::places::{Wait, waiting};
use crate::positions::min_positions;
use crate::recent::About;

/// How long a query waits for what its caller did not ask to see, but would miss.
const UNASKED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the log may take to say where a partition ends, before a query just waits for what it names.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How many ask the log for an end at once: some backends have a thread for each.
pub(super) const ENDS_ASKED: usize = 8;

impl Shop {
    /// Waits until a view has what the caller has seen.
    ///
    /// # Errors
    /// [`Failure::BeyondEnd`] at once for what the log has not got.
    pub(crate) async fn see(
        &self,
        call: &Call,
        projection: Projection,
        min_position: &[wire::Position],
    ) -> Result<(), Failure> {
        self.see_all(call, &[projection], min_position).await
    }

    /// As [`Shop::see`], of several views.
    pub(crate) async fn see_all(
        &self,
        call: &Call,
        views: &[Projection],
        min_position: &[wire::Position],
    ) -> Result<(), Failure> {
        let wanted = min_positions(min_position, self.live.log_name(), self.means.commands.partitions())?;
        if views.iter().all(|view| self.has(*view, &wanted)) {
            return Ok(());
        }
        self.check_reached(&wanted, |i| format!("min_position[{i}].offset")).await?;
        for view in views {
            self.wait_until(Wait::Named, call.answer_by(), *view, &wanted).await?;
        }
        Ok(())
    }

    /// Reads one thing: `read` answers what `views` have of it, and `stream` is one of those that it is made of.
    ///
    /// It is shown with everything that this node answered about it before. `None`: there was none when this was called,
    /// for the views have everything that the log held then.
    pub(crate) async fn find<T, F: Future<Output = Result<Option<T>, Failure>>>(
        &self,
        call: &Call,
        views: &[Projection],
        stream: &StreamId,
        min_position: &[wire::Position],
        read: impl Fn() -> F,
    ) -> Result<Option<T>, Failure> {
        let look = || self.find_once(call, views, stream, min_position, &read);
        self.reads().in_one_session(views, look).await
    }

    async fn find_once<T, F: Future<Output = Result<Option<T>, Failure>>>(
        &self,
        call: &Call,
        views: &[Projection],
        stream: &StreamId,
        min_position: &[wire::Position],
        read: &impl Fn() -> F,
    ) -> Result<Option<T>, Failure> {
        self.see_all(call, views, min_position).await?;
        let partition = stream.partition(self.means.commands.partitions());
        let own = self.recent.of(About::stream(stream), partition);
        self.see_unasked(call, views, own.as_slice()).await?;

        let progress = self.reads().progress();
        let seen = views.iter().map(|view| progress.next(*view, partition)).min().unwrap_or(0);
        if let Some(found) = call.read_within(read()).await? {
            return Ok(Some(found));
        }
        let confirmed = self.confirmed(Wait::Unasked, call, [partition]).await?;
        if confirmed.iter().all(|position| position.offset < seen) {
            return Ok(None);
        }
        self.see_unasked(call, views, &confirmed).await?;
        call.read_within(read()).await
    }

    /// The same of a list that is not of one stream: what this node answered about `what` is in it, and an empty one was
    /// empty when this was called.
    pub(crate) async fn list<T, F: Future<Output = Result<Vec<T>, Failure>>>(
        &self,
        call: &Call,
        view: Projection,
        what: About,
        min_position: &[wire::Position],
        read: impl Fn() -> F,
    ) -> Result<Vec<T>, Failure> {
        let look = || self.list_once(call, view, what, min_position, &read);
        self.reads().in_one_session(&[view], look).await
    }

    async fn list_once<T, F: Future<Output = Result<Vec<T>, Failure>>>(
        &self,
        call: &Call,
        view: Projection,
        what: About,
        min_position: &[wire::Position],
        read: &impl Fn() -> F,
    ) -> Result<Vec<T>, Failure> {
        self.see(call, view, min_position).await?;
        self.see_unasked(call, &[view], &self.recent.everywhere(what)).await?;
        let seen = self.reads().progress().watch(view).borrow().clone();
        let rows = call.read_within(read()).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        let partitions = 0..self.means.commands.partitions();
        let confirmed = self.confirmed(Wait::Unasked, call, partitions).await?;
        let is_seen = |position: &Position| {
            seen.get(usize::from(position.partition)).is_some_and(|next| *next > position.offset)
        };
        if confirmed.iter().all(is_seen) {
            return Ok(rows);
        }
        self.see_unasked(call, &[view], &confirmed).await?;
        call.read_within(read()).await
    }

    /// What `read` answers from `views` that have everything that was confirmed for this stream's partition when this was
    /// called, by whichever node.
    pub(crate) async fn up_to_date<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        call: &Call,
        views: &[Projection],
        stream: &StreamId,
        read: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let look = || async {
            for view in views {
                self.catch_up_on(call, *view, stream).await?;
            }
            call.read_within(read()).await
        };
        self.reads().in_one_session(views, look).await
    }

    /// Waits for what the caller has not named.
    pub(crate) async fn see_unasked(
        &self,
        call: &Call,
        views: &[Projection],
        positions: &[Position],
    ) -> Result<(), Failure> {
        let deadline = call.answer_by().min(Instant::now() + UNASKED_PATIENCE);
        for view in views {
            self.wait_until(Wait::Unasked, deadline, *view, positions).await?;
        }
        Ok(())
    }

    /// Whether a view has the records at all of these positions.
    fn has(&self, view: Projection, positions: &[Position]) -> bool {
        let progress = self.reads().progress();
        positions.iter().all(|position| progress.next(view, position.partition) > position.offset)
    }

    /// Refuses positions that the log has not reached; `field` names the one with this index. Where the log does not say
    /// in time how far it is, nothing is refused.
    pub(crate) async fn check_reached(
        &self,
        positions: &[Position],
        field: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let mut ends: BTreeMap<Partition, Option<Offset>> = BTreeMap::new();
        for (i, wanted) in positions.iter().enumerate() {
            if self.is_known(wanted) {
                continue;
            }
            let end = match ends.get(&wanted.partition) {
                Some(end) => *end,
                None => {
                    let end = self.end(wanted.partition).await;
                    ends.insert(wanted.partition, end);
                    end
                }
            };
            if let Some(end) = end.filter(|end| *end <= wanted.offset) {
                return Err(Failure::BeyondEnd { field: field(i), wanted: *wanted, end });
            }
        }
        Ok(())
    }

    /// As [`Shop::check_reached`], of offsets at which somebody wants to read on: the end itself is one.
    pub(crate) async fn check_begins(
        &self,
        begins: &[(Partition, Offset)],
        field: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let (mut fields, mut last) = (Vec::new(), Vec::new());
        for (i, (partition, next)) in begins.iter().enumerate() {
            if let Some(offset) = next.checked_sub(1) {
                fields.push(i);
                last.push(Position { partition: *partition, offset });
            }
        }
        let reached = self.check_reached(&last, |i| field(fields[i])).await;
        // As the caller named it.
        reached.map_err(|failure| match failure {
            Failure::BeyondEnd { field, wanted, end } => {
                let wanted = Position { offset: wanted.offset.saturating_add(1), ..wanted };
                Failure::BeyondEnd { field, wanted, end }
            }
            other => other,
        })
    }

    /// Whether this node knows that the log has this position: it has read so far, or written so far.
    fn is_known(&self, position: &Position) -> bool {
        self.live.next(position.partition) > position.offset
            || self.means.commands.written_here(position.partition) > position.offset
    }

    /// The end of a partition as the log has it: at or behind everything that anybody was ever told.
    async fn end(&self, partition: Partition) -> Option<Offset> {
        let asked = async {
            let _turn = self.ends.acquire().await.ok()?;
            self.means.log.end(partition).await.ok()
        };
        timeout(END_PATIENCE, asked).await.ok().flatten()
    }

    /// Waits until a view has everything that was confirmed when this is called, by whichever node: what it does not
    /// show afterwards did not happen before.
    pub(crate) async fn catch_up(&self, call: &Call, projection: Projection) -> Result<(), Failure> {
        let confirmed = self.confirmed(Wait::Command, call, 0..self.means.commands.partitions()).await?;
        self.wait_for(call, projection, &confirmed).await
    }

    /// As [`Shop::catch_up`], for what this stream's partition holds.
    pub(crate) async fn catch_up_on(
        &self,
        call: &Call,
        projection: Projection,
        stream: &StreamId,
    ) -> Result<(), Failure> {
        let partition = stream.partition(self.means.commands.partitions());
        let confirmed = self.confirmed(Wait::Command, call, [partition]).await?;
        self.wait_for(call, projection, &confirmed).await
    }

    async fn confirmed(
        &self,
        kind: Wait,
        call: &Call,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Vec<Position>, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        let confirmed = call.read_within(async { Ok(commands.confirmed(partitions).await?) });
        let mut confirmed = std::pin::pin!(confirmed);
        // What this node owns it knows at once.
        match futures::poll!(&mut confirmed) {
            Poll::Ready(known) => known,
            Poll::Pending => waiting(kind, call.answer_by(), confirmed).await,
        }
    }

    pub(crate) async fn wait_for(
        &self,
        call: &Call,
        projection: Projection,
        positions: &[Position],
    ) -> Result<(), Failure> {
        self.wait_until(Wait::Command, call.answer_by(), projection, positions).await
    }

    async fn wait_until(
        &self,
        kind: Wait,
        deadline: Instant,
        view: Projection,
        positions: &[Position],
    ) -> Result<(), Failure> {
        if self.has(view, positions) {
            return Ok(());
        }
        waiting(kind, deadline, async { Ok(self.reads().wait_for(view, positions, deadline).await?) }).await
    }
}
