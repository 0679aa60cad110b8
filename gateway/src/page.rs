//! Pages of a list (AIP-158).

use prost::Message;
use shopstream_domain::TenantId;
use shopstream_proto::{AskedPage, Paged};

use crate::failure::Failure;
use crate::token::Scope;

/// Rows of a page where the request leaves it open, and at most.
const ROWS: (u32, u32) = (50, 1_000);

/// A page that is asked for. `T` says of a row where it stands in the list.
pub(crate) struct Page<T> {
    /// The last row of the page before; `None`: from the beginning.
    pub(crate) after: Option<T>,
    scope: Scope,
    size: u32,
}

impl<T: Message + Default> Page<T> {
    /// The page that `request` to `method` asks for; its fields that may change from page to page are cleared, or
    /// taken here. Validation has seen that the size is not negative.
    ///
    /// # Errors
    /// See [`Scope::open`].
    pub(crate) fn asked(method: &str, tenant: &TenantId, request: &mut impl Paged) -> Result<Self, Failure> {
        let AskedPage { size, token } = request.take_page();
        Self::of(size, &token, Scope::new(method, "page_token", tenant, request))
    }

    fn of(size: i32, token: &str, scope: Scope) -> Result<Self, Failure> {
        let after = if token.is_empty() { None } else { Some(scope.open(token)?) };
        let size = match size.unsigned_abs() {
            0 => ROWS.0,
            some => some.min(ROWS.1),
        };
        Ok(Self { after, scope, size })
    }

    /// How many rows to look for. One more than the page has tells whether there is another.
    pub(crate) const fn look(&self) -> u32 {
        self.size + 1
    }

    /// Leaves in `rows` what is of this page; answers the token of the next one, which is empty where there is none.
    pub(crate) fn cut<R>(&self, rows: &mut Vec<R>, stands: impl Fn(&R) -> T) -> String {
        let more = rows.len() > self.size as usize;
        rows.truncate(self.size as usize);
        match rows.last() {
            Some(last) if more => self.scope.seal(&stands(last)),
            Some(_) | None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use shopstream_proto::order::v1::GetUserOrdersRequest;

    use super::*;

    fn page(size: i32, token: &str) -> Page<u32> {
        let scope = Scope::new("List", "page_token", &TenantId::default_tenant(), &());
        Page::of(size, token, scope).expect("a token of ours")
    }

    #[test]
    fn a_page_has_fifty_rows_unless_asked_and_a_thousand_at_most() {
        let looks = [0, 1, 1_000, 1_001, i32::MAX].map(|size| page(size, "").look());
        assert_eq!(looks, [51, 2, 1_001, 1_001, 1_001]);
    }

    #[test]
    fn pages_follow_each_other_until_there_is_no_more() {
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = page(3, &token);
            let from = page.after.map_or(0, |last| last + 1);
            let mut rows: Vec<u32> = (from..6).take(page.look() as usize).collect();
            token = page.cut(&mut rows, |row| *row);
            seen.push(rows);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, [[0, 1, 2], [3, 4, 5]]);
    }

    #[test]
    fn a_token_is_for_pages_of_any_size_of_its_own_list() {
        let asked = |customer: &str, page_size, page_token: &str| {
            let (customer_id, page_token) = (customer.to_owned(), page_token.to_owned());
            let mut request =
                GetUserOrdersRequest { customer_id, page_size, page_token, ..Default::default() };
            Page::<u32>::asked("GetUserOrders", &TenantId::default_tenant(), &mut request)
        };
        let token = asked("c1", 2, "").expect("no token").cut(&mut vec![1, 2, 3], |row| *row);
        let next = asked("c1", 7, &token).expect("its own list");
        assert_eq!((next.after, next.look()), (Some(2), 8));
        assert!(asked("c2", 7, &token).is_err(), "another list");
    }
}
